"""Replay exchange: a real server that speaks as the venues do, fails as they do, keeps a ledger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from itertools import chain
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from .dialects import DIALECTS, Dialect, RestAnswer
from .emission import Emission
from .fault import REST_KINDS, Fault
from .ledger import Ledger
from .listener import Listener
from .tape import Tape

_CLOSE_TIMEOUT_S = 2.0


class ReplayExchange:
    """Serves `/<venue>/…` on 127.0.0.1: WebSocket, and the REST that the venue has for trades.

    As it is, a client that comes back is played everything again, as fast as it reads: a trade may
    come twice, never less. With `live` the market begins with a venue's first subscriber and moves
    on by `trades_per_s`, or `speed` times as fast as it was recorded, or as fast as the listeners
    read, whether or not anybody listens; what a client missed is to be had over REST, which always
    has all that was emitted. `faults` are what goes wrong, per venue. What is about to be emitted
    is in the ledger first. Frames that contradict the ledger end `serve` with
    `LedgerConflictError`.

    `GET /status` counts, `GET /ledger` lists the ledger's valid trades, a JSON object a line.
    """

    def __init__(
        self,
        emissions: Mapping[str, Sequence[Emission]],
        pairs: Mapping[str, Sequence[str]],
        ledger: Ledger,
        *,
        live: bool = False,
        trades_per_s: float | None = None,
        speed: float | None = None,
        faults: Mapping[str, Sequence[Fault]] | None = None,
    ) -> None:
        self.tapes = {name: Tape(frames, ledger) for name, frames in emissions.items()}
        self._pairs = pairs
        self._ledger = ledger
        self._live = live
        self._trades_per_s = trades_per_s
        self._speed = speed
        self._faults = {
            name: sorted((faults or {}).get(name, ()), key=lambda fault: fault.at)
            for name in emissions
        }
        self._rest_refusals: dict[str, list[Fault]] = {name: [] for name in emissions}
        self._markets: dict[str, asyncio.Task[None]] = {}
        self._listeners: set[Listener] = set()
        self._sent_records = 0
        self._planned_records = sum(_count_records(e) for e in chain(*emissions.values()))

    @asynccontextmanager
    async def serve(self, port: int, host: str = "127.0.0.1") -> AsyncIterator[int]:
        """Serve until the block ends; port 0 picks a free one. Yields the port."""
        try:
            async with (
                asyncio.TaskGroup() as players,
                serve(
                    partial(self._converse, players),
                    host,
                    port,
                    compression=None,
                    process_request=self._answer_http,
                    close_timeout=_CLOSE_TIMEOUT_S,
                ) as server,
            ):
                yield next(iter(server.sockets)).getsockname()[1]
                for listener in list(self._listeners):
                    listener.abort_if_half_open()
                for market in self._markets.values():
                    market.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    def _answer_http(self, socket: ServerConnection, request: Request) -> Response | None:
        """Answer a GET that asks for no WebSocket; None lets the handshake go on."""
        if "Upgrade" in request.headers:
            return None
        url = urlsplit(request.path)
        if url.path == "/status":
            return _respond(RestAnswer(200, json.dumps(self._count())))
        if url.path == "/ledger":
            return _respond(RestAnswer(200, self._print_ledger()))
        venue, _, rest = url.path.lstrip("/").partition("/")
        if venue in self.tapes and venue in DIALECTS:
            return _respond(self._answer_get(venue, f"/{rest}", dict(parse_qsl(url.query))))
        return _respond(RestAnswer(404, "no such path"))

    def _count(self) -> dict[str, int]:
        """How many Kafka records the frames make, and how many frames the markets have emitted."""
        return {
            "sent_records": self._sent_records,
            "planned_records": self._planned_records,
            "emitted_frames": sum(tape.emitted for tape in self.tapes.values()),
            "planned_frames": sum(len(tape.emissions) for tape in self.tapes.values()),
        }

    def _print_ledger(self) -> str:
        return "".join(
            json.dumps(trade._asdict() | {"first_sent_ns": sent_ns}) + "\n"
            for trade, sent_ns in self._ledger.trades()
        )

    def _answer_get(self, venue: str, path: str, query: Mapping[str, str]) -> RestAnswer:
        dialect, tape = DIALECTS[venue], self.tapes[venue]
        answer = dialect.answer_get(path, query, self._pairs[venue], tape.history)
        if answer is None:
            return RestAnswer(404, "no such path")
        fault = self._take_fault(venue, tape.emitted, REST_KINDS)
        if fault is None:
            return answer
        return dialect.refuse_get() if fault.kind == "rate_limit" else RestAnswer(fault.code, "no")

    def _take_fault(
        self, venue: str, place: int, kinds: frozenset[str], pairs: Sequence[str] = ()
    ) -> Fault | None:
        """Use up one of a fault's `count` strikes, if one of these kinds is due."""
        faults = self._faults[venue]
        for index, fault in enumerate(faults):
            if fault.at > place:
                return None
            if fault.kind in kinds and (not pairs or fault.pair in pairs):
                del faults[index]
                if fault.count > 1:
                    faults.insert(index, _use_up(fault))
                return fault
        return None

    async def _converse(self, players: asyncio.TaskGroup, socket: ServerConnection) -> None:
        assert socket.request is not None
        venue = socket.request.path.split("/")[1].partition("?")[0]
        dialect = DIALECTS.get(venue)
        if dialect is None or venue not in self.tapes:
            await socket.close(1008, f"no venue {venue!r} here; known: {', '.join(DIALECTS)}")
            return
        tape, faults = self.tapes[venue], self._faults[venue]
        listener = Listener(socket, dialect, tape, faults, live=self._live)
        self._listeners.add(listener)
        try:
            for frame in dialect.greet():
                await socket.send(frame)
            async for message in socket:
                if await self._answer(socket, dialect, listener, message):
                    listener.start(players, self._note_sent)
                    self._open_market(players, venue)
        except ConnectionClosed:
            return
        finally:
            self._listeners.discard(listener)
            await listener.stop()

    async def _answer(
        self, socket: ServerConnection, dialect: Dialect, listener: Listener, message: str | bytes
    ) -> bool:
        """Answer a request; tell whether it subscribed every pair it named."""
        try:
            request = json.loads(message)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            await socket.close(1008, "not a JSON object")
            return False
        pairs, wanted = self._pairs[dialect.name], dialect.subscribes(request)
        listener.unsubscribe(dialect.unsubscribes(request))
        place = self.tapes[dialect.name].emitted
        fault = self._take_fault(dialect.name, place, frozenset(["reject"]), wanted or [""])
        if fault is not None:
            for reply in dialect.refuse(request, fault.pair):
                await socket.send(reply)
            return False
        for reply in dialect.answer(request, pairs):
            await socket.send(reply)
        if not wanted or any(pair not in pairs for pair in wanted):
            return False
        await listener.subscribe(wanted)
        return True

    def _open_market(self, players: asyncio.TaskGroup, venue: str) -> None:
        if self._live and venue not in self._markets:
            tape = self.tapes[venue]
            running = (
                tape.run(self._trades_per_s)
                if self._speed is None
                else tape.run_as_recorded(self._speed)
            )
            self._markets[venue] = players.create_task(running)

    def _note_sent(self, emissions: Sequence[Emission]) -> None:
        self._sent_records += sum(map(_count_records, emissions))


def _use_up(fault: Fault) -> Fault:
    return Fault(fault.at, fault.kind, fault.count - 1, fault.seconds, fault.code, fault.pair)


def _respond(answer: RestAnswer) -> Response:
    status, body = HTTPStatus(answer.status), answer.body.encode()
    headers = Headers({"Connection": "close", "Content-Length": str(len(body)), **answer.headers})
    headers.setdefault("Content-Type", "application/json")
    return Response(status.value, status.phrase, headers, body)


def _count_records(emission: Emission) -> int:
    """Count what a feed makes of a frame: a record per trade, one dead letter for what is left."""
    return len(emission.trades) + len(emission.bad_trades) + (emission.bad_frame is not None)
