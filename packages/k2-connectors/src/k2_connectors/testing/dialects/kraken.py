"""Kraken spot from the server's side: WebSocket v2, channel `trade`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ..emission import SentTrade
from .dialect import Reading

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = re.compile(r'("(?:timestamp|time_in|time_out)"\s*:\s*")([^"]+)(")')
_STATUS = {
    "channel": "status",
    "type": "update",
    "data": [{"api_version": "v2", "system": "online", "version": "2.0.10"}],
}


class KrakenDialect:
    """Kraken v2: many trades a frame, bare numbers, times in microseconds."""

    name = "kraken"
    heartbeat: str | None = '{"channel":"heartbeat"}'

    def pair_of(self, base: str, quote: str) -> str:
        """Write BTC and USD as BTC/USD."""
        return f"{base}/{quote}"

    def recognises(self, frame: Mapping[str, Any]) -> bool:
        """Tell Kraken's frames by their channel, and its replies by their method."""
        return "channel" in frame or ("method" in frame and "success" in frame)

    def greet(self) -> Sequence[str]:
        """Send the status frame."""
        return [json.dumps(_STATUS)]

    def subscribes(self, request: Mapping[str, Any]) -> Sequence[str]:
        """Return the pairs of a subscribe request on the trade channel."""
        params = request.get("params", {})
        if request.get("method") != "subscribe" or params.get("channel") != "trade":
            return ()
        return [str(pair) for pair in params.get("symbol", ())]

    def answer(self, request: Mapping[str, Any], pairs: Collection[str]) -> Sequence[str]:
        """Acknowledge each symbol by itself, refuse those that are not listed."""
        now = _to_text(datetime.now(UTC))
        return [
            json.dumps(self._acknowledge(pair, pair in pairs) | {"time_in": now, "time_out": now})
            for pair in self.subscribes(request)
        ]

    def _acknowledge(self, pair: str, listed: bool) -> dict[str, object]:
        if not listed:
            error = f"Currency pair not supported {pair}"
            return {"error": error, "method": "subscribe", "success": False, "symbol": pair}
        result = {"channel": "trade", "snapshot": True, "symbol": pair}
        return {"method": "subscribe", "result": result, "success": True}

    def render(self, trades: Sequence[SentTrade]) -> str:
        """Write a batch of trades of one pair."""
        rows = ",".join(
            f'{{"symbol":"{t.pair}","side":"{t.side.lower()}","price":{t.price},'
            f'"qty":{t.quantity},"ord_type":"limit","trade_id":{t.trade_id},'
            f'"timestamp":"{_to_text(_EPOCH + timedelta(microseconds=t.timestamp_us))}"}}'
            for t in trades
        )
        return f'{{"channel":"trade","type":"update","data":[{rows}]}}'

    def read(self, frame: Mapping[str, Any]) -> Reading:
        """Read every trade of a batch; one that cannot be read is a problem of the frame."""
        if frame.get("channel") != "trade":
            return Reading()
        trades: list[SentTrade] = []
        problem = None
        for row in frame.get("data", ()):
            try:
                trades.append(self._read_trade(row))
            except (KeyError, ValueError, TypeError) as error:
                problem = f"unreadable {error}"
        return Reading(trades, problem)

    def _read_trade(self, row: Mapping[str, Any]) -> SentTrade:
        pair = row["symbol"]
        side = {"buy": "BUY", "sell": "SELL"}[row["side"]]
        moment = datetime.fromisoformat(row["timestamp"])
        time_us = (moment - _EPOCH) // timedelta(microseconds=1)
        return SentTrade(
            "KRAKEN", pair, row["trade_id"], pair, row["price"], row["qty"], side, time_us
        )

    def shift_times(self, raw: str, shift_us: int) -> str:
        """Rewrite the RFC 3339 times."""
        shift = timedelta(microseconds=shift_us)
        return _TIMES.sub(
            lambda match: match[1] + _to_text(datetime.fromisoformat(match[2]) + shift) + match[3],
            raw,
        )


def _to_text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
