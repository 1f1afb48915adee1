"""Id gaps: an exchange numbers a symbol's trades without holes, so a hole proves a loss.

The one definition of a gap, for a stream that is watched (`IdGapTracker`) and for a stored set of
ids (`find_missing_ids`). After the same ids, in any order, both name the same gaps.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

MOST_OPEN_RANGES = 1_024
"""Open ranges that a tracker remembers; beyond, it gives up the oldest, and says so."""


class IdRange(NamedTuple):
    """Ids from `first` to `last`, both included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """How many ids it spans."""
        return self.last - self.first + 1


class IdStep(NamedTuple):
    """What one id changed: a gap it opened, gaps it closed, gaps given up for lack of room."""

    opened: IdRange | None = None
    filled: IdRange | None = None
    abandoned: IdRange | None = None


_NOTHING = IdStep()


def find_missing_ids(ids: Iterable[int]) -> list[IdRange]:
    """Return the ranges missing between the lowest and the highest id, ascending.

    Repeats and order do not matter. Takes memory for all distinct ids.
    """
    ordered = sorted(set(ids))
    return [
        IdRange(before + 1, after - 1) for before, after in pairwise(ordered) if after - before > 1
    ]


class IdGapTracker:
    """Watches the ids of one (exchange, symbol) in the order in which they arrive.

    Repeats change nothing. A late id, backfilled over REST or merely overtaken, is taken out of the
    gap that was opened for it. Memory is bounded by `MOST_OPEN_RANGES`.
    """

    __slots__ = ("_firsts", "_lasts", "_origins", "highest", "lowest")

    def __init__(self) -> None:
        self.lowest: int | None = None
        self.highest: int | None = None
        # Open ranges, ascending and disjoint, each with the gap that it is left of.
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._origins: list[IdRange] = []

    @property
    def missing(self) -> list[IdRange]:
        """The ranges that are missing now, ascending."""
        return list(map(IdRange, self._firsts, self._lasts))

    def observe(self, trade_id: int) -> IdStep:
        """Take the next id and return what it changed."""
        if self.highest is None or self.lowest is None:
            self.lowest = self.highest = trade_id
            return _NOTHING
        if trade_id == self.highest + 1:
            self.highest = trade_id
            return _NOTHING
        if trade_id > self.highest:
            gap, self.highest = IdRange(self.highest + 1, trade_id - 1), trade_id
            return self._open(len(self._firsts), gap)
        if trade_id < self.lowest:
            gap, self.lowest = IdRange(trade_id + 1, self.lowest - 1), trade_id
            return self._open(0, gap) if gap.size else _NOTHING
        return self._take(trade_id)

    def dump(self) -> dict[str, object]:
        """Return the state in JSON types."""
        ranges = zip(self._firsts, self._lasts, self._origins, strict=True)
        return {
            "lowest": self.lowest,
            "highest": self.highest,
            "ranges": [[first, last, *origin] for first, last, origin in ranges],
        }

    @classmethod
    def restore(
        cls, lowest: int | None, highest: int | None, ranges: Sequence[Sequence[int]]
    ) -> IdGapTracker:
        """Return a tracker that goes on from what `dump` returned."""
        tracker = cls()
        tracker.lowest, tracker.highest = lowest, highest
        for first, last, origin_first, origin_last in ranges:
            tracker._insert(len(tracker._firsts), first, last, IdRange(origin_first, origin_last))
        return tracker

    def _open(self, place: int, gap: IdRange) -> IdStep:
        self._insert(place, *gap, gap)
        return IdStep(opened=gap, abandoned=self._make_room(gap))

    def _take(self, trade_id: int) -> IdStep:
        """Take a late id out of the range that it is missing from, if it is."""
        place = bisect_right(self._firsts, trade_id) - 1
        if place < 0 or trade_id > self._lasts[place]:
            return _NOTHING
        first, last, origin = self._firsts[place], self._lasts[place], self._origins[place]
        self._delete(place)
        if trade_id < last:
            self._insert(place, trade_id + 1, last, origin)
        if first < trade_id:
            self._insert(place, first, trade_id - 1, origin)
        beside = self._origins[max(0, place - 1) : place + 2]
        filled = None if origin in beside else origin
        return IdStep(filled=filled, abandoned=self._make_room(origin))

    def _make_room(self, current: IdRange) -> IdRange | None:
        """Give up the gap with the lowest ids that is not being worked on, when there are many."""
        if len(self._firsts) <= MOST_OPEN_RANGES:
            return None
        # What is left of one gap lies side by side, so that its end is where its own last id is.
        place = 0
        if self._origins[0] == current:
            place = bisect_right(self._firsts, current.last) % len(self._firsts)
        given_up = self._origins[place]
        end = bisect_right(self._firsts, given_up.last)
        del self._firsts[place:end], self._lasts[place:end], self._origins[place:end]
        return given_up

    def _insert(self, place: int, first: int, last: int, origin: IdRange) -> None:
        self._firsts.insert(place, first)
        self._lasts.insert(place, last)
        self._origins.insert(place, origin)

    def _delete(self, place: int) -> None:
        del self._firsts[place], self._lasts[place], self._origins[place]
