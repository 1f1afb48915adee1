"""Kraken spot: WebSocket v2, channel `trade`; `Trades` over REST.

Protocol: Kraken API centre, websocket-v2/trade and get-recent-trades. A frame holds many trades:
each counts. `trade_id` is contiguous per book. Prices and quantities are bare JSON numbers whose
text is taken as it is, never through a float. `side` is the taker's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self

import msgspec

from k2_schemas import FieldError, InstrumentList, Side, Trade, parse_units

from ..errors import SubscriptionRejectedError
from ..event import BACKFILL, ORIGIN
from ..rest import (
    DECODE_ERRORS,
    Hole,
    RestLimit,
    RestPage,
    RestRequest,
    RestResponse,
    read_refusal,
    read_rows,
    rest_beside,
)
from ..venue import Decoded, TradeFactories

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WS_URLS = ("wss://ws.kraken.com", "wss://beta-ws.kraken.com")
_REST_URL = "https://api.kraken.com"
_PAGE_TRADES = 1_000
_MAX_ORDER_TYPE_CHARS = 64
_REST_SIDES: dict[str, Side] = {"b": "BUY", "s": "SELL"}
_REST_TYPES = {"m": "market", "l": "limit"}
_SIDES: dict[str, Side] = {"buy": "BUY", "sell": "SELL"}


class _Envelope(msgspec.Struct):
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw()
    method: str = ""
    success: bool | None = None
    error: str | None = None
    result: msgspec.Raw = msgspec.Raw()
    symbol: str = ""


class _Trade(msgspec.Struct):
    symbol: str
    side: Literal["buy", "sell"]
    price: msgspec.Raw
    qty: msgspec.Raw
    trade_id: int
    timestamp: datetime
    ord_type: str = ""


class _Status(msgspec.Struct):
    system: str = ""


class _Subscribed(msgspec.Struct):
    symbol: str


class _RestBody(msgspec.Struct):
    error: list[str] = []
    result: dict[str, msgspec.Raw] = {}


_Row = tuple[str, str, msgspec.Raw, Literal["b", "s"], str, str, int]
"""Price, volume, seconds, side, order type, a text of no use, trade id."""


class _Numbered(msgspec.Struct):
    """What is left of a trade that cannot be read: whose it is, and its id."""

    symbol: str
    trade_id: int


class Kraken:
    """Kraken spot. `symbols` are canonical (`BTC/USD`; XBT and XDG are understood too)."""

    name = "kraken"
    rest_limit = RestLimit(weight=1, per_s=1.0)
    ping_every_s = 2.0
    """Heartbeats come every second: six seconds of silence are a dead socket."""

    def __init__(
        self,
        symbols: Iterable[str],
        base_url: str | None = None,
        rest_url: str | None = None,
    ) -> None:
        self.instruments = InstrumentList(self.name, symbols)
        self._places = (base_url, rest_url)
        self._base_urls = _WS_URLS if base_url is None else (base_url,)
        self._rest_url = rest_url or (_REST_URL if base_url is None else rest_beside(base_url))
        self._factories = TradeFactories(self.instruments)
        self._envelopes = msgspec.json.Decoder(_Envelope)
        self._batches = msgspec.json.Decoder(list[msgspec.Raw])
        self._trades = msgspec.json.Decoder(_Trade)
        self._pages = msgspec.json.Decoder(_RestBody)
        self._rows = msgspec.json.Decoder(_Row)

    @property
    def urls(self) -> Sequence[str]:
        """The v2 endpoints; the beta one is fed by the same engine."""
        return [f"{url}/v2" for url in self._base_urls]

    def of(self, symbols: Iterable[str]) -> Self:
        """Return Kraken for other symbols."""
        return type(self)(symbols, *self._places)

    def subscribe_frames(self, pairs: Sequence[str]) -> Sequence[str]:
        """Return one request for all pairs; `snapshot` is explicit, its default has changed."""
        params = {"channel": "trade", "symbol": list(pairs), "snapshot": True}
        return [_write_request("subscribe", params)]

    def unsubscribe_frames(self, pairs: Sequence[str]) -> Sequence[str]:
        """Return one request for all pairs."""
        return [_write_request("unsubscribe", {"channel": "trade", "symbol": list(pairs)})]

    def ping_frame(self) -> str:
        """Return the application ping; a pong answers it."""
        return '{"method":"ping"}'

    def decode(self, frame: bytes, recv_us: int) -> Decoded:
        """Decode one frame; see `Venue.decode`. A bad trade does not hold back its neighbours."""
        try:
            envelope = self._envelopes.decode(frame)
            if envelope.channel == "trade":
                return self._decode_batch(self._batches.decode(envelope.data), recv_us)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return Decoded(rejections=(str(error),))
        if envelope.channel:
            closing = envelope.channel == "status" and _says_offline(envelope.data)
            return Decoded(control=envelope.channel, closing=closing)
        return self._decode_reply(envelope)

    def _decode_batch(self, batch: Iterable[msgspec.Raw], recv_us: int) -> Decoded:
        trades: list[Trade] = []
        rejections: list[str] = []
        dead_ids: list[tuple[str, int]] = []
        for raw in batch:
            try:
                trades.append(self._build_trade(self._trades.decode(raw), recv_us))
            except DECODE_ERRORS as error:
                rejections.append(str(error))
                dead_ids += self._read_dead_ids(raw)
        return Decoded(_order(trades), rejections, dead_ids=dead_ids)

    def _read_dead_ids(self, raw: msgspec.Raw) -> Sequence[tuple[str, int]]:
        try:
            numbered = msgspec.json.decode(raw, type=_Numbered)
            return ((self.instruments.find(numbered.symbol).pair, numbered.trade_id),)
        except DECODE_ERRORS:
            return ()

    def _build_trade(self, raw: _Trade, recv_us: int) -> Trade:
        if raw.timestamp.tzinfo is None:
            raise FieldError("timestamp", raw.timestamp, "has no time zone")
        # v2 writes BTC/USD; XBT/USD still appears in recordings and in REST names.
        pair = self.instruments.find(raw.symbol).pair
        _check_order_type(raw.ord_type)
        return self._factories[pair].make(
            raw.trade_id,
            _number_text(raw.price),
            _number_text(raw.qty),
            _SIDES[raw.side],
            (raw.timestamp - _EPOCH) // _MICROSECOND,
            recv_us,
            {"pair": pair, "ord_type": raw.ord_type},
        )

    def _decode_reply(self, envelope: _Envelope) -> Decoded:
        if envelope.method == "unsubscribe":
            # Refused, too, it is what was wanted: the pair is not subscribed.
            return Decoded(control="acknowledgement")
        if envelope.success is False or envelope.error:
            pairs = [envelope.symbol] if envelope.symbol else []
            raise SubscriptionRejectedError(self.name, envelope.error or "no reason given", pairs)
        if envelope.method == "subscribe":
            return Decoded(control="acknowledgement", acknowledged=self._read_symbols(envelope))
        if envelope.method:
            return Decoded(control="acknowledgement")
        return Decoded(rejections=("JSON, but no frame that Kraken v2 is known to send",))

    def _read_symbols(self, envelope: _Envelope) -> list[str]:
        try:
            symbol = msgspec.json.decode(envelope.result, type=_Subscribed).symbol
            return [self.instruments.find(symbol).pair]
        except DECODE_ERRORS:
            return []

    def first_request(self, hole: Hole) -> RestRequest:
        """Ask `Trades`, which goes by time: from a microsecond before the last trade known.

        Without a time only the newest page can be asked for: from 0 on it would be years.
        """
        return self._request(hole, max(0, hole.after_us - 1) * 1000)

    def read_page(self, request: RestRequest, response: RestResponse, recv_us: int) -> RestPage:
        """Read a page of `Trades`; rows are matched by id, since times here have more digits."""
        refusal = read_refusal(response)
        if refusal is not None:
            return refusal
        hole = request.hole
        try:
            body = self._pages.decode(response.body)
            if body.error:
                return _read_errors(body.error)
            last = int(bytes(body.result["last"]).decode().strip('"'))
            (name,) = body.result.keys() - {"last"}
            raws = self._batches.decode(body.result[name])
            rows = read_rows(
                raws,
                hole,
                _read_row_id,
                lambda raw: self._build_rest_trade(self._rows.decode(raw), hole, recv_us),
            )
        except (*DECODE_ERRORS, KeyError, ValueError) as error:
            return RestPage(problem=f"{type(error).__name__}: {error}")
        goes_on = rows.newest_id < hole.last_id and len(raws) >= _PAGE_TRADES
        following = self._follow(request, last) if goes_on else None
        return RestPage(rows.trades, following, dead=rows.dead)

    def _follow(self, request: RestRequest, last_ns: int) -> RestRequest | None:
        """Return the next page's request; no progress, or no time to begin from, is the end."""
        since_ns = int(request.cursor)
        if not since_ns or last_ns <= since_ns:
            return None
        # Pages overlap by a nanosecond, as several trades may share one; a page full of a single
        # nanosecond could be read for ever.
        return self._request(request.hole, max(last_ns - 1, since_ns + 1))

    def _build_rest_trade(
        self, row: tuple[str, str, msgspec.Raw, str, str, str, int], hole: Hole, recv_us: int
    ) -> Trade:
        price, quantity, moment, side, kind, _, trade_id = row
        _check_order_type(kind)
        return self._factories[hole.pair].make(
            trade_id,
            price,
            quantity,
            _REST_SIDES[side],
            parse_units("time", bytes(moment).decode(), scale=9, precision=20) // 1000,
            recv_us,
            {"pair": hole.pair, "ord_type": _REST_TYPES.get(kind, kind), ORIGIN: BACKFILL},
        )

    def _request(self, hole: Hole, since_ns: int) -> RestRequest:
        pair = hole.pair.replace("/", "")
        since = f"&since={since_ns}" if since_ns else ""
        url = f"{self._rest_url}/0/public/Trades?pair={pair}{since}&count={_PAGE_TRADES}"
        return RestRequest(url, hole, cursor=str(since_ns))


