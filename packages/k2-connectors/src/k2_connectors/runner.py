"""Runner: a `VenueFeed` on real sockets and a real clock. It decides nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence

import structlog

from .errors import ConnectionLostError
from .http import Rest, UrllibRest
from .lines import Action, Close, Open, Send
from .rest import RestRequest
from .transport import Connection, Transport, WebSocketTransport
from .venue_feed import Event, Fetch, VenueFeed

_log = structlog.get_logger()

_BEAT_S = 0.05
"""How often time is let pass: a held trade waits that much longer at most."""
DRAIN_S = 5.0
"""How long a stopped feed may go on fetching: Docker kills after 10 s, and it has yet to flush."""
_YIELD_EVERY_FRAMES = 64
"""A socket with a full buffer never suspends its reader; others must get their turn."""

Sink = Callable[[Sequence[Event]], None]
Room = Callable[[], Coroutine[None, None, None]]


class Runner:
    """Runs one venue until it is told to stop, and gives every event to `sink` as it happens.

    Sockets are read as fast as they deliver, and as `room` lets them.
    """

    def __init__(
        self,
        core: VenueFeed,
        sink: Sink,
        transport: Transport | None = None,
        rest: Rest | None = None,
        *,
        room: Room,
        drain_s: float = DRAIN_S,
    ) -> None:
        self.core = core
        self._sink = sink
        self._room = room
        self._drain_s = drain_s
        self._has_reader = True
        self._transport = transport or WebSocketTransport()
        self._rest = rest or UrllibRest()
        self._connections: dict[int, Connection] = {}
        self._talks: dict[int, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._log = _log.bind(venue=core.venue.name)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop`; then close the sockets, and leave no hole in what they delivered."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                while not stop.is_set():
                    self._beat()
                    await _wait(stop, _BEAT_S)
                await self._drain()
        except ExceptionGroup as group:
            # One venue, one cause: a refused symbol, a publisher that failed.
            raise group.exceptions[0] from None

    def abandon(self) -> None:
        """Note that nobody takes events any more: nothing is fetched once stopped."""
        self._has_reader = False

    def _beat(self) -> None:
        now_ns = time.monotonic_ns()
        self._emit(self.core.tick(now_ns))
        self._perform(self.core.act(now_ns))

    def _perform(self, actions: Iterable[Action | Fetch]) -> None:
        for action in actions:
            match action:
                case Open(line=line):
                    self._talks[line] = self._start(self._converse(action))
                case Send(line=line, frame=frame):
                    if line in self._connections:
                        self._start(self._send(line, frame))
                case Close(line=line, reason=reason):
                    self._log.info("closing", line=line, reason=reason)
                    self._start(self._close(line))
                case Fetch(request=request):
                    self._start(self._fetch(request))

    async def _converse(self, action: Open) -> None:
        line = action.line
        try:
            async with self._transport.connect(action.url) as connection:
                self._connections[line] = connection
                self._log.info("connected", line=line, url=action.url)
                for send in self.core.open(line, time.monotonic_ns()):
                    assert isinstance(send, Send)
                    await connection.send(send.frame)
                await self._read(line, connection)
        except ConnectionLostError as error:
            self._log.warning("connection_lost", line=line, reason=error.reason)
            self._emit(self.core.close(line, error.reason, time.monotonic_ns()))
        finally:
            self._connections.pop(line, None)
            self._talks.pop(line, None)

    async def _read(self, line: int, connection: Connection) -> None:
        heard = 0
        while True:
            frames = await connection.receive_all()
            self._emit(self.core.hear_all(line, frames, time.time_ns(), time.monotonic_ns()))
            heard += len(frames)
            if heard >= _YIELD_EVERY_FRAMES:
                heard = 0
                await asyncio.sleep(0)
                await self._room()

    async def _send(self, line: int, frame: str) -> None:
        connection = self._connections.get(line)
        if connection is not None:
            try:
                await connection.send(frame)
            except ConnectionLostError:
                return  # whoever reads this socket notices too

    async def _close(self, line: int) -> None:
        connection = self._connections.get(line)
        if connection is not None:
            await connection.close()
        elif line in self._talks:
            self._talks[line].cancel()  # not open yet; once open nobody would close it

    async def _fetch(self, request: RestRequest) -> None:
        await self._room()
        try:
            response = await self._rest.get(request)
        except ConnectionLostError as error:
            self._log.warning("rest_failed", url=request.url, reason=error.reason)
            self.core.fail(time.monotonic_ns())
            return
        now_ns = time.monotonic_ns()
        self._emit(self.core.answer(request, response, time.time_ns(), now_ns))
        self._perform(self.core.act(now_ns))

    async def _drain(self) -> None:
        """Close every socket, read what they had delivered, fetch what is missing before it."""
        deadline_s = time.monotonic() + self._drain_s
        self._perform(self.core.drain())
        if self._talks:
            # A mute socket may not take the time of those whose trades are missing.
            await asyncio.wait(self._talks.values(), timeout=self._drain_s / 2)
        for talk in self._talks.values():
            talk.cancel()
        self._emit(self.core.finish())
        while self._has_reader and self.core.missing and time.monotonic() < deadline_s:
            self._perform(self.core.act(time.monotonic_ns()))
            await asyncio.sleep(_BEAT_S)
            self._emit(self.core.finish())  # what had no room a moment ago may be a gap by now
        for task in self._running:
            task.cancel()

    def _emit(self, events: Sequence[Event]) -> None:
        if events:
            self._sink(events)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        assert self._tasks is not None
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task


async def _wait(stop: asyncio.Event, delay_s: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), delay_s)
    except TimeoutError:
        return
