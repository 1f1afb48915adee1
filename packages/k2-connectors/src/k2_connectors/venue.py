"""Venue: what every exchange must tell us, sans-IO. Frames in, trades out; no socket, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple, Protocol

from k2_schemas import Instrument, InstrumentList, Side, Trade, parse_units


class Decoded(NamedTuple):
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


class TradeBuilder:
    """Builds a venue's trades, numbering them per symbol as this process saw them."""

    def __init__(self, venue: str) -> None:
        self._exchange = venue.upper()
        self._sequences: dict[str, count[int]] = {}

    def build(
        self,
        instrument: Instrument,
        *,
        trade_id: int,
        price: str,
        quantity: str,
        side: Side,
        timestamp_us: int,
        recv_us: int,
        extras: Iterable[tuple[str, str]] = (),
    ) -> Trade:
        """Return the trade; raise `k2_schemas.TradeFieldError` for digits V2 cannot hold."""
        price_units = parse_units("price", price)
        quantity_units = parse_units("quantity", quantity)
        sequence = self._sequences.setdefault(instrument.pair, count(1))
        return Trade(
            trade_id=str(trade_id),
            symbol=instrument.symbol,
            exchange=self._exchange,
            timestamp_us=timestamp_us,
            price_units=price_units,
            quantity_units=quantity_units,
            currency=instrument.currency,
            side=side,
            ingestion_us=recv_us,
            vendor_data={"pair": instrument.pair, **dict(extras)},
            source_sequence=trade_id,
            platform_sequence=next(sequence),
        )
