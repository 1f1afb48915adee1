"""Sequencer: owns the contiguity of one pair's trade ids. Pure, no clock of its own.

Binance, Kraken v2 and Coinbase number the trades of a pair without holes, so a missing id is a
proof of loss and a known id a proof of repetition. Known ids are dropped; early ones are held for
a moment, because two sockets or a reordering network may bring the missing ones right behind;
then what is held goes on and the missing ids are named, to be fetched.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from msgspec import structs

from k2_schemas import Trade

from .errors import IdsRestartedError
from .event import BACKFILL, LATE, ORIGIN
from .rest import Hole

HOLD_NS = 250_000_000
MAX_HELD = 10_000
MOST_BEHIND = 20
_SURELY_LATER_US = 1_000_000
_BLUR = 100_000
LEAP = 10_000_000
"""A lone id that far ahead is a venue's mistake: it passes, and nothing before it is missing."""


class Sequencer:
    """The ids of one pair, from `next_id` on; None begins with the first trades that come.

    `last_us` is the match time of the newest trade before `next_id` whose time is known: dead ones
    and gaps have none. Whatever is returned is in ascending order, each id once.
    """

    def __init__(
        self,
        pair: str,
        next_id: int | None = None,
        last_us: int = 0,
        *,
        hold_ns: int = HOLD_NS,
        max_held: int = MAX_HELD,
    ) -> None:
        self.pair = pair
        self.next_id = next_id
        self.last_us = last_us
        # Those at the end of an earlier run may have been dead, and matched later than that.
        self._last_id = -1 if next_id is None else max(next_id - _BLUR, next_id // 2)
        """No trade up to here was matched after `last_us`."""
        self.duplicates = 0
        self.deadline_ns: int | None = None
        """When what is held must go on, or None while nothing is held."""
        self._hold_ns = hold_ns
        self.max_held = max_held
        """How many early trades may be held, and as many late ones."""
        self._held: dict[int, Trade | None] = {}
        self._holes: list[Hole] = []
        self._late: dict[int, Trade | None] = {}
        self._strays: set[int] = set()
        self._behind = 0
        """Trades in a row with known ids that were matched after everything we know."""

    @property
    def holes(self) -> tuple[Hole, ...]:
        """The ids that are still missing, ascending."""
        return tuple(self._holes)

    @property
    def held(self) -> int:
        """How many trades wait here, early and late ones together."""
        return len(self._held) + len(self._late)

    @property
    def is_full(self) -> bool:
        """Whether no more may be held: what is must go on now."""
        return len(self._held) >= self.max_held

    def accept(self, trade: Trade, now_ns: int) -> list[Trade]:
        """Take a trade of the live stream; return what may go on."""
        if self.follow([trade], 0):
            return [trade]
        return self._take(_id_of(trade), trade, now_ns)

    def follow(self, trades: Sequence[Trade], start: int) -> int:
        """Take live trades from `start` on while each is the very next one, as nearly all are.

        Returns the place of the first that was not taken.
        """
        next_id = self.next_id
        if next_id is None or self._held:
            return start
        end = start
        for trade in islice(trades, start, None):
            if trade.source_sequence != next_id or trade.vendor_data["pair"] != self.pair:
                break
            next_id += 1
            end += 1
        if end > start:
            self._behind = 0
            self.next_id = next_id
            self._note_time(next_id - 1, trades[end - 1].timestamp_us)
        return end

    def accept_dead(self, trade_id: int, now_ns: int) -> list[Trade]:
        """Note that a trade came that no trade can be made of: its id is not missing."""
        return self._take(trade_id, None, now_ns)

    def _take(self, trade_id: int, trade: Trade | None, now_ns: int) -> list[Trade]:
        if self.next_id is not None and trade_id < self.next_id:
            self._note_late(trade_id, trade)
            self._count_behind(trade_id, trade)
            return []
        if trade_id in self._held:
            self.duplicates += 1
            return []
        if trade_id in self._strays:
            self._strays.discard(trade_id)
            self.duplicates += 1
            trade = None  # it has gone on
        self._behind = 0
        self._held[trade_id] = trade
        if self.deadline_ns is None:
            self.deadline_ns = now_ns + self._hold_ns
        return list(self._drain())

    def release(self, now_ns: int) -> list[Trade]:
        """Let what has been held long enough go on; what is missing before it becomes holes."""
        if self.deadline_ns is None or (now_ns < self.deadline_ns and not self.is_full):
            return []
        if self.next_id is None and not any(self._held.values()):
            self._held.clear()  # an id that was read of what is no trade begins nothing
        released = []
        for trade_id in sorted(self._held):
            if self._is_stray(trade_id):
                stray = self._held.pop(trade_id)
                released += [] if stray is None else [stray]
                self._note_stray(trade_id)
                continue
            if self.next_id is not None and trade_id > self.next_id:
                self._open(self.next_id, trade_id - 1)
            trade = self._held.pop(trade_id)
            self.next_id = trade_id + 1
            if trade is not None:
                self._note_time(trade_id, trade.timestamp_us)
                released.append(trade)
        self.deadline_ns = None
        return released

    def skip_to(self, last_id: int) -> list[Trade]:
        """Name everything up to `last_id` as missing: the venue has it, we never saw it live.

        Returns the held trades that may go on behind it.
        """
        if self.next_id is None or last_id < self.next_id:
            return []
        first_id = self.next_id
        for trade_id in sorted(held for held in self._held if held <= last_id):
            if trade_id > first_id:
                self._open(first_id, trade_id - 1)
            self._open(trade_id, trade_id)
            self._late[trade_id] = self._held.pop(trade_id)
            first_id = trade_id + 1
        if first_id <= last_id:
            self._open(first_id, last_id)
        self.next_id = last_id + 1
        return list(self._drain())

    def fill(self, trade: Trade) -> bool:
        """Take a fetched trade; tell whether its id was missing, and so whether it goes on."""
        return self._fill(_id_of(trade), trade.timestamp_us)

    def fill_dead(self, trade_id: int) -> Trade | bool:
        """Note that no trade can be made of a fetched one; tell whether its id was missing.

        Returns the live trade of that id, if one came late: it goes on in the fetched one's place.
        """
        late = self._late.get(trade_id)
        was_missing = self._fill(trade_id, 0)
        return _mark(late, BACKFILL) if was_missing and late is not None else was_missing

    def _fill(self, trade_id: int, timestamp_us: int) -> bool:
        place = self._find(trade_id)
        if place is None:
            self.duplicates += 1
            return False
        is_new = trade_id not in self._strays
        self._strays.discard(trade_id)
        hole = self._holes[place]
        rest = [
            hole._replace(last_id=trade_id - 1),
            Hole(hole.pair, trade_id + 1, hole.last_id, timestamp_us or hole.after_us),
        ]
        self._holes[place : place + 1] = [part for part in rest if part.first_id <= part.last_id]
        self._late.pop(trade_id, None)
        self.duplicates += not is_new
        if timestamp_us and trade_id > self._last_id:
            self._note_time(trade_id, timestamp_us)
        return is_new

    def close(self, hole: Hole) -> tuple[list[Trade], list[Hole]]:
        """Give up a range: return the late live trades that fall into it, and what is lost.

        They are behind trades that came after them, so they say so: their origin is `LATE`.
        """
        late = []
        for trade_id in _list_within(self._strays, hole):
            self._fill(trade_id, 0)  # it has gone on
        for trade_id in _list_within(self._late, hole):
            trade = self._late[trade_id]
            self._fill(trade_id, 0 if trade is None else trade.timestamp_us)
            late += [] if trade is None else [_mark(trade, LATE)]
        lost = [part for part in self._holes if _overlaps(part, hole)]
        kept: list[Hole] = []
        for part in self._holes:
            kept.extend(_subtract(part, hole) if _overlaps(part, hole) else [part])
        self._holes = kept
        return late, [_intersect(part, hole) for part in lost]

    def reopen(self, hole: Hole) -> Hole | None:
        """Name a range as missing again: it had gone on, and was lost behind us.

        Returns what is missing now. A stray is so only once its turn has come.
        """
        self._strays.difference_update(_list_within(self._strays, hole))
        hole = hole._replace(last_id=min(hole.last_id, (self.next_id or 0) - 1))
        if hole.first_id > hole.last_id:
            return None
        insort(self._holes, hole, key=lambda other: other.first_id)
        return hole

    def missing_in(self, hole: Hole) -> list[Hole]:
        """Return the parts of a range that are still missing, ascending."""
        return [_intersect(part, hole) for part in self._holes if _overlaps(part, hole)]

    def _drain(self) -> Iterator[Trade]:
        """Yield the held trades that follow without a hole."""
        while self.next_id is not None and self.next_id in self._held:
            trade = self._held.pop(self.next_id)
            self.next_id += 1
            if trade is not None:
                self._note_time(self.next_id - 1, trade.timestamp_us)
                yield trade
        if not self._held:
            self.deadline_ns = None

    def _note_time(self, trade_id: int, timestamp_us: int) -> None:
        self._last_id, self.last_us = trade_id, timestamp_us

    def _is_stray(self, trade_id: int) -> bool:
        if self.next_id is None or trade_id - self.next_id <= LEAP:
            return False
        return trade_id + 1 not in self._held

    def _note_stray(self, trade_id: int) -> None:
        if len(self._strays) < self.max_held:
            self._strays.add(trade_id)

    def _count_behind(self, trade_id: int, trade: Trade | None) -> None:
        """Raise once ids have fallen: trades matched later than ours, all with ids we know."""
        if trade is None or trade_id > self._last_id or self._find(trade_id) is not None:
            return
        later = self.last_us and trade.timestamp_us > self.last_us + _SURELY_LATER_US
        self._behind = self._behind + 1 if later else 0
        if self._behind >= MOST_BEHIND:
            raise IdsRestartedError(trade.exchange.lower(), self.pair, self.next_id or 0, trade_id)

    def _note_late(self, trade_id: int, trade: Trade | None) -> None:
        """Keep a live trade that comes after its hole was named, should nobody else have it."""
        if self._find(trade_id) is None or trade_id in self._late:
            self.duplicates += 1
        elif len(self._late) < self.max_held:
            self._late[trade_id] = trade

    def _open(self, first_id: int, last_id: int) -> None:
        """Name a range as missing; it lies behind every other, so the list stays sorted."""
        self._holes.append(Hole(self.pair, first_id, last_id, self.last_us))

    def _find(self, trade_id: int) -> int | None:
        place = bisect_right(self._holes, trade_id, key=lambda hole: hole.first_id) - 1
        if place >= 0 and trade_id <= self._holes[place].last_id:
            return place
        return None


def _id_of(trade: Trade) -> int:
    assert trade.source_sequence is not None, "every venue of ours numbers its trades"
    return trade.source_sequence


def _mark(trade: Trade, origin: str) -> Trade:
    return structs.replace(trade, vendor_data={**trade.vendor_data, ORIGIN: origin})


def _list_within(ids: Iterable[int], hole: Hole) -> list[int]:
    """Return those of `ids` that are in a range, ascending."""
    return sorted(i for i in ids if hole.first_id <= i <= hole.last_id)


def _overlaps(one: Hole, other: Hole) -> bool:
    return one.first_id <= other.last_id and other.first_id <= one.last_id


def _intersect(one: Hole, other: Hole) -> Hole:
    first_id, last_id = max(one.first_id, other.first_id), min(one.last_id, other.last_id)
    return one._replace(first_id=first_id, last_id=last_id)


def _subtract(one: Hole, other: Hole) -> list[Hole]:
    parts = [
        one._replace(last_id=other.first_id - 1),
        one._replace(first_id=other.last_id + 1),
    ]
    return [part for part in parts if part.first_id <= part.last_id]
