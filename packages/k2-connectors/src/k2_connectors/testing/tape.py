"""Tape: what one venue of a replay exchange has emitted, in order, and can still be asked for."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain

from .emission import Emission, SentTrade
from .ledger import Ledger

CHUNK_FRAMES = 200
_TICK_S = 0.005


class History:
    """Every trade emitted so far, per pair, ascending by id: what REST serves."""

    def __init__(self) -> None:
        self._trades: dict[str, list[SentTrade]] = defaultdict(list)

    def add(self, emission: Emission) -> None:
        """Remember a frame's trades, those that no rule accepts among them; each once."""
        for trade in chain(emission.trades, (bad for bad, _ in emission.bad_trades)):
            known = self._trades[trade.pair]
            if not known or int(trade.trade_id) > int(known[-1].trade_id):
                known.append(trade)
            elif _find(known, int(trade.trade_id)) is None:
                insort(known, trade, key=_id_of)

    def of(self, pair: str) -> Sequence[SentTrade]:
        """Return a pair's trades ascending by id; () for a pair that never traded."""
        return self._trades.get(pair, ())

    def from_id(self, pair: str, first_id: int) -> Iterator[SentTrade]:
        """Yield a pair's trades from an id on, that id included."""
        trades = self.of(pair)
        for place in range(bisect_left(trades, first_id, key=_id_of), len(trades)):
            yield trades[place]

    def before_id(self, pair: str, end_id: int | None) -> Iterator[SentTrade]:
        """Yield a pair's trades backwards, from the newest one below an id, or of all."""
        trades = self.of(pair)
        end = len(trades) if end_id is None else bisect_left(trades, end_id, key=_id_of)
        for place in range(end - 1, -1, -1):
            yield trades[place]


class Tape:
    """One venue's frames in order, and how many of them the market has emitted.

    What is emitted is in the ledger before anybody is sent it.
    """

    def __init__(self, emissions: Sequence[Emission], ledger: Ledger) -> None:
        self.emissions = emissions
        self.emitted = 0
        self.history = History()
        self._ledger = ledger
        self._moved = asyncio.Condition()
        self._places: dict[object, int] = {}

    @property
    def is_over(self) -> bool:
        """Whether every frame has been emitted."""
        return self.emitted >= len(self.emissions)

    def record(self, emissions: Sequence[Emission]) -> None:
        """Write frames that are about to be sent into ledger and history."""
        self._ledger.write(emissions, time.time_ns())
        for emission in emissions:
            self.history.add(emission)

    async def run(self, trades_per_s: float | None) -> None:
        """Let the market move on to its end, whether or not anybody listens.

        Without a rate it is as fast as those who listen read, and waits for nobody who is away.
        """
        if trades_per_s is None:
            while not self.is_over:
                await self._wait_for_listeners()
                await self._emit(self.emitted + CHUNK_FRAMES)
                await asyncio.sleep(0)
            return
        totals = list(accumulate(len(e.trades) for e in self.emissions))
        began = time.monotonic()
        while not self.is_over:
            due = int((time.monotonic() - began) * trades_per_s)
            await self._emit(min(bisect_left(totals, due + 1), self.emitted + 10 * CHUNK_FRAMES))
            await asyncio.sleep(_TICK_S)

    async def run_as_recorded(self, speed: float) -> None:
        """Let the market move on to its end as it was recorded, `speed` times as fast.

        A frame whose time is not known comes with the one before it.
        """
        times_ns = list(accumulate((e.recv_ns or 0 for e in self.emissions), max))
        first_ns = next((at_ns for at_ns in times_ns if at_ns), 0)
        began = time.monotonic()
        while not self.is_over:
            due_ns = first_ns + int((time.monotonic() - began) * speed * 1e9)
            due = bisect_right(times_ns, due_ns)
            await self._emit(min(due, self.emitted + 10 * CHUNK_FRAMES))
            await asyncio.sleep(_TICK_S)

    def join(self, listener: object, place: int | None = None) -> int:
        """Note a listener at a frame's number, or at the next one; return that number."""
        return self._places.setdefault(listener, self.emitted if place is None else place)

    async def report(self, listener: object, place: int) -> None:
        """Note how far a listener is."""
        if listener in self._places:
            self._places[listener] = place
            async with self._moved:
                self._moved.notify_all()

    async def leave(self, listener: object) -> None:
        """Forget a listener: the market waits for it no longer."""
        if self._places.pop(listener, None) is not None:
            async with self._moved:
                self._moved.notify_all()

    async def wait_beyond(self, place: int) -> int:
        """Wait until frame number `place` has been emitted; return how many have been."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.emitted > place)
        return self.emitted

    async def _emit(self, end: int) -> None:
        end = min(end, len(self.emissions))
        if end <= self.emitted:
            return
        self.record(self.emissions[self.emitted : end])
        self.emitted = end
        async with self._moved:
            self._moved.notify_all()

    async def _wait_for_listeners(self) -> None:
        async with self._moved:
            await self._moved.wait_for(
                lambda: min(self._places.values(), default=self.emitted) >= self.emitted
            )


def _id_of(trade: SentTrade) -> int:
    return int(trade.trade_id)


def _find(trades: Sequence[SentTrade], trade_id: int) -> int | None:
    place = bisect_left(trades, trade_id, key=_id_of)
    return place if place < len(trades) and _id_of(trades[place]) == trade_id else None
