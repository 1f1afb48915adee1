"""Binance spot: `trade` streams on a combined socket, `historicalTrades` over REST.

Protocol: binance-spot-api-docs, web-socket-streams.md and rest-api.md. `t` is the trade id,
contiguous per symbol; `T` is the match time, `E` the send time; `m` true means that the taker sold.
Extra keys (`b` and `a` before 2024-06) are tolerated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal, Self

import msgspec
from msgspec import structs

from k2_schemas import InstrumentList, Trade

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

_FIRST_MICROSECOND_STAMP = 10**14
"""Times at or above this are microseconds (timeUnit=MICROSECOND); as milliseconds: year 5138."""


_WS_URLS = (
    "wss://stream.binance.com:9443",
    "wss://stream.binance.com:443",
    "wss://data-stream.binance.vision",
)
"""Endpoints of one venue. stream.binance.us is another exchange with ids of its own: never here."""

_REST_URL = "https://api.binance.com"
_PAGE_TRADES = 1_000
_SUBSCRIBE_ID = 1
_UNSUBSCRIBE_ID = 2
_PING_ID = 3
_NO_SUCH_SYMBOL = b'"code":-1121,'
_FRAME = b'{"stream":"%b","data":%b}'


class _Envelope(msgspec.Struct):
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw()
    e: str = ""
    id: int | str | None = None
    code: int | None = None
    msg: str = ""
    error: dict[str, Any] | None = None


class _Trade(msgspec.Struct, gc=False):
    e: Literal["trade"]
    E: int
    s: str
    t: int
    p: str
    q: str
    T: int
    m: bool


def _frame_type(streams: Sequence[str]) -> Any:
    """Return the type of a combined stream's frame: one that is for no stream of ours is slower."""
    return msgspec.defstruct(
        "_TradeFrame", [("stream", Literal[tuple(streams)]), ("data", _Trade)], gc=False
    )


class _RestTrade(msgspec.Struct, gc=False):
    id: int
    price: str
    qty: str
    time: int
    isBuyerMaker: bool  # noqa: N815  # Binance's own name


class _Numbered(msgspec.Struct, gc=False):
    """What is left of a trade that cannot be read: whose it is, and its id."""

    s: str
    t: int


class _NumberedFrame(msgspec.Struct, gc=False):
    data: _Numbered


class _NumberedRow(msgspec.Struct, gc=False):
    id: int


