"""Replay exchange: a real WebSocket server that speaks as the venues do, and keeps a ledger."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from itertools import chain, islice

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from .dialects import DIALECTS, Dialect
from .emission import Emission
from .ledger import Ledger

_HEARTBEAT_S = 1.0
_CHUNK_FRAMES = 200


class ReplayExchange:
    """Serves `/<venue>/…` on 127.0.0.1 and plays each venue's emissions to every subscriber.

    Frames go out as fast as the client reads them. What is about to be sent is in the ledger
    first. A client that comes back is played everything again: a trade may come twice, never less.
    Frames that contradict the ledger end `serve` with `LedgerConflictError`.
    """

    def __init__(
        self,
        emissions: Mapping[str, Sequence[Emission]],
        pairs: Mapping[str, Sequence[str]],
        ledger: Ledger,
    ) -> None:
        self._emissions = emissions
        self._pairs = pairs
        self._ledger = ledger
        self._sent_records = 0
        self._planned_records = sum(_count_records(e) for e in chain(*emissions.values()))

    @asynccontextmanager
    async def serve(self, port: int) -> AsyncIterator[int]:
        """Serve until the block ends; port 0 picks a free one. Yields the port."""
        try:
            async with (
                asyncio.TaskGroup() as players,
                serve(
                    partial(self._converse, players),
                    "127.0.0.1",
                    port,
                    compression=None,
                    process_request=self._answer_http,
                ) as server,
            ):
                yield next(iter(server.sockets)).getsockname()[1]
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    def _answer_http(self, socket: ServerConnection, request: Request) -> Response | None:
        """Answer GET /status: how many Kafka records the frames make, sent so far and in all."""
        if request.path != "/status":
            return None
        status = {"sent_records": self._sent_records, "planned_records": self._planned_records}
        return socket.respond(HTTPStatus.OK, json.dumps(status))

    async def _converse(self, players: asyncio.TaskGroup, socket: ServerConnection) -> None:
        assert socket.request is not None
        venue = socket.request.path.split("/")[1].partition("?")[0]
        dialect = DIALECTS.get(venue)
        if dialect is None or venue not in self._emissions:
            await socket.close(1008, f"no venue {venue!r} here; known: {', '.join(DIALECTS)}")
            return
        tasks: set[asyncio.Task[None]] = set()
        try:
            for frame in dialect.greet():
                await socket.send(frame)
            async for message in socket:
                if await self._answer(socket, dialect, message) and not tasks:
                    tasks.add(players.create_task(self._play(socket, venue)))
                    tasks.add(players.create_task(_beat(socket, dialect.heartbeat)))
        except ConnectionClosed:
            return
        finally:
            for task in tasks:
                task.cancel()

    async def _answer(
        self, socket: ServerConnection, dialect: Dialect, message: str | bytes
    ) -> bool:
        """Answer a request; tell whether it subscribed every pair it named."""
        try:
            request = json.loads(message)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            await socket.close(1008, "not a JSON object")
            return False
        pairs = self._pairs[dialect.name]
        for reply in dialect.answer(request, pairs):
            await socket.send(reply)
        wanted = dialect.subscribes(request)
        return bool(wanted) and all(pair in pairs for pair in wanted)

    async def _play(self, socket: ServerConnection, venue: str) -> None:
        emissions = iter(self._emissions[venue])
        try:
            while chunk := list(islice(emissions, _CHUNK_FRAMES)):
                self._ledger.write(chunk, time.time_ns())
                for emission in chunk:
                    # Text frames as exchanges send them; bytes that are no text can only go raw.
                    await socket.send(emission.frame, text=_is_text(emission.frame))
                self._sent_records += sum(map(_count_records, chunk))
        except ConnectionClosed:
            return


async def _beat(socket: ServerConnection, heartbeat: str | None) -> None:
    try:
        while heartbeat is not None:
            await asyncio.sleep(_HEARTBEAT_S)
            await socket.send(heartbeat)
    except ConnectionClosed:
        return


def _count_records(emission: Emission) -> int:
    """Count what a feed makes of a frame: a record per trade, one dead letter for what is left."""
    return len(emission.trades) + len(emission.bad_trades) + (emission.bad_frame is not None)


def _is_text(frame: bytes) -> bool:
    try:
        frame.decode()
    except UnicodeDecodeError:
        return False
    return True
