"""TradeFactory: the trades of one instrument, from the texts and numbers that an exchange sends."""

from __future__ import annotations

from itertools import count
from typing import Protocol

from ._backend import choose_trade_factory
from ._limits import FIRST, LAST
from ._plan import Kind
from .errors import FieldError
from .instrument import Instrument
from .trade import Side, Trade
from .units import parse_units


class TradeFactory(Protocol):
    """Makes the trades of one instrument, numbered as this process saw them."""

    def make(
        self,
        trade_id: int,
        price: str,
        quantity: str,
        side: Side,
        timestamp_us: int,
        ingestion_us: int,
        vendor_data: dict[str, str],
    ) -> Trade:
        """Return the trade; raise `FieldError` for a number that contract V2 cannot hold.

        `trade_id` is the exchange's own, as a number; times are microseconds since 1970 UTC;
        `vendor_data` holds `pair`, the venue's own symbol, and what only this venue sends.
        """


def open_trade_factory(venue: str, instrument: Instrument) -> TradeFactory:
    """Return the factory of an instrument, compiled where that was built."""
    reference = PythonTradeFactory(venue.upper(), instrument.symbol, instrument.currency)
    factory: TradeFactory = choose_trade_factory(reference)
    return factory


class PythonTradeFactory:
    """The factory in Python; see `TradeFactory`."""

    def __init__(self, exchange: str, symbol: str, currency: str) -> None:
        self.trade_type = Trade
        self.exchange = exchange
        self.symbol = symbol
        self.currency = currency
        self._next_sequence = count(1).__next__

    def make(
        self,
        trade_id: int,
        price: str,
        quantity: str,
        side: Side,
        timestamp_us: int,
        ingestion_us: int,
        vendor_data: dict[str, str],
    ) -> Trade:
        """Return the trade; see `TradeFactory.make`."""
        price_units = parse_units("price", price)
        quantity_units = parse_units("quantity", quantity)
        if type(trade_id) is not int or not -(2**63) <= trade_id < 2**63:
            raise FieldError(
                "source_sequence", trade_id, "not an int within the 64 bits of Avro's long"
            )
        if not FIRST[Kind.TIMESTAMP_MICROS] <= timestamp_us <= LAST[Kind.TIMESTAMP_MICROS]:
            raise FieldError("timestamp", timestamp_us, "not within the years 1 to 9999")
        return Trade(
            trade_id=str(trade_id),
            symbol=self.symbol,
            exchange=self.exchange,
            timestamp_us=timestamp_us,
            price_units=price_units,
            quantity_units=quantity_units,
            currency=self.currency,
            side=side,
            ingestion_us=ingestion_us,
            vendor_data=vendor_data,
            source_sequence=trade_id,
            platform_sequence=self._next_sequence(),
        )
