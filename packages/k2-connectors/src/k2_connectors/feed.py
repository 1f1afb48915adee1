"""Feed: one venue's socket into a publisher, until it is told to stop."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from k2_schemas import FieldError

from .errors import ConnectionLostError
from .publish import Publisher
from .transport import Connection, Transport, WebSocketTransport
from .venue import Venue

_log = structlog.get_logger()

_FIRST_DELAY_S = 0.25
_MAX_DELAY_S = 30.0
_MAX_DOUBLINGS = 10


@dataclass
class FeedStats:
    """What a feed has seen since it started."""

    frames: int = 0
    trades: int = 0
    dead_letters: int = 0
    reconnects: int = 0
    control: Counter[str] = field(default_factory=Counter)


class Feed:
    """Connects to one venue, decodes every frame, publishes every trade.

    A frame that cannot be decoded or encoded goes to the dead letters. A lost connection is taken
    up again after an exponential delay with full jitter. `run` ends when `stop` is set: the socket
    is closed and what it had already delivered is published. However it ends, the publisher is
    flushed.
    """

    def __init__(
        self,
        venue: Venue,
        publisher: Publisher,
        transport: Transport | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.venue = venue
        self.stats = FeedStats()
        self._publisher = publisher
        self._transport = transport or WebSocketTransport()
        self._clock_ns = clock_ns
        self._log = _log.bind(venue=venue.name)

    async def run(self, stop: asyncio.Event) -> None:
        """Feed until `stop` is set; raise what reconnecting cannot cure."""
        try:
            await self._keep_connected(stop)
        finally:
            self._publisher.flush()
        self._log.info("drained", frames=self.stats.frames, trades=self.stats.trades)

    async def _keep_connected(self, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            frames_before = self.stats.frames
            try:
                async with self._transport.connect(self.venue.url) as connection:
                    self._log.info("connected", url=self.venue.url)
                    await self._consume(connection, stop)
            except ConnectionLostError as error:
                failures = 1 if self.stats.frames > frames_before else failures + 1
                if not stop.is_set():
                    self.stats.reconnects += 1
                    self._log.warning("connection_lost", reason=error.reason, failures=failures)
                    await _wait(stop, _delay_s(failures))

    async def _consume(self, connection: Connection, stop: asyncio.Event) -> None:
        closer = asyncio.create_task(_close_on(stop, connection))
        try:
            for frame in self.venue.subscribe_frames():
                await connection.send(frame)
            while True:
                self._handle(await connection.receive())
        finally:
            closer.cancel()

    def _handle(self, frame: bytes) -> None:
        recv_ns = self._clock_ns()
        self.stats.frames += 1
        decoded = self.venue.decode(frame, recv_ns // 1000)
        rejections = list(decoded.rejections)
        for trade in decoded.trades:
            try:
                self._publisher.publish(trade)
                self.stats.trades += 1
            except FieldError as error:
                rejections.append(str(error))
        if rejections:
            reason = "; ".join(rejections)
            self._publisher.publish_dead_letter(frame, self.venue.name, reason, recv_ns)
            self.stats.dead_letters += 1
        elif decoded.control:
            self.stats.control[decoded.control] += 1


async def _close_on(stop: asyncio.Event, connection: Connection) -> None:
    await stop.wait()
    await connection.close()


async def _wait(stop: asyncio.Event, delay_s: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), delay_s)
    except TimeoutError:
        return


def _delay_s(failures: int) -> float:
    longest = _FIRST_DELAY_S * 2 ** min(failures, _MAX_DOUBLINGS)
    return random.uniform(0, min(_MAX_DELAY_S, longest))  # noqa: S311
