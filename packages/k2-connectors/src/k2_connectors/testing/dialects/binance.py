"""Binance spot from the server's side: combined streams, `trade`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..emission import SentTrade
from .dialect import Reading

_TIMES = re.compile(r'("[ET]"\s*:\s*)(\d+)')


class BinanceDialect:
    """Binance spot: one trade a frame, times in milliseconds."""

    name = "binance"
    heartbeat: str | None = None

    def pair_of(self, base: str, quote: str) -> str:
        """Write BTC and USDT as BTCUSDT."""
        return base + quote

    def recognises(self, frame: Mapping[str, Any]) -> bool:
        """Tell Binance's frames by their stream or event key."""
        return "stream" in frame or "e" in frame

    def greet(self) -> Sequence[str]:
        """Say nothing: Binance waits for the client."""
        return ()

    def subscribes(self, request: Mapping[str, Any]) -> Sequence[str]:
        """Return the pairs of a SUBSCRIBE request's trade streams."""
        if request.get("method") != "SUBSCRIBE":
            return ()
        streams = (str(stream).partition("@") for stream in request.get("params", ()))
        return [name.upper() for name, _, kind in streams if kind == "trade"]

    def answer(self, request: Mapping[str, Any], pairs: Collection[str]) -> Sequence[str]:
        """Acknowledge a request; Binance does not check whether a stream exists."""
        reply: dict[str, object] = {"result": None, "id": int(request.get("id", 0))}
        if request.get("method") != "SUBSCRIBE":
            reply = {"error": {"code": 2, "msg": "Invalid request: unknown method"}}
        return [json.dumps(reply)]

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
        if "stream" in frame and not str(frame["stream"]).endswith("@trade"):
            return Reading()
        data = frame.get("data", frame)
        if data.get("e") not in (None, "trade") or "id" in frame:
            return Reading()
        try:
            return Reading(trades=(self._read_trade(data),))
        except (KeyError, ValueError, TypeError) as error:
            return Reading(problem=f"unreadable {error}")

    def _read_trade(self, data: Mapping[str, Any]) -> SentTrade:
        pair = data["s"]
        side = {True: "SELL", False: "BUY"}[data["m"]]
        time_us = int(data["T"]) * 1000
        return SentTrade("BINANCE", pair, data["t"], pair, data["p"], data["q"], side, time_us)

    def shift_times(self, raw: str, shift_us: int) -> str:
        """Rewrite `E` and `T`; the shift must be whole milliseconds."""
        return _TIMES.sub(lambda match: f"{match[1]}{int(match[2]) + shift_us // 1000}", raw)
