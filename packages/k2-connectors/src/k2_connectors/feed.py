"""Feed: venues into a publisher, complete across reconnects, slow brokers and kill -9."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import cast

import structlog

from k2_schemas import FieldError, Trade
from k2_schemas.topics import trades_topic

from .backfill import MAX_BACKFILL_TRADES
from .checkpoint import CheckpointFile, Position, Watermarks
from .errors import CheckpointError, ConnectorError, PublishError
from .event import Gap, Status
from .http import Rest
from .publish import Publisher
from .runner import DRAIN_S
from .trade_feed import TradeFeed, VenueStats
from .transport import Transport
from .venue import Venue
from .venue_feed import DeadLetter, Event

_log = structlog.get_logger()

FLUSH_S = 10.0
"""How long a stopped feed waits for Kafka, if it is not told otherwise."""

_SAVE_EVERY_S = 1.0
_FULL_PAUSE_S = 0.005
_SERVE_EVERY_EVENTS = 256
_SERVE_EVERY_S = 0.2


class Feed:
    """Reads `venues` and publishes every trade once, every dead letter, and no silence.

    With a `checkpoint` file a feed that was killed goes on after what Kafka had acknowledged, and
    fetches over REST what it missed; `positions`, if given, are taken for what the file says, which
    is not read then. Without either it begins live. A full publisher holds trades back in bounded
    memory, never the sockets. However `run` ends, the publisher is flushed and the checkpoint
    written. Stopped, it fetches what is missing first, for `drain_s` seconds at most, and gives
    Kafka `flush_s` to take what is left: what is missing or not acknowledged then is fetched at the
    next start.
    """

    def __init__(
        self,
        venues: Sequence[Venue],
        publisher: Publisher,
        *,
        checkpoint: CheckpointFile | None = None,
        positions: Mapping[str, Mapping[str, Position]] | None = None,
        contiguity: bool = True,
        backfill: bool = True,
        connections: int = 1,
        max_backfill_trades: int = MAX_BACKFILL_TRADES,
        drain_s: float = DRAIN_S,
        flush_s: float = FLUSH_S,
        transport: Transport | None = None,
        rest: Rest | None = None,
    ) -> None:
        self._publisher = publisher
        self._checkpoint = checkpoint
        found = checkpoint.read() if checkpoint is not None and positions is None else positions
        self._marks = Watermarks(found)
        self._saved: Mapping[str, Mapping[str, Position]] = found or {}
        self._stop_s = drain_s + flush_s
        self._flush_s = flush_s
        self._failure: PublishError | None = None
        self._broken: ConnectorError | None = None
        """What ended the task beside the pump: without it nothing is acknowledged."""
        self._publish_errors: Counter[str] = Counter()
        self._save_due_s = 0.0
        publisher.on_acknowledged = self._marks.settle
        self._feed = TradeFeed(
            venues,
            positions=found,
            contiguity=contiguity,
            backfill=backfill,
            connections=connections,
            max_backfill_trades=max_backfill_trades,
            drain_s=drain_s,
            transport=transport,
            rest=rest,
        )

    def stats(self) -> dict[str, VenueStats]:
        """Return what each venue's feed has done."""
        return {
            name: replace(stats, publish_errors=self._publish_errors[name])
            for name, stats in self._feed.stats().items()
        }

    async def subscribe(self, venue: str, symbols: Iterable[str]) -> None:
        """Take up more symbols of a venue while it runs; see `TradeFeed.subscribe`."""
        await self._feed.subscribe(venue, symbols)

    async def unsubscribe(self, venue: str, symbols: Iterable[str]) -> None:
        """Leave symbols of a venue; see `TradeFeed.unsubscribe`. Their positions are forgotten."""
        await self._feed.unsubscribe(venue, symbols)

    @property
    def pending_bytes(self) -> int:
        """About how much memory the events take that the publisher has no room for."""
        return self._feed.pending_bytes

    async def run(self, stop: asyncio.Event) -> None:
        """Feed until `stop` is set; raise what reconnecting cannot cure."""
        try:
            async with self._feed as feed:
                await self._pump_beside(feed, stop)
            if self._broken is not None:
                raise self._broken
        except PublishError as error:
            self._note_failure(error)
            raise
        finally:
            try:
                await self._flush()
            finally:
                self._save(force=True)
        stats = self.stats()
        missing = {name: s.missing for name, s in stats.items() if s.missing}
        _log.info("drained", trades={name: s.trades for name, s in stats.items()}, missing=missing)

    async def _pump_beside(self, feed: TradeFeed, stop: asyncio.Event) -> None:
        """Pump until the feed has ended; once stopped, no longer than a stop may take."""
        limit = asyncio.timeout(None)
        try:
            async with limit:
                beside = [
                    asyncio.create_task(self._stop_with(stop, feed, limit)),
                    asyncio.create_task(self._keep_serving(feed)),
                ]
                try:
                    await self._pump(feed)
                finally:
                    for task in beside:
                        task.cancel()
        except TimeoutError:
            # Kafka has no room for what is left; the flush says what it has not taken.
            _log.warning("stopped_waiting", pending_bytes=self.pending_bytes)

    async def _stop_with(
        self, stop: asyncio.Event, feed: TradeFeed, limit: asyncio.Timeout
    ) -> None:
        await stop.wait()
        feed.stop()
        limit.reschedule(asyncio.get_running_loop().time() + self._stop_s)

    async def _flush(self) -> None:
        try:
            await asyncio.to_thread(self._publisher.flush, self._flush_s)
        except PublishError as error:
            self._note_failure(error)
            raise

    async def _pump(self, feed: TradeFeed) -> None:
        unserved = 0
        async for events in feed.batches(_SERVE_EVERY_EVENTS):
            for kind, run in groupby(events, type):
                if kind is Trade:
                    await self._put_trades(cast(list[Trade], list(run)))
                else:
                    for event in run:
                        await self._put(event)
            unserved += len(events)
            if unserved >= _SERVE_EVERY_EVENTS:
                unserved = 0
                self._publisher.serve()
                self._save()
                await asyncio.sleep(0)

    async def _keep_serving(self, feed: TradeFeed) -> None:
        """Let acknowledgements in, and positions out, while no trades come."""
        while True:
            await asyncio.sleep(_SERVE_EVERY_S)
            try:
                self._publisher.serve()
                self._save()
            except (PublishError, CheckpointError) as error:
                self._broken = error
                feed.stop()
                return

    async def _put(self, event: Event) -> None:
        """Publish what is no trade, or log it."""
        if isinstance(event, DeadLetter):
            await self._put_letter(event)
        elif isinstance(event, Gap):
            self._marks.settle_gap(event.venue, event.pair, event.first_id, event.last_id)
            _log.error("gap", **{name: getattr(event, name) for name in event.__struct_fields__})
        elif isinstance(event, Status):
            _log.info("status", venue=event.venue, kind=event.kind, detail=event.detail)
            self._note_status(event)

    def _note_status(self, status: Status) -> None:
        if status.kind in ("unsubscribed", "refused"):
            # Every trade of these pairs is before this event, or belongs to another beginning.
            for pair in status.pairs:
                self._marks.forget(status.venue, pair)
            self._save(force=True)
        else:
            self._save()

    def _note_failure(self, error: PublishError) -> None:
        """Count and log a failure, once, however often the publisher says it again."""
        if error is self._failure:
            return
        self._failure = error
        names = list(self._feed.stats())
        concerned = [name for name in names if trades_topic(name) == error.topic]
        self._publish_errors.update(concerned or names)
        _log.error("publish_failed", topic=error.topic, reason=error.reason)

    async def _put_trades(self, trades: list[Trade]) -> None:
        if self._marks.begin(trades):
            self._save(force=True)
        while trades:
            try:
                taken = self._publisher.publish(trades)
            except FieldError as error:
                await self._put_letter(self._refuse(trades[0], str(error)))
                taken = 1
            trades = trades[taken:]
            if not taken:
                await self._wait_for_room()

    async def _put_letter(self, letter: DeadLetter) -> None:
        note = partial(self._settle_letter, letter)
        while not self._publisher.publish_dead_letter(*letter[:4], note):
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        """The broker is slow: sockets are still read, and events wait in bounded memory."""
        self._publisher.serve()
        await asyncio.sleep(_FULL_PAUSE_S)

    def _refuse(self, trade: Trade, reason: str) -> DeadLetter:
        """Note that a venue from elsewhere made a trade without bytes; ours refuse the frame."""
        venue = trade.exchange.lower()
        self._publish_errors[venue] += 1
        _log.warning(
            "trade_refused",
            venue=venue,
            pair=trade.pair,
            trade_id=trade.trade_id,
            reason=reason,
        )
        ids = () if trade.source_sequence is None else ((trade.pair, trade.source_sequence),)
        return DeadLetter(repr(trade).encode(), venue, reason, 0, ids)

    def _settle_letter(self, letter: DeadLetter) -> None:
        """Let positions pass the trades that are safe as a dead letter."""
        for pair, trade_id in letter.ids:
            self._marks.settle_gap(letter.venue, pair, trade_id, trade_id)

    def _save(self, *, force: bool = False) -> None:
        """Write the positions if they have moved, once a second at most."""
        if self._checkpoint is None or (time.monotonic() < self._save_due_s and not force):
            return
        self._save_due_s = time.monotonic() + _SAVE_EVERY_S
        positions = self._marks.positions()
        if positions != self._saved:
            self._checkpoint.write(positions)
            self._saved = positions
