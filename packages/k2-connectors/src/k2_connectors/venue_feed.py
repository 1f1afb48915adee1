"""VenueFeed: one venue's whole feed without sockets: lines, continuity, dead letters. Pure.

Whoever runs it gives it what happened and the time, does the actions it returns, and passes on
the events. `feed` does so with asyncio; the tests do so with a clock that jumps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from k2_schemas import Trade

from .backfill import MAX_BACKFILL_TRADES
from .checkpoint import Position
from .continuity import Continuity, Outcome
from .event import Gap, Status
from .lines import Action, Lines
from .rest import Hole, RestRequest, RestResponse
from .venue import Venue


class DeadLetter(NamedTuple):
    """A frame, as it came, that could not become trades in full.

    `ids` are (pair, id) of the trades that it holds instead of being trades.
    """

    frame: bytes
    venue: str
    reason: str
    recv_ns: int
    ids: tuple[tuple[str, int], ...] = ()


class Fetch(NamedTuple):
    """Send a REST request; the answer goes to `answer`, no answer to `fail`."""

    request: RestRequest


Event = Trade | Gap | Status | DeadLetter


class VenueFeed:
    """One venue. Times called `now_ns` are of a monotonic clock, `recv_ns` of the wall clock.

    With `contiguity=False` trades pass as they come: for recordings, whose ids repeat and jump, and
    for venues that do not number their trades.
    """

    def __init__(
        self,
        venue: Venue,
        now_ns: int,
        positions: Mapping[str, Position] | None = None,
        *,
        lines: int = 1,
        contiguity: bool = True,
        backfill: bool = True,
        max_backfill_trades: int = MAX_BACKFILL_TRADES,
        seed: int | None = None,
    ) -> None:
        self.venue = venue
        self.lines = Lines(venue, now_ns, wanted=lines, seed=seed)
        self.continuity = Continuity(
            venue, now_ns, positions, backfill=backfill, max_backfill_trades=max_backfill_trades
        )
        self._contiguity = contiguity
        self.frames = 0
        self.trades = 0
        self.dead_letters = 0
        self.control: Counter[str] = Counter()
        self.heard_ns = now_ns
        """When the last frame came, by the monotonic clock."""
        self.lag_us = 0
        """How long after its match the last live trade came, by both clocks."""

    def act(self, now_ns: int) -> list[Action | Fetch]:
        """Return what to do now."""
        actions: list[Action | Fetch] = list(self.lines.act(now_ns))
        request = self.continuity.next_request(now_ns)
        if request is not None:
            actions.append(Fetch(request))
        return actions

    def tick(self, now_ns: int) -> list[Event]:
        """Let time pass."""
        return self._pass_on(self.continuity.tick(now_ns)) if self._contiguity else []

    def open(self, line: int, now_ns: int) -> list[Action]:
        """Note that a socket is open; return what to send over it."""
        return self.lines.open(line, now_ns)

    def hear(self, line: int, frame: bytes, recv_ns: int, now_ns: int) -> list[Event]:
        """Take a frame; raises `SubscriptionRejectedError` when the venue refuses a symbol."""
        self.frames += 1
        self.heard_ns = now_ns
        decoded = self.venue.decode(frame, recv_ns // 1000)
        events: list[Event] = []
        if self.lines.hear(line, decoded, now_ns):
            if self._contiguity:
                self.continuity.note_live(now_ns)
            events.append(Status(self.venue.name, "live"))
        if decoded.trades:
            self.lag_us = recv_ns // 1000 - decoded.trades[-1].timestamp_us
            passed = (
                self.continuity.accept(decoded.trades, now_ns)
                if self._contiguity
                else list(decoded.trades)
            )
            self.trades += len(passed)
            events += passed
        if decoded.rejections:
            self.dead_letters += 1
            reason = "; ".join(decoded.rejections)
            dead_ids = tuple(decoded.dead_ids)
            events.append(DeadLetter(frame, self.venue.name, reason, recv_ns, dead_ids))
            if self._contiguity:
                for pair, trade_id in dead_ids:
                    events += self.continuity.accept_dead(pair, trade_id, now_ns)
        elif decoded.control:
            self.control[decoded.control] += 1
        return events

    def close(self, line: int, reason: str, now_ns: int) -> list[Event]:
        """Note that a socket is gone."""
        self.lines.close(line, now_ns)
        return [Status(self.venue.name, "lost", reason)]

    def answer(
        self, request: RestRequest, response: RestResponse, recv_ns: int, now_ns: int
    ) -> list[Event]:
        """Take the answer of the REST request under way."""
        pair = request.hole.pair
        outcome = self.continuity.receive(request, response, recv_ns // 1000, now_ns)
        if self.continuity.take_deaf():
            self.lines.retire_all()
        letters = [
            DeadLetter(row.raw, self.venue.name, row.reason, recv_ns, ((pair, row.trade_id),))
            for row in outcome.dead
        ]
        self.dead_letters += len(letters)
        return [*self._pass_on(outcome), *letters]

    def fail(self, now_ns: int) -> None:
        """Note that the REST request under way got no answer."""
        self.continuity.fail_request(now_ns)

    def drain(self) -> list[Action]:
        """Begin to end: return what closes every line."""
        return self.lines.drain()

    def finish(self) -> list[Event]:
        """Let go what is still held, with the sockets closed: its holes wait for the next start."""
        return self._pass_on(self.continuity.finish())

    def note_lost(self, hole: Hole) -> None:
        """Note that trades passed on were dropped behind us: they are fetched again."""
        self.continuity.note_lost(hole)

    def deadline_ns(self, now_ns: int) -> int:
        """Return when `tick` and `act` are next to be called, at the latest."""
        deadlines = [self.lines.deadline_ns(now_ns), self.continuity.deadline_ns(now_ns)]
        return max(now_ns, min(deadline for deadline in deadlines if deadline is not None))

    def _pass_on(self, outcome: Outcome) -> list[Event]:
        self.trades += len(outcome.trades)
        return [*outcome.trades, *outcome.gaps]
