"""Venue: what every exchange must tell us, sans-IO. Frames in, trades out; no socket, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from k2_schemas import InstrumentList, Trade, TradeFactory, open_trade_factory


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """What one frame held.

    `trades` are exact. `rejections` say why the frame, or a trade in it, must go to the dead
    letters. `control` names a frame that is no trade (acknowledgement, heartbeat, status, …).
    """

    trades: Sequence[Trade] = ()
    rejections: Sequence[str] = ()
    control: str | None = None


class Venue(Protocol):
    """One exchange, as a pure function of its frames."""

    name: str
    instruments: InstrumentList

    @property
    def url(self) -> str:
        """The WebSocket endpoint to connect to."""

    def subscribe_frames(self) -> Sequence[str]:
        """Return the text frames that subscribe every instrument."""

    def decode(self, frame: bytes, recv_us: int) -> Decoded:
        """Decode one frame received at `recv_us` (microseconds since 1970 UTC).

        Never raises for bad bytes: they become rejections. Raises `SubscriptionRejectedError`
        when the exchange refuses a symbol.
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
