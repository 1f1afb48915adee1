"""Session: one connection's life as a state machine. Pure, clock injected.

connecting → subscribing → live → closed. A subscription that is not acknowledged in time, and a
socket that says nothing for too long, end the session: whoever runs it closes the socket.
"""

from __future__ import annotations

from enum import Enum

from .venue import Decoded, Venue

_NS = 1_000_000_000
OPEN_TIMEOUT_S = 10.0
ACK_TIMEOUT_S = 10.0
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
        self._venue = venue
        self._stage_ns = now_ns
        self._heard_ns = now_ns
        self._pinged_ns = now_ns
        self._unacknowledged = {instrument.pair for instrument in venue.instruments}

    def open(self, now_ns: int) -> list[str]:
        """Note that the socket is open; return the frames to send."""
        self._enter(Stage.SUBSCRIBING, now_ns)
        self._heard_ns = self._pinged_ns = now_ns
        return list(self._venue.subscribe_frames())

    def hear(self, decoded: Decoded, now_ns: int) -> None:
        """Note a frame."""
        self._heard_ns = now_ns
        if decoded.closing:
            self.closing = True
        if self.stage is Stage.SUBSCRIBING:
            self._unacknowledged.difference_update(decoded.acknowledged)
            if not self._unacknowledged:
                self._enter(Stage.LIVE, now_ns)

    def close(self, now_ns: int) -> None:
        """Note that the socket is gone."""
        self._enter(Stage.CLOSED, now_ns)

    def due_ping(self, now_ns: int) -> str | None:
        """Return the venue's ping when it is due."""
        every_ns = int(self._venue.ping_every_s * _NS)
        if self.stage is not Stage.LIVE or not every_ns:
            return None
        if now_ns - max(self._pinged_ns, self._heard_ns) < every_ns:
            return None
        self._pinged_ns = now_ns
        return self._venue.ping_frame()

    def fault(self, now_ns: int) -> str | None:
        """Return why the socket must be closed now, or None."""
        if now_ns < self.deadline_ns():
            return None
        match self.stage:
            case Stage.CONNECTING:
                return f"not open after {OPEN_TIMEOUT_S:.0f} s"
            case Stage.SUBSCRIBING:
                missing = ", ".join(sorted(self._unacknowledged))
                return f"no acknowledgement of {missing} after {ACK_TIMEOUT_S:.0f} s"
            case _:
                return f"silent for {(now_ns - self._heard_ns) / _NS:.0f} s"

    def deadline_ns(self) -> int:
        """Return when the stage it is in has taken too long."""
        match self.stage:
            case Stage.CONNECTING:
                return self._stage_ns + int(OPEN_TIMEOUT_S * _NS)
            case Stage.SUBSCRIBING:
                return self._stage_ns + int(ACK_TIMEOUT_S * _NS)
            case _:
                silence_s = 3 * self._venue.ping_every_s or SILENCE_S
                return self._heard_ns + int(silence_s * _NS)

    def _enter(self, stage: Stage, now_ns: int) -> None:
        self.stage = stage
        self._stage_ns = now_ns
