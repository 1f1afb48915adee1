"""Coinbase Exchange: channel `matches`; product trades over REST.

Protocol: docs.cdp.coinbase.com/exchange, websocket-channels and get-product-trades. `trade_id` is
contiguous per product, while `sequence` counts every change of the book and has holes for us.
`side` is the maker's, on the socket and over REST: the taker's is the other one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, Self

import msgspec
from msgspec import structs

from k2_schemas import FieldError, InstrumentList, Side, Trade

from ..errors import SubscriptionRejectedError
from ..event import BACKFILL, ORIGIN
from ..rest import (
    DECODE_ERRORS,
    OPEN_END,
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

_WS_URL = "wss://ws-feed.exchange.coinbase.com"
_REST_URL = "https://api.exchange.coinbase.com"
_HEADERS = {"User-Agent": "k2-connectors"}
"""Coinbase answers 400 to a client that does not name itself."""
_PAGE_TRADES = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TAKER_SIDES: dict[str, Side] = {"buy": "SELL", "sell": "BUY"}


class _Channel(msgspec.Struct):
    name: str = ""
    product_ids: list[str] = []


class _Envelope(msgspec.Struct):
    type: str
    message: str = ""
    reason: str = ""
    channels: msgspec.Raw = msgspec.Raw()


class _Row(msgspec.Struct, gc=False):
    trade_id: int
    side: Literal["buy", "sell"]
    size: str
    price: str
    time: datetime


class _Match(_Row, gc=False):
    product_id: str
    sequence: int = 0


class _NumberedRow(msgspec.Struct):
    """What is left of a row that cannot be read: its id."""

    trade_id: int


class _NumberedMatch(_NumberedRow):
    product_id: str


class Coinbase:
    """Coinbase Exchange. `symbols` are canonical (`BTC/USD`)."""

    name = "coinbase"
    rest_limit = RestLimit(weight=10, per_s=1.0)
    ping_every_s = 0.0

    def __init__(
        self,
        symbols: Iterable[str],
        base_url: str | None = None,
        rest_url: str | None = None,
    ) -> None:
        self.instruments = InstrumentList(self.name, symbols)
        self._places = (base_url, rest_url)
        self.urls: Sequence[str] = (base_url or _WS_URL,)
        self._rest_url = rest_url or (_REST_URL if base_url is None else rest_beside(base_url))
        self._factories = TradeFactories(self.instruments)
        self._envelopes = msgspec.json.Decoder(_Envelope)
        self._matches = msgspec.json.Decoder(_Match)
        self._pages = msgspec.json.Decoder(list[msgspec.Raw])
        self._rows = msgspec.json.Decoder(_Row)

    def of(self, symbols: Iterable[str]) -> Self:
        """Return Coinbase for other symbols."""
        return type(self)(symbols, *self._places)

    def subscribe_frames(self, pairs: Sequence[str]) -> Sequence[str]:
        """Return one request; heartbeats tell a quiet product from a dead connection."""
        return [_write_request("subscribe", pairs)]

    def unsubscribe_frames(self, pairs: Sequence[str]) -> Sequence[str]:
        """Return one request; both channels end."""
        return [_write_request("unsubscribe", pairs)]

    def ping_frame(self) -> str:
        """Return nothing to send: a heartbeat comes every second."""
        return ""

    def decode(self, frame: bytes, recv_us: int) -> Decoded:
        """Decode one frame; see `Venue.decode`."""
        try:
            envelope = self._envelopes.decode(frame)
            if envelope.type in ("match", "last_match"):
                match = self._matches.decode(frame)
                vendor = {"pair": match.product_id, "sequence": str(match.sequence)}
                return Decoded((self._build_trade(match.product_id, match, recv_us, vendor),))
        except DECODE_ERRORS as error:
            return Decoded(rejections=(str(error),), dead_ids=self._read_dead_ids(frame))
        return self._decode_control(envelope)

    def _read_dead_ids(self, frame: bytes) -> Sequence[tuple[str, int]]:
        try:
            numbered = msgspec.json.decode(frame, type=_NumberedMatch)
            return ((self.instruments.find(numbered.product_id).pair, numbered.trade_id),)
        except DECODE_ERRORS:
            return ()

    def _decode_control(self, envelope: _Envelope) -> Decoded:
        match envelope.type:
            case "error":
                reason = ": ".join(filter(None, (envelope.message, envelope.reason)))
                raise SubscriptionRejectedError(self.name, reason or "no reason given")
            case "subscriptions":
                pairs = self._read_acknowledged(envelope.channels)
                return Decoded(control="acknowledgement", acknowledged=pairs)
            case "":
                reason = "JSON, but no frame that Coinbase is known to send"
                return Decoded(rejections=(reason,))
            case other:
                return Decoded(control=other)

    def _read_acknowledged(self, raw: msgspec.Raw) -> Sequence[str]:
        try:
            channels = msgspec.json.decode(raw, type=list[_Channel])
        except DECODE_ERRORS:
            return ()
        names = {
            n for channel in channels if channel.name == "matches" for n in channel.product_ids
        }
        return [i.pair for i in self.instruments if i.pair in names]

    def first_request(self, hole: Hole) -> RestRequest:
        """Return the GET of a hole's first page.

        Pages go backwards from `after`. Ids are contiguous, so that `after` a page's length above
        the first id gives the oldest page first.
        """
        return self._request(hole, hole.first_id)

    def read_page(self, request: RestRequest, response: RestResponse, recv_us: int) -> RestPage:
        """Read a page of trades, newest first; see `Venue.read_page`."""
        refusal = read_refusal(response)
        if refusal is not None:
            return structs.replace(refusal, unknown_pair=b"NotFound" in response.body)
        hole, first_id = request.hole, int(request.cursor)
        try:
            rows = read_rows(
                self._pages.decode(response.body),
                hole._replace(first_id=first_id),
                lambda raw: msgspec.json.decode(raw, type=_NumberedRow).trade_id,
                lambda raw: self._build_trade(
                    hole.pair,
                    self._rows.decode(raw),
                    recv_us,
                    {"pair": hole.pair, ORIGIN: BACKFILL},
                ),
            )
        except DECODE_ERRORS as error:
            return RestPage(problem=str(error))
        # A page without ours is no end: ids may lack by the thousand. Only a probe knows no other.
        goes_on = first_id + _PAGE_TRADES <= hole.last_id and (
            hole.last_id != OPEN_END or rows.newest_id >= first_id
        )
        following = self._request(hole, first_id + _PAGE_TRADES) if goes_on else None
        return RestPage(rows.trades, following, dead=rows.dead)

    def _request(self, hole: Hole, first_id: int) -> RestRequest:
        after = min(hole.last_id + 1, first_id + _PAGE_TRADES)
        url = f"{self._rest_url}/products/{hole.pair}/trades?after={after}&limit={_PAGE_TRADES}"
        return RestRequest(url, hole, headers=_HEADERS, cursor=str(first_id))

    def _build_trade(self, pair: str, row: _Row, recv_us: int, vendor: dict[str, str]) -> Trade:
        if row.time.tzinfo is None:
            raise FieldError("time", row.time, "has no time zone")
        return self._factories[pair].make(
            row.trade_id,
            row.price,
            row.size,
            _TAKER_SIDES[row.side],
            (row.time - _EPOCH) // _MICROSECOND,
            recv_us,
            vendor,
        )


def _write_request(kind: str, pairs: Sequence[str]) -> str:
    channels = ["matches", "heartbeat"]
    request = {"type": kind, "product_ids": list(pairs), "channels": channels}
    return msgspec.json.encode(request).decode()
