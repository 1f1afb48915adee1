"""A Binance of one symbol that sends as fast as it is read: `python -m benchmarks.feed_exchange`.

A process of its own, so that what it takes is nobody else's CPU time. Trades are a function of
their id, so that ten million of them take no memory, and REST has every one that was sent.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

FIRST_ID = 6_715_234_671
FIRST_MS = 1_790_446_152_678
PAIR = "BTCUSDT"

_CHUNK_TRADES = 256
_FULL_BYTES = 256 * 1024
_PAUSE_S = 0.0005
_TRADE = (
    b'{"stream":"btcusdt@%b","data":{"e":"%b","E":%d,"s":"BTCUSDT","%b":%d,"p":"%d.%02d000000",'
    b'"q":"0.%05d000","T":%d,"m":%b,"M":true}}'
)


def write_trade(number: int, kind: bytes = b"trade", id_key: bytes = b"t") -> bytes:
    """Return the frame of a trade by its number, as the combined stream has it; all are as long."""
    time_ms = FIRST_MS + number // 2
    side = b"true " if number % 3 else b"false"
    price, quantity = 84_106 + number % 100, number % 99_999 + 1
    return _TRADE % (
        *(kind, kind, time_ms + 1, id_key, FIRST_ID + number),
        *(price, number % 100, quantity, time_ms, side),
    )


_HEADER = b"\x81\x7e" + len(write_trade(0)).to_bytes(2, "big")


def write_chunk(first: int, count: int) -> bytes:
    """Return trades as the bytes of WebSocket text frames."""
    return b"".join(_HEADER + write_trade(number) for number in range(first, first + count))


class FloodExchange:
    """Sends `count` trades to whoever subscribes, going on where it was; 0 a second: no limit."""

    def __init__(self, count: int, trades_per_s: float) -> None:
        self._count = count
        self._trades_per_s = trades_per_s
        self._sent = 0

    def answer(self, socket: ServerConnection, request: Request) -> Response | None:
        """Serve `historicalTrades`; None lets a WebSocket handshake go on."""
        if "Upgrade" in request.headers:
            return None
        query = parse_qs(urlsplit(request.path).query)
        first = int(query.get("fromId", [str(FIRST_ID)])[0]) - FIRST_ID
        limit = int(query.get("limit", ["1000"])[0])
        rows = [_write_row(n) for n in range(first, min(first + limit, self._sent))]
        return socket.respond(HTTPStatus.OK, json.dumps(rows))

    async def converse(self, socket: ServerConnection) -> None:
        """Acknowledge a subscription, then send."""
        request = json.loads(await socket.recv())
        await socket.send(json.dumps({"result": None, "id": request["id"]}))
        try:
            await self._flood(socket)
            await socket.wait_closed()
        except ConnectionClosed:
            return

    async def _flood(self, socket: ServerConnection) -> None:
        began = time.monotonic() - self._sent / (self._trades_per_s or 1)
        while self._sent < self._count and not socket.transport.is_closing():
            due = self._count
            if self._trades_per_s:
                due = min(due, int((time.monotonic() - began) * self._trades_per_s))
            is_full = socket.transport.get_write_buffer_size() > _FULL_BYTES
            if is_full or due <= self._sent:
                await asyncio.sleep(_PAUSE_S)
                continue
            size = min(_CHUNK_TRADES, due - self._sent)
            chunk = write_chunk(self._sent, size)
            self._sent += size
            socket.transport.write(chunk)


def _write_row(number: int) -> dict[str, object]:
    trade = json.loads(write_trade(number))["data"]
    return {
        **{"id": trade["t"], "price": trade["p"], "qty": trade["q"], "time": trade["T"]},
        **{"isBuyerMaker": trade["m"], "isBestMatch": True},
    }


async def _serve(count: int, trades_per_s: float) -> None:
    exchange = FloodExchange(count, trades_per_s)
    async with serve(
        exchange.converse, "127.0.0.1", 0, compression=None, process_request=exchange.answer
    ) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
