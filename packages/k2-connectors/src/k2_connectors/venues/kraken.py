"""Kraken spot, WebSocket v2, channel `trade`.

Protocol: Kraken API centre, websocket-v2/trade. A frame holds many trades: each counts. `trade_id`
is contiguous per book. Prices and quantities are bare JSON numbers whose text is taken as it is,
never through a float. `side` is the taker's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from k2_schemas import FieldError, InstrumentList, SchemaError, Side, Trade, parse_units

from ..errors import SubscriptionRejectedError
from ..event import BACKFILL, ORIGIN
from ..rest import Hole, RestLimit, RestPage, RestRequest, RestResponse, read_refusal, rest_beside
from ..venue import Decoded, TradeFactories

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WS_URLS = ("wss://ws.kraken.com", "wss://beta-ws.kraken.com")
_REST_URL = "https://api.kraken.com"
_PAGE_TRADES = 1_000
_DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, SchemaError)
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
        self._base_urls = _WS_URLS if base_url is None else (base_url,)
        self._rest_url = rest_url or (_REST_URL if base_url is None else rest_beside(base_url))
        self._factories = TradeFactories(self.instruments)
        self._envelopes = msgspec.json.Decoder(_Envelope)
        self._batches = msgspec.json.Decoder(list[msgspec.Raw])
        self._trades = msgspec.json.Decoder(_Trade)
        self._pages = msgspec.json.Decoder(_RestBody)
        self._rows = msgspec.json.Decoder(list[tuple[str, str, msgspec.Raw, str, str, str, int]])

    @property
    def urls(self) -> Sequence[str]:
        """The v2 endpoints; the beta one is fed by the same engine."""
        return [f"{url}/v2" for url in self._base_urls]

    def subscribe_frames(self) -> Sequence[str]:
        """Return one request for all symbols; `snapshot` is explicit, its default has changed."""
        params = {
            "channel": "trade",
            "symbol": [instrument.pair for instrument in self.instruments],
            "snapshot": True,
        }
        request = {"method": "subscribe", "params": params, "req_id": 1}
        return [msgspec.json.encode(request).decode()]

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
        for raw in batch:
            try:
                trades.append(self._build_trade(self._trades.decode(raw), recv_us))
            except (
                msgspec.MsgspecError,
                UnicodeDecodeError,
                RecursionError,
                SchemaError,
            ) as error:
                rejections.append(str(error))
        return Decoded(trades, rejections)

    def _build_trade(self, raw: _Trade, recv_us: int) -> Trade:
        if raw.timestamp.tzinfo is None:
            raise FieldError("timestamp", raw.timestamp, "has no time zone")
        # v2 writes BTC/USD; XBT/USD still appears in recordings and in REST names.
        pair = self.instruments.find(raw.symbol).pair
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
        if envelope.success is False or envelope.error:
            raise SubscriptionRejectedError(self.name, envelope.error or "no reason given")
        if envelope.method == "subscribe":
            return Decoded(control="acknowledgement", acknowledged=self._read_symbols(envelope))
        if envelope.method:
            return Decoded(control="acknowledgement")
        return Decoded(rejections=("JSON, but no frame that Kraken v2 is known to send",))

    def _read_symbols(self, envelope: _Envelope) -> list[str]:
        try:
            symbol = msgspec.json.decode(envelope.result, type=_Subscribed).symbol
            return [self.instruments.find(symbol).pair]
        except (msgspec.MsgspecError, SchemaError):
            return []

    def first_request(self, hole: Hole) -> RestRequest:
        """Ask `Trades`, which goes by time: from a microsecond before the last trade known."""
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
                limited = any("Rate limit" in error for error in body.error)
                return RestPage(retry_after_s=5.0) if limited else RestPage(problem=body.error[0])
            last = int(bytes(body.result["last"]).decode().strip('"'))
            (name,) = body.result.keys() - {"last"}
            rows = self._rows.decode(body.result[name])
            trades = [
                self._build_rest_trade(row, hole, recv_us)
                for row in rows
                if hole.first_id <= row[6] <= hole.last_id
            ]
        except (*_DECODE_ERRORS, KeyError, ValueError) as error:
            return RestPage(problem=f"{type(error).__name__}: {error}")
        trades.sort(key=lambda trade: trade.source_sequence or 0)
        reached = any(row[6] >= hole.last_id for row in rows)
        # Pages overlap by a nanosecond, as several trades may share one; no progress is the end.
        cursor = max(0, last - 1)
        if reached or len(rows) < _PAGE_TRADES or cursor <= int(request.cursor):
            return RestPage(trades)
        return RestPage(trades, self._request(hole, cursor))

    def _build_rest_trade(
        self, row: tuple[str, str, msgspec.Raw, str, str, str, int], hole: Hole, recv_us: int
    ) -> Trade:
        price, quantity, moment, side, kind, _, trade_id = row
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
        url = f"{self._rest_url}/0/public/Trades?pair={pair}&since={since_ns}&count={_PAGE_TRADES}"
        return RestRequest(url, hole, cursor=str(since_ns))


def _says_offline(data: msgspec.Raw) -> bool:
    try:
        states = msgspec.json.decode(data, type=list[_Status])
    except msgspec.MsgspecError:
        return False
    return any(state.system not in ("", "online") for state in states)


def _number_text(raw: msgspec.Raw) -> str:
    return bytes(raw).decode().strip('"')
