"""Checkpoint: up to which id every trade of a pair is safe in Kafka, kept across kill -9.

Only what Kafka has acknowledged, without a hole before it, moves a position. So a feed that starts
again asks for everything after it: some trades come twice, none is lost.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from k2_schemas import Trade

from .errors import CheckpointError


class Position(NamedTuple):
    """The last trade of a pair that is safe with all before it: its id and its match time."""

    trade_id: int
    timestamp_us: int


class Watermark:
    """The settled ids of one pair, as ranges; almost always one."""

    def __init__(self, position: Position | None = None) -> None:
        self._firsts: list[int] = []
        self._lasts: list[tuple[int, int]] = []
        self._floor = -1
        if position is not None:
            self.begin(position)

    def begin(self, position: Position) -> None:
        """Build on a position that lies before everything settled so far."""
        if self._firsts and self._firsts[0] == self._floor:
            # What was built on before is no longer below everything: its own id is open again.
            self._firsts[0] += 1
            if self._lasts[0][0] < self._firsts[0]:
                del self._firsts[0], self._lasts[0]
        self._floor = position.trade_id
        self._firsts.insert(0, position.trade_id)
        self._lasts.insert(0, (position.trade_id, position.timestamp_us))
        self._join(0)

    @property
    def position(self) -> Position | None:
        """Return the end of the lowest range: what a new start may build on."""
        return Position(*self._lasts[0]) if self._lasts else None

    def settle(self, first_id: int, last_id: int, timestamp_us: int) -> None:
        """Note that a range of ids is safe, or known to be lost for ever."""
        if len(self._lasts) == 1 and first_id == self._lasts[0][0] + 1:
            # Right behind the only range, as nearly always.
            self._lasts[0] = (last_id, timestamp_us or self._lasts[0][1])
            return
        if last_id <= self._floor:
            return  # of a time before this position: it says nothing about what comes after it
        place = bisect_right(self._firsts, first_id) - 1
        if place >= 0 and first_id <= self._lasts[place][0] + 1:
            if last_id > self._lasts[place][0]:
                # A gap has no time of its own.
                self._lasts[place] = (last_id, timestamp_us or self._lasts[place][1])
        else:
            place += 1
            self._firsts.insert(place, first_id)
            self._lasts.insert(place, (last_id, timestamp_us))
        self._join(place)

    def _join(self, place: int) -> None:
        """Swallow the ranges that a grown one now touches."""
        while place + 1 < len(self._firsts) and (
            self._firsts[place + 1] <= self._lasts[place][0] + 1
        ):
            lower, higher = sorted(self._lasts[place : place + 2])
            # A gap or a dead letter has no time of its own.
            self._lasts[place] = (higher[0], higher[1] or lower[1])
            del self._firsts[place + 1], self._lasts[place + 1]


class Watermarks:
    """The watermarks of every pair; keys are what a trade says: its exchange and its pair."""

    def __init__(self, positions: Mapping[str, Mapping[str, Position]] | None = None) -> None:
        self._by_key: dict[tuple[str, str], Watermark] = {
            (venue.upper(), pair): Watermark(position)
            for venue, pairs in (positions or {}).items()
            for pair, position in pairs.items()
        }
        self._starts: dict[tuple[str, str], int] = {}
        """Where the pairs begin that have begun in this run."""
        self._left: set[tuple[str, str]] = set()

    def begin(self, trades: Iterable[Trade]) -> bool:
        """Note that trades are on their way to Kafka; tell whether the first of a pair is there.

        The first one is where the pair's promise begins, so its position must be kept before Kafka
        has acknowledged anything: acknowledgements come in any order.
        """
        begun = False
        for first, _ in _find_stretches(trades):
            key, trade_id = (first.exchange, first.vendor_data["pair"]), first.source_sequence or 0
            start = self._starts.get(key)
            if key not in self._by_key or (start is not None and trade_id <= start):
                self._left.discard(key)
                self._starts[key] = trade_id - 1
                position = Position(trade_id - 1, first.timestamp_us - 1)
                self._by_key.setdefault(key, Watermark()).begin(position)
                begun = True
        return begun

    def settle(self, trades: Iterable[Trade]) -> None:
        """Note that Kafka has acknowledged trades."""
        for first, last in _find_stretches(trades):
            key = (first.exchange, first.vendor_data["pair"])
            ids = (first.source_sequence or 0, last.source_sequence or 0)
            self._settle(key, *ids, last.timestamp_us)

    def settle_gap(self, venue: str, pair: str, first_id: int, last_id: int) -> None:
        """Note that ids are lost for ever, so that positions may pass them."""
        self._settle((venue.upper(), pair), first_id, last_id, 0)

    def forget(self, venue: str, pair: str) -> None:
        """Note that a pair is fed no more: the next trade of it begins anew, as the first did."""
        key = (venue.upper(), pair)
        self._by_key.pop(key, None)
        self._starts.pop(key, None)
        self._left.add(key)

    def positions(self) -> dict[str, dict[str, Position]]:
        """Return every position, by venue and pair."""
        found: dict[str, dict[str, Position]] = {}
        for (exchange, pair), mark in self._by_key.items():
            if mark.position is not None:
                found.setdefault(exchange.lower(), {})[pair] = mark.position
        return found

    def _settle(self, key: tuple[str, str], first_id: int, last_id: int, timestamp_us: int) -> None:
        mark = self._by_key.get(key)
        if mark is None:
            if key in self._left:
                return
            mark = self._by_key[key] = Watermark()
        mark.settle(first_id, last_id, timestamp_us)


def _find_stretches(trades: Iterable[Trade]) -> Iterator[tuple[Trade, Trade]]:
    """Yield the first and the last of trades of one pair whose ids follow each other."""
    first: Trade | None = None
    last: Trade | None = None
    next_id, pair, exchange = 0, "", ""
    for trade in trades:
        trade_id = trade.source_sequence
        if trade_id is None:
            continue
        if (
            trade_id != next_id
            or trade.vendor_data["pair"] != pair
            or trade.exchange != exchange
            or first is None
        ):
            if first is not None and last is not None:
                yield first, last
            first, pair, exchange = trade, trade.vendor_data["pair"], trade.exchange
        last, next_id = trade, trade_id + 1
    if first is not None and last is not None:
        yield first, last


class _Content(msgspec.Struct, frozen=True):
    positions: dict[str, dict[str, Position]]
    version: int = 1


class CheckpointFile:
    """Positions in a file that is replaced whole: a crash leaves the old one or the new one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, dict[str, Position]] | None:
        """Return the positions, None if there is no file yet; raise `CheckpointError` for junk."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CheckpointError(self.path, error.strerror or str(error)) from error
        try:
            return msgspec.json.decode(data, type=_Content).positions
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CheckpointError(self.path, str(error)) from error

    def write(self, positions: Mapping[str, Mapping[str, Position]]) -> None:
        """Replace the file; what it says is on disk before the old one is gone."""
        content = _Content({venue: dict(pairs) for venue, pairs in positions.items()})
        draft = self.path.with_suffix(f"{self.path.suffix}.draft")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(content)))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except OSError as error:
            raise CheckpointError(self.path, error.strerror or str(error)) from error


def rebuild_positions(trades: Iterable[Trade]) -> dict[str, dict[str, Position]]:
    """Return the positions that a tail of published trades allows, when the file was lost.

    Per pair: the end of the ids that follow each other from the tail's first trade on.
    """
    marks = Watermarks()
    marks.settle(trades)
    return marks.positions()
