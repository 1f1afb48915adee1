"""Kraken spot from the server's side: WebSocket v2, channel `trade`."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ..emission import SentTrade
from .dialect import Reading, RestAnswer, Trades, read_integer, read_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = re.compile(r'("(?:timestamp|time_in|time_out)"\s*:\s*")([^"]+)(")')
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_ALIASES = {"XBT": "BTC", "XDG": "DOGE"}
_REST_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
_SNAPSHOT_TRADES = 50
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
        method = frame.get("method")
        return bool(frame.get("channel")) or (type(method) is str and method != "")

    def greet(self) -> Sequence[str]:
        """Send the status frame."""
        return [json.dumps(_STATUS)]

    def subscribes(self, request: Mapping[str, Any]) -> Sequence[str]:
        """Return the pairs of a subscribe request on the trade channel."""
        return self._read_pairs(request, "subscribe")

    def unsubscribes(self, request: Mapping[str, Any]) -> Sequence[str]:
        """Return the pairs of an unsubscribe request on the trade channel."""
        return self._read_pairs(request, "unsubscribe")

    def _read_pairs(self, request: Mapping[str, Any], method: str) -> Sequence[str]:
        params = request.get("params", {})
        if request.get("method") != method or params.get("channel") != "trade":
            return ()
        return [str(pair) for pair in params.get("symbol", ())]

    def answer(self, request: Mapping[str, Any], pairs: Collection[str]) -> Sequence[str]:
        """Acknowledge each symbol by itself, refuse those that are not listed; answer pings."""
        if request.get("method") == "ping":
            return [json.dumps({"method": "pong", "req_id": request.get("req_id")})]
        now = _to_text(datetime.now(UTC))
        return [
            json.dumps(self._acknowledge(pair, pair in pairs) | {"time_in": now, "time_out": now})
            for pair in self.subscribes(request)
        ] + [
            json.dumps(_confirm("unsubscribe", {"channel": "trade", "symbol": pair}))
            for pair in self.unsubscribes(request)
        ]

    def refuse(self, request: Mapping[str, Any], pair: str) -> Sequence[str]:
        """Refuse the pair, acknowledge the others."""
        return self.answer(request, [other for other in self.subscribes(request) if other != pair])

    def catch_up(self, trades: Sequence[SentTrade]) -> Sequence[str]:
        """Send the snapshot: the last 50 trades of the pair, in one frame."""
        if not trades:
            return ()
        frame = self.render(trades[-_SNAPSHOT_TRADES:])
        return [frame.replace('"type":"update"', '"type":"snapshot"', 1)]

    def announce_shutdown(self) -> Sequence[str]:
        """Send a status that is not online."""
        data = [{"api_version": "v2", "system": "maintenance", "version": "2.0.10"}]
        return [json.dumps(_STATUS | {"data": data})]

    def answer_get(
        self, path: str, query: Mapping[str, str], pairs: Collection[str], trades: Trades
    ) -> RestAnswer | None:
        """Answer `Trades`: those after `since` (ns), at most `count`; the newest without it."""
        if path != "/0/public/Trades":
            return None
        by_name = {name: pair for pair in pairs for name in _list_names(pair)}
        pair = by_name.get(query.get("pair", ""))
        if pair is None:
            return RestAnswer(200, '{"error":["EQuery:Unknown asset pair"]}')
        try:
            count = min(int(query.get("count", "1000")), 1000)
            known = trades.of(pair)
            begin = max(0, len(known) - count)
            if "since" in query:
                begin = bisect_right(known, int(query["since"]), key=_to_ns)
        except ValueError:
            return RestAnswer(200, '{"error":["EGeneral:Invalid arguments"]}')
        found = known[begin : begin + count]
        rows = ",".join(_render_row(trade) for trade in found)
        last = _to_ns(found[-1]) if found else int(query.get("since", "0"))
        body = f'{{"error":[],"result":{{"{_list_names(pair)[-1]}":[{rows}],"last":"{last}"}}}}'
        return RestAnswer(200, body)

    def refuse_get(self) -> RestAnswer:
        """Answer 200 with the error in the body."""
        return RestAnswer(200, '{"error":["EAPI:Rate limit exceeded"]}')

    def _acknowledge(self, pair: str, listed: bool) -> dict[str, object]:
        if not listed:
            error = f"Currency pair not supported {pair}"
            return {"error": error, "method": "subscribe", "success": False, "symbol": pair}
        return _confirm("subscribe", {"channel": "trade", "snapshot": True, "symbol": pair})

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
        channel, rows = frame.get("channel", ""), frame.get("data")
        if type(channel) is str and channel != "trade":
            return Reading()
        if channel != "trade" or not isinstance(rows, list):
            return Reading(problem="unreadable batch")
        trades: list[SentTrade] = []
        problem = None
        for row in rows:
            try:
                trades.append(self._read_trade(row))
            except (KeyError, ValueError, TypeError) as error:
                problem = f"unreadable {error}"
        return Reading(trades, problem)

    def _read_trade(self, row: Mapping[str, Any]) -> SentTrade:
        # Recordings and REST also write XBT/USD: the same book as BTC/USD.
        assets = read_text(row["symbol"]).split("/")
        pair = "/".join(_ALIASES.get(asset, asset) for asset in assets)
        read_text(row.get("ord_type", ""))
        moment = _read_time(read_text(row["timestamp"]))
        return SentTrade(
            exchange="KRAKEN",
            pair=pair,
            trade_id=str(read_integer(row["trade_id"])),
            symbol=pair,
            price=_read_decimal(row["price"]),
            quantity=_read_decimal(row["qty"]),
            side={"buy": "BUY", "sell": "SELL"}[row["side"]],
            timestamp_us=(moment - _EPOCH) // timedelta(microseconds=1),
        )

    def shift_times(self, raw: str, shift_us: int) -> str:
        """Rewrite the RFC 3339 times."""
        shift = timedelta(microseconds=shift_us)
        return _TIMES.sub(lambda match: match[1] + _shift(match[2], shift) + match[3], raw)


def _confirm(method: str, result: dict[str, object]) -> dict[str, object]:
    return {"method": method, "result": result, "success": True}


def _list_names(pair: str) -> tuple[str, ...]:
    """Return what REST calls a pair: BTCUSD, XBTUSD, and the key of a result."""
    base, quote = (_REST_NAMES.get(asset, asset) for asset in pair.split("/"))
    return (pair, pair.replace("/", ""), f"{base}/{quote}", base + quote, f"X{base}Z{quote}")


def _to_ns(trade: SentTrade) -> int:
    """Return a time as REST knows it: with a digit below the microseconds of the stream."""
    return trade.timestamp_us * 1000 + 100


def _render_row(trade: SentTrade) -> str:
    seconds, rest_ns = divmod(_to_ns(trade), 10**9)
    moment = f"{seconds}.{rest_ns // 100:07d}".rstrip("0").ljust(len(str(seconds)) + 5, "0")
    return (
        f'["{trade.price}","{trade.quantity}",{moment},"{trade.side[0].lower()}","l","",'
        f"{trade.trade_id}]"
    )


def _read_decimal(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a number")
    return str(value)


def _read_time(text: str) -> datetime:
    # fromisoformat alone takes far more than RFC 3339 allows.
    if not _RFC_3339.fullmatch(text):
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    return datetime.fromisoformat(text.upper())


def _shift(text: str, shift: timedelta) -> str:
    """Return the shifted time; a text that is no time with a zone stays as it is."""
    try:
        return _to_text(_read_time(text).astimezone(UTC) + shift)
    except (ValueError, OverflowError):
        return text


def _to_text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
