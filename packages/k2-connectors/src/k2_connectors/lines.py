"""Lines: the sockets of one venue, and the one owner of when they open and close. Pure.

Backoff is exponential with a cap and full jitter, and every attempt takes a token, so that two
reasons to reconnect never open two sockets a second. A line that failed is tried at the venue's
next endpoint. A line that grows old, or whose venue announces the end, is replaced before it is
closed: its successor must be live first. Every line follows the pairs in force: what changes in
them is asked for on the live lines, and a new line asks for all.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

from .session import Session, Stage
from .venue import Decoded, Venue

_NS = 1_000_000_000
FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 30.0
STEADY_S = 30.0
"""A line that has been live this long has recovered: the next failure counts as the first."""
BORNE_S = 600.0
"""How long a venue may refuse what it has acknowledged before."""
ROTATE_AFTER_S = (20 * 3600.0, 23 * 3600.0)
"""Binance ends every connection after 24 hours; jitter keeps many feeds from moving at once."""
TOKENS = 10
TOKENS_PER_S = 0.2
"""Connection attempts: ten at once, then one every five seconds (Kraken bans at 150 in 10 min)."""


@dataclass(frozen=True, slots=True)
class Open:
    """Open a socket."""

    line: int
    url: str


@dataclass(frozen=True, slots=True)
class Send:
    """Send a text frame."""

    line: int
    frame: str


@dataclass(frozen=True, slots=True)
class Close:
    """Close a socket; frames already received are still read."""

    line: int
    reason: str


Action = Open | Send | Close


class Lines:
    """Keeps `wanted` live lines to a venue; two of them are redundant, merged by id upstream."""

    def __init__(
        self, venue: Venue, now_ns: int, *, wanted: int = 1, seed: int | None = None
    ) -> None:
        self.pairs = [instrument.pair for instrument in venue.instruments]
        """The pairs in force."""
        self._venue = venue
        self._wanted = wanted
        self._random = random.Random(seed)  # noqa: S311  # jitter, no secret
        self._sessions: dict[int, Session] = {}
        self._rotate_ns: dict[int, int] = {}
        self._retiring: set[int] = set()
        self._acknowledged: set[str] = set()
        """Pairs in force that the venue has acknowledged, on whichever line."""
        self._refused_ns: int | None = None
        """When it first refused one of them, if no line has become live since."""
        self._next_line = 0
        self._next_url = 0
        self._failures = 0
        self._not_before_ns = now_ns
        self._tokens = float(TOKENS)
        self._tokens_ns = now_ns
        self.reconnects = 0
        self.rotations = 0

    @property
    def live(self) -> int:
        """How many lines are live."""
        sessions = list(self._sessions.values())
        return sum(session.stage is Stage.LIVE for session in sessions)

    def take_venue(self, venue: Venue) -> None:
        """Speak through a venue that knows more instruments from now on."""
        self._venue = venue
        for session in self._sessions.values():
            session.venue = venue

    def are_subscribed(self, pairs: Collection[str]) -> bool:
        """Tell whether every live line, and there is one, has `pairs` acknowledged."""
        live = [s for s in self._sessions.values() if s.stage is Stage.LIVE]
        return bool(live) and all(session.is_subscribed(pairs) for session in live)

    def asked(self, line: int) -> set[str]:
        """Return the pairs that a line asked for and that were not acknowledged."""
        session = self._sessions.get(line)
        return set() if session is None else session.asked

    def bears(self, pairs: Collection[str], now_ns: int) -> bool:
        """Tell whether a refusal of `pairs` is to be borne: all were acknowledged once.

        It may be the maintenance of a market. After ten minutes without a line that became live it
        is borne no more.
        """
        if not self._acknowledged.issuperset(pairs):
            return False
        if self._refused_ns is None:
            self._refused_ns = now_ns
        return now_ns - self._refused_ns < BORNE_S * _NS

    def leave(self, pair: str) -> None:
        """Put a pair out of force; if it is taken up again, it is as new."""
        self.pairs.remove(pair)
        self._acknowledged.discard(pair)

    def condemn(self, line: int, reason: str) -> None:
        """Note that the venue complains about a line: it is closed, and another takes its place."""
        session = self._sessions.get(line)
        if session is not None:
            session.condemn(reason)

    def refuse(self, pairs: Collection[str], reason: str) -> None:
        """Note that one of `pairs`, which are no longer in force, was refused."""
        for session in self._sessions.values():
            if session.asked.intersection(pairs):
                session.refuse(pairs, reason)

    def act(self, now_ns: int) -> list[Action]:
        """Return what to do now: close what is at fault, ping, follow, replace, connect."""
        actions: list[Action] = []
        for line, session in list(self._sessions.items()):
            reason = session.fault(now_ns)
            if reason is not None:
                actions.append(Close(line, reason))
                self.close(line, now_ns)
                continue
            ping = session.due_ping(now_ns)
            if ping is not None:
                actions.append(Send(line, ping))
            actions += [Send(line, frame) for frame in session.follow(self.pairs, now_ns)]
        actions += self._retire(now_ns)
        while self._may_open(now_ns):
            actions.append(self._open(now_ns))
        return actions

    def open(self, line: int, now_ns: int) -> list[Action]:
        """Note that a socket is open; return what to send over it."""
        session = self._sessions.get(line)
        return (
            []
            if session is None
            else [Send(line, frame) for frame in session.open(self.pairs, now_ns)]
        )

    def hear(self, line: int, decoded: Decoded, now_ns: int) -> bool:
        """Note a frame; tell whether it made its line live."""
        session = self._sessions.get(line)
        if session is None:
            return False
        was_live = session.stage is Stage.LIVE
        session.hear(decoded, now_ns)
        if decoded.acknowledged:
            self._acknowledged.update(set(decoded.acknowledged).intersection(self.pairs))
        became_live = session.stage is Stage.LIVE and not was_live
        if became_live:
            self._refused_ns = None
            low, high = ROTATE_AFTER_S
            self._rotate_ns[line] = now_ns + int(self._random.uniform(low, high) * _NS)
        return became_live

    def close(self, line: int, now_ns: int) -> None:
        """Note that a socket is gone, whoever ended it."""
        session = self._sessions.pop(line, None)
        if session is None:
            return
        was_live = session.stage is Stage.LIVE
        self._rotate_ns.pop(line, None)
        if line in self._retiring:
            self._retiring.discard(line)
            return
        if not self._wanted:
            return
        steady = was_live and now_ns - session.opened_ns >= STEADY_S * _NS
        self._failures = 1 if steady else self._failures + 1
        self._next_url += 1
        self.reconnects += 1
        self._not_before_ns = now_ns + int(self._delay_s() * _NS)

    def drain(self) -> list[Action]:
        """Close every line and open no more."""
        self._wanted = 0
        return [Close(line, "draining") for line in self._sessions]

    def retire_all(self) -> None:
        """Replace every line: each is closed once its successor is live."""
        for line, session in self._sessions.items():
            if session.stage is Stage.LIVE and line not in self._retiring:
                self._retiring.add(line)
                self.rotations += 1

    def deadline_ns(self, now_ns: int) -> int:
        """Return when `act` may have something new to do."""
        deadlines = [session.deadline_ns() for session in self._sessions.values()]
        deadlines += self._rotate_ns.values()
        behind = [s for s in self._sessions.values() if s.is_behind(self.pairs)]
        deadlines += [session.change_due_ns for session in behind]
        if self._venue.ping_every_s:
            deadlines.append(now_ns + int(self._venue.ping_every_s * _NS))
        if len(self._sessions) - len(self._retiring) < self._wanted:
            deadlines.append(max(self._not_before_ns, self._token_ns(now_ns)))
        return max(now_ns, min(deadlines, default=now_ns + _NS))

    def _retire(self, now_ns: int) -> list[Action]:
        for line, due_ns in self._rotate_ns.items():
            if line not in self._retiring and (now_ns >= due_ns or self._sessions[line].closing):
                self._retiring.add(line)
                self.rotations += 1
        current = [s for line, s in self._sessions.items() if line not in self._retiring]
        if sum(session.stage is Stage.LIVE for session in current) < self._wanted:
            return []
        closed = [Close(line, "replaced") for line in sorted(self._retiring)]
        for action in closed:
            self.close(action.line, now_ns)
        return list(closed)

    def _may_open(self, now_ns: int) -> bool:
        current = len(self._sessions) - len(self._retiring)
        if current >= self._wanted or now_ns < self._not_before_ns:
            return False
        elapsed_s = (now_ns - self._tokens_ns) / _NS
        self._tokens = min(TOKENS, self._tokens + elapsed_s * TOKENS_PER_S)
        self._tokens_ns = now_ns
        return self._tokens >= 1

    def _open(self, now_ns: int) -> Open:
        self._tokens -= 1
        line, url = self._next_line, self._choose_url()
        self._next_line += 1
        self._sessions[line] = Session(self._venue, url, now_ns)
        return Open(line, url)

    def _choose_url(self) -> str:
        """Return the next endpoint, if there is one that no other line stands at."""
        urls = self._venue.urls
        in_turn = [urls[(self._next_url + step) % len(urls)] for step in range(len(urls))]
        taken = {s.url for line, s in self._sessions.items() if line not in self._retiring}
        return next((url for url in in_turn if url not in taken), in_turn[0])

    def _delay_s(self) -> float:
        longest = FIRST_DELAY_S * 2 ** min(self._failures, 10)
        return self._random.uniform(0, min(LONGEST_DELAY_S, longest))

    def _token_ns(self, now_ns: int) -> int:
        if self._tokens >= 1:
            return now_ns
        return self._tokens_ns + int((1 - self._tokens) / TOKENS_PER_S * _NS) + 1
