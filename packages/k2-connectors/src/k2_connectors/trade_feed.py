"""TradeFeed: the trades of several venues as one asynchronous iterator, complete and in order."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from k2_schemas import Trade

from .backfill import MAX_BACKFILL_TRADES
from .checkpoint import Position
from .errors import SubscriptionChangeError, UnknownVenueError, VenueTwiceError
from .http import Rest
from .runner import DRAIN_S, Runner
from .transport import Transport
from .venue import Venue
from .venue_feed import DeadLetter, Event, VenueFeed

MAX_PENDING_BYTES = 64 * 1024 * 1024
_ROOM_PAUSE_S = 0.01
_CHANGE_PAUSE_S = 0.01
_EVENT_BYTES = 1024
"""What a trade with its texts takes at most, on average; a dead letter has its frame besides."""


@dataclass(frozen=True, slots=True)
class VenueStats:
    """What a venue's feed has done since it started, and how it is doing.

    `missing` are ids that are being fetched right now; `publish_errors` are counted by `Feed`, a
    `TradeFeed` publishes nothing; `memory_bytes` is about what its unread and held events take.
    """

    frames: int
    trades: int
    backfilled: int
    duplicates: int
    gaps: int
    dead_letters: int
    reconnects: int
    rotations: int
    live_connections: int
    held: int
    missing: int
    symbols: int
    last_message_age_s: float
    exchange_lag_s: float
    memory_bytes: int
    control: Mapping[str, int]
    publish_errors: int = 0


class TradeFeed:
    """Trades, gaps, dead letters and status changes of `venues`, as they happen.

    Use it as a context manager and iterate. `positions` (venue → pair → `Position`) make it go on
    where an earlier run was safe; other pairs begin with their first live trade. With `backfill`
    what the sockets lost is fetched over REST, and what nobody has any more is a `Gap`; without,
    every loss is a `Gap`. With `contiguity=False` ids are not looked at. `connections` is the
    number of redundant sockets per venue; `drain_s` is for `stop`.

    Memory is bounded: when nobody reads, trades beyond `max_pending_bytes` are let go as holes,
    and fetched again once there is room. Where nobody could fetch them again, with
    `contiguity=False`, and for dead letters, the sockets wait for room instead. Raises
    `VenueTwiceError` for two venues of one name.
    """

    def __init__(
        self,
        venues: Sequence[Venue],
        *,
        positions: Mapping[str, Mapping[str, Position]] | None = None,
        contiguity: bool = True,
        backfill: bool = True,
        connections: int = 1,
        max_backfill_trades: int = MAX_BACKFILL_TRADES,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        drain_s: float = DRAIN_S,
        transport: Transport | None = None,
        rest: Rest | None = None,
    ) -> None:
        now_ns = time.monotonic_ns()
        twice = [name for name, count in Counter(v.name for v in venues).items() if count > 1]
        if twice:
            raise VenueTwiceError(twice[0])
        self._cores = {
            venue.name: VenueFeed(
                venue,
                now_ns,
                (positions or {}).get(venue.name),
                lines=connections,
                contiguity=contiguity,
                backfill=backfill,
                max_backfill_trades=max_backfill_trades,
            )
            for venue in venues
        }
        self._runners = [
            Runner(
                core,
                partial(self._take, core.venue.name),
                transport,
                rest,
                room=self._wait_for_room,
                drain_s=drain_s,
            )
            for core in self._cores.values()
        ]
        self._contiguity = contiguity
        self._max_pending_bytes = max(_EVENT_BYTES, max_pending_bytes)
        self._pending: deque[Event] = deque()
        # By venue, for whoever asks from another thread: the deque is never still.
        self._pending_bytes: Counter[str] = Counter()
        self._bound_bytes = 0
        """Of what is pending, how much must not be let go: nobody could fetch it again."""
        self._has_let_go = False
        self._arrived = asyncio.Event()
        self._stop = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._work = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        for runner in self._runners:
            runner.abandon()
        if self._work is not None:
            await self._work

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events until the feed is stopped and drained, or raise what ended it."""
        async for events in self.batches(1):
            yield events[0]

    async def batches(self, most: int = 256) -> AsyncIterator[Sequence[Event]]:
        """Yield the events that are here, in order and at most `most` at once; see `__aiter__`."""
        assert self._work is not None, "use the feed as a context manager: async with"
        while True:
            while self._pending:
                yield self._take_pending(most)
                if self._has_let_go and self.pending_bytes <= self._max_pending_bytes // 2:
                    self._has_let_go = False
                    for core in self._cores.values():
                        core.fetch_lost()
            if self._work.done():
                if not self._pending:
                    self._work.result()
                    return
                continue
            self._arrived.clear()
            waiting = asyncio.create_task(self._arrived.wait())
            await asyncio.wait({waiting, self._work}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()

    def _take_pending(self, most: int) -> list[Event]:
        pending = self._pending
        if len(pending) > most:
            events = [pending.popleft() for _ in range(most)]
        else:
            events = list(pending)
            pending.clear()
        self._count_out(events)
        return events

    def _count_out(self, events: Sequence[Event]) -> None:
        """Note that events are pending no longer."""
        if len(self._cores) == 1:
            counts = {next(iter(self._cores)): len(events)}
        else:
            counts = Counter(map(_venue_of, events))
        for venue, count in counts.items():
            self._pending_bytes[venue] -= count * _EVENT_BYTES
        if self._bound_bytes:
            self._count_letters(events, -1)

    def _count_letters(self, events: Sequence[Event], sign: int) -> None:
        for event in events:
            if isinstance(event, DeadLetter):
                size = _EVENT_BYTES + len(event.frame)
                self._pending_bytes[event.venue] += sign * (size - _EVENT_BYTES)
                self._bound_bytes += sign * size

    def stop(self) -> None:
        """Close the sockets; iteration ends after what they had delivered, without a hole.

        What is missing by then is fetched first, for `drain_s` at most.
        """
        self._stop.set()

    def stats(self) -> dict[str, VenueStats]:
        """Return what each venue's feed has done."""
        pending = self._pending_bytes
        return {name: _describe(core, pending[name]) for name, core in self._cores.items()}

    async def subscribe(self, venue: str, symbols: Iterable[str]) -> None:
        """Take up more symbols of a venue while it runs, each as at a first start.

        Returns once every live connection has them acknowledged and, with `backfill`, REST knows
        them; while the venue is away it waits, and cancelled it undoes itself. From then on they
        are part of the feed: reconnects and rotations keep them. Raises
        `SubscriptionRejectedError` naming what the exchange refused: none of `symbols` is then
        subscribed, and the feed goes on as before.
        """
        core = self._find(venue)
        change = core.subscribe(symbols, time.monotonic_ns())
        try:
            while not change.is_done:
                if self._stop.is_set():
                    raise SubscriptionChangeError(venue, change.symbols, "the feed has stopped")
                await asyncio.sleep(_CHANGE_PAUSE_S)
        finally:
            if not change.is_done:
                self._take(venue, core.cancel(change))
        if change.refusal is not None:
            raise change.refusal

    async def unsubscribe(self, venue: str, symbols: Iterable[str]) -> None:
        """Leave symbols of a venue: what had arrived is still yielded, nothing is missed of them.

        Raises `SubscriptionChangeError` for a symbol that is not subscribed, and for the last ones.
        """
        self._take(venue, self._find(venue).unsubscribe(symbols))

    @property
    def pending_bytes(self) -> int:
        """About how much memory the events take that nobody has read yet."""
        return self._pending_bytes.total()

    def _find(self, venue: str) -> VenueFeed:
        if venue not in self._cores:
            raise UnknownVenueError(venue, self._cores)
        return self._cores[venue]

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                for runner in self._runners:
                    tasks.create_task(runner.run(self._stop))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._stop.set()
            self._arrived.set()

    def _take(self, venue: str, events: Sequence[Event]) -> None:
        room = self._max_pending_bytes - self.pending_bytes
        if self._contiguity and len(events) * _EVENT_BYTES > room:
            events = self._let_go(events, room // _EVENT_BYTES)
        self._pending.extend(events)
        self._pending_bytes[venue] += len(events) * _EVENT_BYTES
        if DeadLetter in set(map(type, events)):
            self._count_letters(events, 1)
        self._arrived.set()

    def _let_go(self, events: Sequence[Event], room: int) -> Sequence[Event]:
        """Return the events but for the trades beyond the first `room`: those are fetched again."""
        kept: list[Event] = []
        for event in events:
            if isinstance(event, Trade):
                if room <= 0:
                    self._cores[event.exchange.lower()].note_lost(event)
                    self._has_let_go = True
                    continue
                room -= 1
            kept.append(event)
        return kept

    async def _wait_for_room(self) -> None:
        while not self._has_room() and not self._stop.is_set():
            await asyncio.sleep(_ROOM_PAUSE_S)

    def _has_room(self) -> bool:
        pending = self._bound_bytes if self._contiguity else self.pending_bytes
        return pending < self._max_pending_bytes


def _venue_of(event: Event) -> str:
    return event.exchange.lower() if isinstance(event, Trade) else event.venue


def _describe(core: VenueFeed, pending_bytes: int) -> VenueStats:
    return VenueStats(
        frames=core.frames,
        trades=core.trades,
        backfilled=core.continuity.backfilled,
        duplicates=core.continuity.duplicates,
        gaps=core.continuity.gaps,
        dead_letters=core.dead_letters,
        reconnects=core.lines.reconnects,
        rotations=core.lines.rotations,
        live_connections=core.lines.live,
        held=core.continuity.held,
        missing=core.missing,
        symbols=len(core.lines.pairs),
        last_message_age_s=(time.monotonic_ns() - core.heard_ns) / 1e9,
        exchange_lag_s=core.lag_us / 1e6,
        memory_bytes=pending_bytes + core.continuity.held * _EVENT_BYTES,
        control=dict(core.control),
    )
