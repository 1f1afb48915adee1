"""Venue: what every exchange must tell us, sans-IO. Frames in, trades out; no socket, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, Self

import msgspec

from k2_schemas import InstrumentList, Trade, TradeFactory, open_trade_factory

from .rest import Hole, RestLimit, RestPage, RestRequest, RestResponse


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """What one frame held.

    `trades` are exact, ascending by id per pair. `rejections` say why the frame, or a trade in it,
    must go to the dead letters. `control` names a frame that is no trade (acknowledgement,
    heartbeat, status, …). `acknowledged` are the pairs whose subscription the frame confirms.
    `dead_ids` are (pair, id) of the trades among the rejections: they came, they are not missing.
    `closing` is set when the venue says that it is about to end this connection.
    """

    trades: Sequence[Trade] = ()
    rejections: Sequence[str] = ()
    control: str | None = None
    acknowledged: Sequence[str] = ()
    dead_ids: Sequence[tuple[str, int]] = ()
    closing: bool = False


class Venue(Protocol):
    """One exchange, as a pure function of its frames and REST pages: no socket, no clock."""

    name: str
    instruments: InstrumentList
    rest_limit: RestLimit
    ping_every_s: float
    """How long a connection may be quiet before a ping of the venue's own is due; 0: none."""

    @property
    def urls(self) -> Sequence[str]:
        """The WebSocket endpoints, all of this one venue, the preferred first."""

    def of(self, symbols: Iterable[str]) -> Self:
        """Return this venue, at the same endpoints, for other canonical symbols."""

    def subscribe_frames(self, pairs: Sequence[str]) -> Sequence[str]:
        """Return the text frames that subscribe `pairs`, which are some of the instruments'.

        The acknowledgement of the last request sent may name more pairs than it was for.
        """

    def unsubscribe_frames(self, pairs: Sequence[str]) -> Sequence[str]:
        """Return the text frames that end the subscription of `pairs`; no answer is waited for."""

    def ping_frame(self) -> str:
        """Return the venue's own ping, if `ping_every_s` is not 0."""

    def decode(self, frame: bytes, recv_us: int) -> Decoded:
        """Decode one frame received at `recv_us` (microseconds since 1970 UTC).

        Never raises for bad bytes: they become rejections. Raises `SubscriptionRejectedError`
        when the exchange refuses a symbol.
        """

    def first_request(self, hole: Hole) -> RestRequest:
        """Return the GET of a hole's first page."""

    def read_page(self, request: RestRequest, response: RestResponse, recv_us: int) -> RestPage:
        """Return what a page holds of its hole; never raises for bad bytes."""


class RunDecoder(Protocol):
    """What a venue has beside when nearly all of its frames hold one trade each: it is faster."""

    def decode_run(self, frames: Sequence[bytes], recv_us: int) -> list[Trade]:
        """Return the trades of the first frames, up to one that is not exactly a good trade.

        As `decode` would; that one frame, and what it says, is left to `decode`.
        """


class TradeFactories(dict[str, TradeFactory]):
    """One factory for each configured instrument of a venue, by every name the venue has for it.

    Any other name raises `k2_schemas.UnknownSymbolError`, naming the closest.
    """

    def __init__(self, instruments: InstrumentList) -> None:
        by_pair = {i.pair: open_trade_factory(instruments.venue, i) for i in instruments}
        super().__init__((name, by_pair[i.pair]) for name, i in instruments.names.items())
        self._instruments = instruments

    def __missing__(self, name: str) -> TradeFactory:
        return self[self._instruments.find(name).pair]
