"""Session: one connection's life as a state machine. Pure, clock injected.

connecting → subscribing → live → closed. A subscription that is not acknowledged in time, and a
socket that says nothing for too long, end the session: whoever runs it closes the socket.
A live session follows the pairs that are wanted: it subscribes the new ones and, like at first,
waits for every acknowledgement; one request at a time, so that each answer has one meaning.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from .venue import Decoded, Venue

_NS = 1_000_000_000
OPEN_TIMEOUT_S = 10.0
ACK_TIMEOUT_S = 10.0
CHANGE_EVERY_S = 1.0
"""Pace of requests: Binance ends a connection after five messages a second, Kraken after fewer."""
SILENCE_S = 60.0
"""How long a venue without a ping of its own may say nothing; with one: three of its intervals."""


class Stage(Enum):
    """Where a session stands."""

    CONNECTING = "connecting"
    SUBSCRIBING = "subscribing"
    LIVE = "live"
    CLOSED = "closed"


class Session:
    """One connection to one endpoint of a venue."""

    def __init__(self, venue: Venue, url: str, now_ns: int) -> None:
        self.url = url
        self.stage = Stage.CONNECTING
        self.opened_ns = now_ns
        self.closing = False
        """Whether the venue has announced that it will end this connection."""
        self.venue = venue
        self._stage_ns = now_ns
        self._heard_ns = now_ns
        self._pinged_ns = now_ns
        self._changed_ns = now_ns
        self._subscribed: set[str] = set()
        self._unacknowledged: set[str] = set()
        self._refusal: str | None = None
        self._abandoned: set[str] = set()
        """Pairs that were asked for in vain, and may be acknowledged yet."""

    def open(self, pairs: Collection[str], now_ns: int) -> list[str]:
        """Note that the socket is open; return the frames to send."""
        self._enter(Stage.SUBSCRIBING, now_ns)
        self._heard_ns = self._pinged_ns = self._changed_ns = now_ns
        self._unacknowledged = set(pairs)
        return list(self.venue.subscribe_frames(list(pairs)))

    def hear(self, decoded: Decoded, now_ns: int) -> None:
        """Note a frame."""
        self._heard_ns = now_ns
        if decoded.closing:
            self.closing = True
        if decoded.acknowledged:
            self._acknowledge(decoded.acknowledged)
            if self.stage is Stage.SUBSCRIBING and not self._unacknowledged:
                self._enter(Stage.LIVE, now_ns)
                # Said before, it was about the venue as we found it: another line is told the same.
                self.closing = False

    def is_subscribed(self, pairs: Collection[str]) -> bool:
        """Tell whether every one of `pairs` has been acknowledged."""
        return self._subscribed.issuperset(pairs)

    @property
    def asked(self) -> set[str]:
        """The pairs that were asked for and not acknowledged."""
        return self._unacknowledged | self._abandoned

    def refuse(self, pairs: Collection[str], reason: str) -> None:
        """Note that one of `pairs` was refused: none of them is waited for any more.

        A session that is not live yet ends, since nobody knows what else went with the refusal.
        """
        if self.stage is not Stage.LIVE:
            self._refusal = reason
        self._abandoned.update(self._unacknowledged.intersection(pairs))
        self._unacknowledged.difference_update(pairs)

    def condemn(self, reason: str) -> None:
        """Note that the venue complains about this connection: it ends."""
        self._refusal = reason

    def follow(self, pairs: Collection[str], now_ns: int) -> list[str]:
        """Return the frames that bring a live session to `pairs`; [] while it may send none."""
        if not self.is_behind(pairs) or now_ns < self.change_due_ns:
            return []
        gone = sorted(self._subscribed.difference(pairs))
        fresh = [pair for pair in pairs if pair not in self._subscribed]
        self._subscribed.difference_update(gone)
        self._abandoned.difference_update(fresh)
        self._unacknowledged = set(fresh)
        self._changed_ns = now_ns
        frames = list(self.venue.unsubscribe_frames(gone)) if gone else []
        return frames + (list(self.venue.subscribe_frames(fresh)) if fresh else [])

    def is_behind(self, pairs: Collection[str]) -> bool:
        """Tell whether a live session has yet to ask for a change."""
        settled = self.stage is Stage.LIVE and not self._unacknowledged
        return settled and self._subscribed != set(pairs)

    @property
    def change_due_ns(self) -> int:
        """When the next change may be asked for."""
        return self._changed_ns + int(CHANGE_EVERY_S * _NS)

    def close(self, now_ns: int) -> None:
        """Note that the socket is gone."""
        self._enter(Stage.CLOSED, now_ns)

    def due_ping(self, now_ns: int) -> str | None:
        """Return the venue's ping when it is due."""
        every_ns = int(self.venue.ping_every_s * _NS)
        if self.stage is not Stage.LIVE or not every_ns:
            return None
        if now_ns - max(self._pinged_ns, self._heard_ns) < every_ns:
            return None
        self._pinged_ns = now_ns
        return self.venue.ping_frame()

    def fault(self, now_ns: int) -> str | None:
        """Return why the socket must be closed now, or None."""
        if self._refusal is not None:
            return self._refusal
        if now_ns < self.deadline_ns():
            return None
        if self.stage is Stage.CONNECTING:
            return f"not open after {OPEN_TIMEOUT_S:.0f} s"
        if self._unacknowledged and now_ns >= self._ack_deadline_ns:
            missing = ", ".join(sorted(self._unacknowledged))
            return f"no acknowledgement of {missing} after {ACK_TIMEOUT_S:.0f} s"
        return f"silent for {(now_ns - self._heard_ns) / _NS:.0f} s"

    def deadline_ns(self) -> int:
        """Return when the stage it is in has taken too long."""
        if self._refusal is not None:
            return self._stage_ns
        if self.stage is Stage.CONNECTING:
            return self._stage_ns + int(OPEN_TIMEOUT_S * _NS)
        if self.stage is Stage.SUBSCRIBING:
            return self._ack_deadline_ns
        silence_s = 3 * self.venue.ping_every_s or SILENCE_S
        silent_ns = self._heard_ns + int(silence_s * _NS)
        return min(silent_ns, self._ack_deadline_ns) if self._unacknowledged else silent_ns

    @property
    def _ack_deadline_ns(self) -> int:
        return self._changed_ns + int(ACK_TIMEOUT_S * _NS)

    def _acknowledge(self, pairs: Collection[str]) -> None:
        for pair in pairs:
            if pair in self._unacknowledged or pair in self._abandoned:
                self._unacknowledged.discard(pair)
                self._abandoned.discard(pair)
                self._subscribed.add(pair)

    def _enter(self, stage: Stage, now_ns: int) -> None:
        self.stage = stage
        self._stage_ns = now_ns
