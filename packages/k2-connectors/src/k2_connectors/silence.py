"""Silence: when a pair has been quiet for longer than it usually is. Pure, clock injected.

A connection can be well and one of its streams dead, and a frame that was lost as the last of a
pair leaves no hole to see. So a pair that is silent for long, by its own measure, is asked about.
"""

from __future__ import annotations

_NS = 1_000_000_000
SHORTEST_S = 10.0
LONGEST_S = 600.0
TIMES_USUAL = 20
"""How many of its mean intervals a pair may be silent before it is asked about."""
AFTER_LIVE_S = 1.0
"""How long after a connection became live a pair may be silent before it is asked about."""
FINDS_OF_THE_DEAF = 2
"""Looks in a row that brought trades the socket did not: then the stream is dead."""

_KEPT = 15 / 16
"""How much of the mean interval stays when a trade comes."""


class Silence:
    """One pair's trades in time."""

    def __init__(self, now_ns: int) -> None:
        self._due_ns: int | None = now_ns + int(SHORTEST_S * _NS)
        self.looks = 0
        """How often it was asked since the last live trade."""
        self._heard_ns = now_ns
        self._mean_ns = SHORTEST_S * _NS / TIMES_USUAL
        self._finds = 0

    @property
    def due_ns(self) -> int:
        """When REST is to be asked what the pair has done."""
        # Trades come more often than anybody asks.
        if self._due_ns is None:
            return self._heard_ns + int(self._patience_s() * _NS)
        return self._due_ns

    @property
    def is_deaf(self) -> bool:
        """Whether trades are there that the socket does not bring."""
        return self._finds >= FINDS_OF_THE_DEAF

    def hear(self, now_ns: int, count: int = 1) -> None:
        """Note live trades that came together."""
        interval_ns = (now_ns - self._heard_ns) / count
        self._mean_ns = interval_ns + (self._mean_ns - interval_ns) * _KEPT**count
        self._heard_ns = now_ns
        self.looks = self._finds = 0
        self._due_ns = None

    def note_live(self, now_ns: int) -> None:
        """Note that a connection became live: what was missed before it shows no hole.

        What the first look brings may be from before, and says nothing about the connection.
        """
        self.looks, self._finds = 0, -1
        self._due_ns = now_ns + int(AFTER_LIVE_S * _NS)

    def look(self, now_ns: int) -> None:
        """Note that REST is being asked; the next time is later, should there be nothing."""
        self.looks += 1
        if self.looks > 1:
            self._finds = max(0, self._finds)
        longer_s = self._patience_s() * 2 ** min(self.looks, 10)
        self._due_ns = now_ns + int(min(LONGEST_S, longer_s) * _NS)

    def find(self) -> None:
        """Note that the look brought trades."""
        self._finds += 1

    def forgive(self) -> None:
        """Begin to count anew: the connection is being replaced."""
        self._finds = 0

    def _patience_s(self) -> float:
        return min(LONGEST_S, max(SHORTEST_S, TIMES_USUAL * self._mean_ns / _NS))