class Binance:
    """Binance spot. `symbols` are canonical (`BTC/USDT`)."""

    name = "binance"
    rest_limit = RestLimit(weight=3_000, per_s=60.0)
    """Half of what one address may: others may sit behind it too."""
    ping_every_s = 20.0

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
        self._streams = tuple(_name_stream(i.pair) for i in self.instruments)
        self._decode_trade_frame = msgspec.json.Decoder(_frame_type(self._streams)).decode
        self._envelopes = msgspec.json.Decoder(_Envelope)
        self._pages = msgspec.json.Decoder(list[msgspec.Raw])
        self._rows = msgspec.json.Decoder(_RestTrade)

    @property
    def urls(self) -> Sequence[str]:
        """Combined-stream endpoints; subscribing is by message, so that it is acknowledged."""
        return [f"{url}/stream" for url in self._base_urls]

    def of(self, symbols: Iterable[str]) -> Self:
        """Return Binance for other symbols."""
        return type(self)(symbols, *self._places)

    def subscribe_frames(self, pairs: Sequence[str]) -> Sequence[str]:
        """Return one SUBSCRIBE request: five inbound messages a second is all Binance allows."""
        return [_write_request("SUBSCRIBE", pairs, _SUBSCRIBE_ID)]

    def unsubscribe_frames(self, pairs: Sequence[str]) -> Sequence[str]:
        """Return one UNSUBSCRIBE request."""
        return [_write_request("UNSUBSCRIBE", pairs, _UNSUBSCRIBE_ID)]

    def ping_frame(self) -> str:
        """Return a request that changes nothing: Binance's own pings are answered unseen by us."""
        request = {"method": "LIST_SUBSCRIPTIONS", "id": _PING_ID}
        return msgspec.json.encode(request).decode()

    def decode(self, frame: bytes, recv_us: int) -> Decoded:
        """Decode one frame; see `Venue.decode`."""
        trades: list[Trade] = []
        try:
            self._add_trades([frame], recv_us, trades)
        except DECODE_ERRORS as error:
            return self._decode_other(frame, recv_us, str(error))
        return Decoded(trades)

    def decode_run(self, frames: Sequence[bytes], recv_us: int) -> list[Trade]:
        """Decode frames that are trades; see `RunDecoder`."""
        trades: list[Trade] = []
        with suppress(*DECODE_ERRORS):
            self._add_trades(frames, recv_us, trades)
        return trades

    def _add_trades(self, frames: Sequence[bytes], recv_us: int, trades: list[Trade]) -> None:
        """Add the trade of each frame, or raise at the first that is none."""
        decode, add = self._decode_trade_frame, trades.append
        first = next(iter(self._factories))
        pair, make = first, self._factories[first].make
        for frame in frames:
            raw = decode(frame).data
            if raw.s != pair:
                pair, make = raw.s, self._factories[raw.s].make
            matched = raw.T
            add(
                make(
                    raw.t,
                    raw.p,
                    raw.q,
                    "SELL" if raw.m else "BUY",
                    matched if matched >= _FIRST_MICROSECOND_STAMP else matched * 1000,
                    recv_us,
                    {"pair": pair, "event_time": str(raw.E)},
                )
            )

    def _decode_other(self, frame: bytes, recv_us: int, reason: str) -> Decoded:
        """Decode what is not a good trade of a combined stream; `reason` says why it is not."""
        try:
            envelope = self._envelopes.decode(frame)
        except DECODE_ERRORS as error:
            return Decoded(rejections=(str(error),))
        if envelope.stream in self._streams:
            return Decoded(rejections=(reason,), dead_ids=self._read_dead_ids(frame))
        # A raw stream sends the trade alone, and a symbol not configured has another stream's name:
        # both made into the form of a combined stream that we know.
        if envelope.stream.endswith("@trade"):
            return self.decode(_FRAME % (self._streams[0].encode(), envelope.data), recv_us)
        if envelope.e == "trade" and not envelope.data:
            return self.decode(_FRAME % (self._streams[0].encode(), frame), recv_us)
        return self._decode_control(envelope)

    def _read_dead_ids(self, frame: bytes) -> Sequence[tuple[str, int]]:
        try:
            numbered = msgspec.json.decode(frame, type=_NumberedFrame).data
            return ((self.instruments.find(numbered.s).pair, numbered.t),)
        except DECODE_ERRORS:
            return ()

    def _decode_control(self, envelope: _Envelope) -> Decoded:
        if envelope.code is not None or envelope.error:
            reason = envelope.msg or str(envelope.error or "")
            raise SubscriptionRejectedError(self.name, reason or f"code {envelope.code}")
        if "serverShutdown" in (envelope.e, envelope.stream.lstrip("!")):
            return Decoded(control="shutdown", closing=True)
        if envelope.stream or envelope.e:
            return Decoded(control="other_stream")
        if envelope.id == _PING_ID:
            return Decoded(control="pong")
        if envelope.id is not None:
            pairs = [i.pair for i in self.instruments] if envelope.id == _SUBSCRIBE_ID else []
            return Decoded(control="acknowledgement", acknowledged=pairs)
        return Decoded(rejections=("JSON, but no frame that Binance is known to send",))

    def first_request(self, hole: Hole) -> RestRequest:
        """Ask `historicalTrades`, which goes by id and needs no key."""
        return self._request(hole, hole.first_id)

    def read_page(self, request: RestRequest, response: RestResponse, recv_us: int) -> RestPage:
        """Read a page of `historicalTrades`; see `Venue.read_page`."""
        refusal = read_refusal(response)
        if refusal is not None:
            unknown = response.status == 400 and _NO_SUCH_SYMBOL in response.body
            return structs.replace(refusal, unknown_pair=unknown)
        hole = request.hole
        try:
            raws = self._pages.decode(response.body)
            rows = read_rows(
                raws,
                hole,
                lambda raw: msgspec.json.decode(raw, type=_NumberedRow).id,
                lambda raw: self._build_rest_trade(self._rows.decode(raw), hole, recv_us),
            )
        except DECODE_ERRORS as error:
            return RestPage(problem=str(error))
        last_id = rows.newest_id
        goes_on = len(raws) >= _PAGE_TRADES and int(request.cursor) <= last_id < hole.last_id
        following = self._request(hole, last_id + 1) if goes_on else None
        return RestPage(rows.trades, following, dead=rows.dead)

    def _build_rest_trade(self, row: _RestTrade, hole: Hole, recv_us: int) -> Trade:
        return self._factories[hole.pair].make(
            row.id,
            row.price,
            row.qty,
            "SELL" if row.isBuyerMaker else "BUY",
            row.time if row.time >= _FIRST_MICROSECOND_STAMP else row.time * 1000,
            recv_us,
            {"pair": hole.pair, ORIGIN: BACKFILL},
        )

    def _request(self, hole: Hole, from_id: int) -> RestRequest:
        query = f"symbol={hole.pair}&fromId={from_id}&limit={_PAGE_TRADES}"
        url = f"{self._rest_url}/api/v3/historicalTrades?{query}"
        return RestRequest(url, hole, weight=25, cursor=str(from_id))


def _name_stream(pair: str) -> str:
    return f"{pair.lower()}@trade"


def _write_request(method: str, pairs: Iterable[str], number: int) -> str:
    request = {"method": method, "params": list(map(_name_stream, pairs)), "id": number}
    return msgspec.json.encode(request).decode()
