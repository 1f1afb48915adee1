"""Coinbase Exchange from the server's side: channel `matches`."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from ..emission import SentTrade
from .dialect import Reading, RestAnswer, Trades, read_integer, read_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = re.compile(r'("time"\s*:\s*")([^"]+)(")')
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_MAKER_SIDES = {"BUY": "sell", "SELL": "buy"}
_TAKER_SIDES = {maker: taker for taker, maker in _MAKER_SIDES.items()}
_TYPES = ("match", "last_match")


class CoinbaseDialect:
    """Coinbase: one trade a frame, sides written from the maker's view, REST newest first."""

    name = "coinbase"
    heartbeat: str | None = '{"type":"heartbeat","sequence":1,"last_trade_id":0}'

    def pair_of(self, base: str, quote: str) -> str:
        """Write BTC and USD as BTC-USD."""
        return f"{base}-{quote}"

    def recognises(self, frame: Mapping[str, Any]) -> bool:
        """Tell Coinbase's frames by their type, where no venue's other mark is."""
        kind = frame.get("type")
        return type(kind) is str and kind != "" and not frame.get("channel")

    def greet(self) -> Sequence[str]:
        """Say nothing: Coinbase waits for the client."""
        return ()

    def subscribes(self, request: Mapping[str, Any]) -> Sequence[str]:
        """Return the products of a subscribe request that names the channel `matches`."""
        return self._read_products(request, "subscribe")

    def unsubscribes(self, request: Mapping[str, Any]) -> Sequence[str]:
        """Return the products of an unsubscribe request that names the channel `matches`."""
        return self._read_products(request, "unsubscribe")

    def _read_products(self, request: Mapping[str, Any], kind: str) -> Sequence[str]:
        if request.get("type") != kind or "matches" not in request.get("channels", ()):
            return ()
        return [str(product) for product in request.get("product_ids", ())]

    def answer(self, request: Mapping[str, Any], pairs: Collection[str]) -> Sequence[str]:
        """Acknowledge all products in one reply, or refuse the first that is not listed."""
        if self.unsubscribes(request):
            return [json.dumps({"type": "subscriptions", "channels": []})]
        wanted = self.subscribes(request)
        unlisted = [pair for pair in wanted if pair not in pairs]
        if unlisted or not wanted:
            return self.refuse(request, *unlisted[:1])
        channels = [{"name": name, "product_ids": wanted} for name in request["channels"]]
        return [json.dumps({"type": "subscriptions", "channels": channels})]

    def refuse(self, request: Mapping[str, Any], pair: str = "") -> Sequence[str]:
        """Refuse the whole request."""
        reason = f"{pair} is not a valid product" if pair else "no product or channel named"
        message = {"type": "error", "message": "Failed to subscribe", "reason": reason}
        return [json.dumps(message)]

    def catch_up(self, trades: Sequence[SentTrade]) -> Sequence[str]:
        """Send the last trade as `last_match`."""
        return [self.render([trade], "last_match") for trade in trades[-1:]]

    def announce_shutdown(self) -> Sequence[str]:
        """Say nothing: Coinbase closes without a word."""
        return ()

    def render(self, trades: Sequence[SentTrade], kind: str = "match") -> str:
        """Write the one trade of a frame."""
        (trade,) = trades
        return (
            f'{{"type":"{kind}","trade_id":{trade.trade_id},"maker_order_id":"m","taker_order_id":'
            f'"t","side":"{_MAKER_SIDES[trade.side]}","size":"{trade.quantity}",'
            f'"price":"{trade.price}","product_id":"{trade.pair}",'
            f'"sequence":{int(trade.trade_id) * 3},"time":"{_to_text(trade.timestamp_us)}"}}'
        )

    def answer_get(
        self, path: str, query: Mapping[str, str], pairs: Collection[str], trades: Trades
    ) -> RestAnswer | None:
        """Answer `/products/<pair>/trades`: newest first, below the id `after`."""
        match = re.fullmatch(r"/products/([^/]+)/trades", path)
        if match is None:
            return None
        if match[1] not in pairs:
            return RestAnswer(404, '{"message":"NotFound"}')
        try:
            limit = min(int(query.get("limit", "1000")), 1000)
            after = int(query["after"]) if "after" in query else None
        except ValueError:
            return RestAnswer(400, '{"message":"Invalid parameter"}')
        rows = ",".join(
            f'{{"trade_id":{t.trade_id},"side":"{_MAKER_SIDES[t.side]}","size":"{t.quantity}",'
            f'"price":"{t.price}","time":"{_to_text(t.timestamp_us)}"}}'
            for t in islice(trades.before_id(match[1], after), limit)
        )
        return RestAnswer(200, f"[{rows}]")

    def refuse_get(self) -> RestAnswer:
        """Answer 429 with the seconds to wait."""
        return RestAnswer(429, '{"message":"Public rate limit exceeded"}', {"Retry-After": "1"})

    def read(self, frame: Mapping[str, Any]) -> Reading:
        """Read a match."""
        if frame.get("type") not in _TYPES:
            return Reading()
        try:
            return Reading(trades=(self._read_trade(frame),))
        except (KeyError, ValueError, TypeError) as error:
            return Reading(problem=f"unreadable {error}")

    def _read_trade(self, frame: Mapping[str, Any]) -> SentTrade:
        pair, moment = read_text(frame["product_id"]), read_text(frame["time"])
        if "sequence" in frame:
            read_integer(frame["sequence"])
        return SentTrade(
            exchange="COINBASE",
            pair=pair,
            trade_id=str(read_integer(frame["trade_id"])),
            symbol=pair,
            price=read_text(frame["price"]),
            quantity=read_text(frame["size"]),
            side=_TAKER_SIDES[frame["side"]],
            timestamp_us=(_read_time(moment) - _EPOCH) // timedelta(microseconds=1),
        )

    def shift_times(self, raw: str, shift_us: int) -> str:
        """Rewrite the RFC 3339 times."""
        return _TIMES.sub(lambda match: match[1] + _shift(match[2], shift_us) + match[3], raw)


def _read_time(text: str) -> datetime:
    if not _RFC_3339.fullmatch(text):
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    return datetime.fromisoformat(text.upper())


def _shift(text: str, shift_us: int) -> str:
    """Return the shifted time; a text that is no time with a zone stays as it is."""
    try:
        return _to_text((_read_time(text) - _EPOCH) // timedelta(microseconds=1) + shift_us)
    except (ValueError, OverflowError):
        return text


def _to_text(timestamp_us: int) -> str:
    moment = _EPOCH + timedelta(microseconds=timestamp_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