def _write_request(method: str, params: Mapping[str, object]) -> str:
    return msgspec.json.encode({"method": method, "params": params, "req_id": 1}).decode()


_REFUSED_FOR_NOW = ("Rate limit", "Too many requests", "Temporary lockout", "EService:")
_RETRY_S = 15.0
"""Kraken forgets a request after three seconds, and locks out who goes on regardless."""


def _read_errors(errors: Sequence[str]) -> RestPage:
    if any(text in error for error in errors for text in _REFUSED_FOR_NOW):
        return RestPage(retry_after_s=_RETRY_S)
    unknown = any("Unknown asset pair" in error for error in errors)
    return RestPage(problem=errors[0], unknown_pair=unknown)


def _order(trades: list[Trade]) -> list[Trade]:
    """Return trades ascending by id per pair; those that are so already stay as they lie."""
    newest: dict[str, int] = {}
    for trade in trades:
        trade_id = trade.source_sequence or 0
        if trade_id < newest.get(trade.pair, 0):
            return sorted(trades, key=lambda trade: trade.source_sequence or 0)
        newest[trade.pair] = trade_id
    return trades


def _read_row_id(raw: msgspec.Raw) -> int:
    """Return a row's trade id; raise ValueError for what has none."""
    row = msgspec.json.decode(raw, type=list[Any])
    if len(row) < 7 or type(row[6]) is not int:
        raise ValueError("a row without a trade id")
    return row[6]


def _says_offline(data: msgspec.Raw) -> bool:
    try:
        states = msgspec.json.decode(data, type=list[_Status])
    except DECODE_ERRORS:
        return False
    return any(state.system not in ("", "online") for state in states)


def _check_order_type(text: str) -> None:
    """Refuse what no order is called: memory is counted in trades, which have no long texts."""
    if len(text) > _MAX_ORDER_TYPE_CHARS:
        raise FieldError("ord_type", f"{text[:32]}…", f"has {len(text):,} characters")


def _number_text(raw: msgspec.Raw) -> str:
    return bytes(raw).decode().strip('"')
