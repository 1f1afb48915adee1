"""Binance spot from the server's side: combined streams, `trade`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any

from ..emission import SentTrade
from .dialect import Reading, RestAnswer, Trades, read_integer, read_text

_TIMES = re.compile(r'("[ET]"\s*:\s*)(\d+)')
_FIRST_MICROSECOND_STAMP = 10**14
"""From here on a time is in microseconds (timeUnit=MICROSECOND): as milliseconds, year 5138."""


class BinanceDialect:
    """Binance spot: one trade a frame, times written in milliseconds."""

    name = "binance"
    heartbeat: str | None = None

    def pair_of(self, base: str, quote: str) -> str:
        """Write BTC and USDT as BTCUSDT."""
        return base + quote

    def recognises(self, frame: Mapping[str, Any]) -> bool:
        """Tell Binance's frames by their stream or event, and its replies by their id."""
        if frame.get("stream") or frame.get("e"):
            return True
        reply_to = frame.get("id")
        return type(reply_to) is str or re.fullmatch(r"-?\d+", str(reply_to)) is not None

    def greet(self) -> Sequence[str]:
        """Say nothing: Binance waits for the client."""
        return ()

    def subscribes(self, request: Mapping[str, Any]) -> Sequence[str]:
        """Return the pairs of a SUBSCRIBE request's trade streams."""
        return self._read_pairs(request, "SUBSCRIBE")

    def unsubscribes(self, request: Mapping[str, Any]) -> Sequence[str]:
        """Return the pairs of an UNSUBSCRIBE request's trade streams."""
        return self._read_pairs(request, "UNSUBSCRIBE")

    def _read_pairs(self, request: Mapping[str, Any], method: str) -> Sequence[str]:
        if request.get("method") != method:
            return ()
        streams = (str(stream).partition("@") for stream in request.get("params", ()))
        return [name.upper() for name, _, kind in streams if kind == "trade"]

    def answer(self, request: Mapping[str, Any], pairs: Collection[str]) -> Sequence[str]:
        """Acknowledge a request; Binance does not check whether a stream exists."""
        reply: dict[str, object] = {"result": None, "id": int(request.get("id", 0))}
        if request.get("method") == "LIST_SUBSCRIPTIONS":
            reply["result"] = [f"{pair.lower()}@trade" for pair in pairs]
        elif request.get("method") not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            reply = {"error": {"code": 2, "msg": "Invalid request: unknown method"}}
        return [json.dumps(reply)]

    def refuse(self, request: Mapping[str, Any], pair: str) -> Sequence[str]:
        """Refuse the whole request, as Binance does with what it cannot read."""
        message = f"Invalid request: unknown stream {pair.lower()}@trade"
        return [json.dumps({"error": {"code": 2, "msg": message}, "id": request.get("id")})]

    def catch_up(self, trades: Sequence[SentTrade]) -> Sequence[str]:
        """Send nothing: a stream begins with the next trade."""
        return ()

    def announce_shutdown(self) -> Sequence[str]:
        """Send the event of May 2026."""
        event = {"e": "serverShutdown", "E": time.time_ns() // 1_000_000}
        return [json.dumps({"stream": "!serverShutdown", "data": event})]

    def answer_get(
        self, path: str, query: Mapping[str, str], pairs: Collection[str], trades: Trades
    ) -> RestAnswer | None:
        """Answer `historicalTrades`: ids from `fromId` on, the newest without it."""
        if path != "/api/v3/historicalTrades":
            return None
        pair = query.get("symbol", "")
        if pair not in pairs:
            return RestAnswer(400, '{"code":-1121,"msg":"Invalid symbol."}')
        try:
            limit = min(max(1, int(query.get("limit", "500"))), 1000)
            if "fromId" in query:
                found = list(islice(trades.from_id(pair, int(query["fromId"])), limit))
            else:
                found = list(islice(trades.before_id(pair, None), limit))[::-1]
        except ValueError:
            return RestAnswer(400, '{"code":-1130,"msg":"Illegal parameter."}')
        rows = ",".join(
            f'{{"id":{t.trade_id},"price":"{t.price}","qty":"{t.quantity}","quoteQty":"0",'
            f'"time":{t.timestamp_us // 1000},"isBuyerMaker":{str(t.side == "SELL").lower()},'
            '"isBestMatch":true}'
            for t in found
        )
        return RestAnswer(200, f"[{rows}]")

    def refuse_get(self) -> RestAnswer:
        """Answer 429 with the seconds to wait."""
        body = '{"code":-1003,"msg":"Too many requests."}'
        return RestAnswer(429, body, {"Retry-After": "1"})

    def render(self, trades: Sequence[SentTrade]) -> str:
        """Write the one trade of a frame."""
        (trade,) = trades
        match_ms = trade.timestamp_us // 1000
        return (
            f'{{"stream":"{trade.pair.lower()}@trade","data":{{"e":"trade","E":{match_ms + 1},'
            f'"s":"{trade.pair}","t":{trade.trade_id},"p":"{trade.price}","q":"{trade.quantity}",'
            f'"T":{match_ms},"m":{str(trade.side == "SELL").lower()},"M":true}}}}'
        )

    def read(self, frame: Mapping[str, Any]) -> Reading:
        """Read a combined or raw trade frame."""
        try:
            if read_text(frame.get("stream", "")).endswith("@trade"):
                return Reading(trades=(self._read_trade(frame["data"]),))
            if read_text(frame.get("e", "")) == "trade":
                return Reading(trades=(self._read_trade(frame),))
            return Reading()
        except (KeyError, ValueError, TypeError) as error:
            return Reading(problem=f"unreadable {error}")

    def _read_trade(self, data: Mapping[str, Any]) -> SentTrade:
        if data["e"] != "trade":
            raise ValueError(f"event {data['e']!r} on a trade stream")
        read_integer(data["E"])
        pair = read_text(data["s"])
        stamp = read_integer(data["T"])
        return SentTrade(
            exchange="BINANCE",
            pair=pair,
            trade_id=str(read_integer(data["t"])),
            symbol=pair,
            price=read_text(data["p"]),
            quantity=read_text(data["q"]),
            side={True: "SELL", False: "BUY"}[data["m"]],
            timestamp_us=stamp if stamp >= _FIRST_MICROSECOND_STAMP else stamp * 1000,
        )

    def shift_times(self, raw: str, shift_us: int) -> str:
        """Rewrite `E` and `T`; the shift must be whole milliseconds."""
        return _TIMES.sub(lambda match: match[1] + _shift(match[2], shift_us), raw)


def _shift(stamp: str, shift_us: int) -> str:
    if len(stamp) > 20:
        return stamp
    unit_us = 1 if int(stamp) >= _FIRST_MICROSECOND_STAMP else 1000
    return str(int(stamp) + shift_us // unit_us)
