"""Trade: one public trade of a crypto exchange, exactly as contract V2 holds it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal
from uuid import UUID

import msgspec

from ._backend import choose_message_ids
from ._message_id import PythonMessageIds
from .units import format_units, units_to_decimal

Side = Literal["BUY", "SELL"]

MESSAGE_ID_NAMESPACE = UUID("6b2f7a3e-5d43-5e0b-9c4a-2f1d8e7c6b5a")
"""Fixed for ever: changing it would give every trade a second identity."""


_IDS = choose_message_ids(PythonMessageIds(MESSAGE_ID_NAMESPACE.bytes))


def derive_message_id(exchange: str, pair: str, trade_id: str) -> str:
    """Return the UUIDv5 text of a trade, computed when needed and not before.

    Equal to `uuid.uuid5(MESSAGE_ID_NAMESPACE, f"{exchange}|{pair}|{trade_id}")` (RFC 9562 §5.5).
    """
    text: str = _IDS.derive(exchange, pair, trade_id)
    return text


class Trade(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One trade. Prices and quantities are integers of 1e-8, times are microseconds since 1970 UTC.

    `side` is the taker's. `vendor_data` always holds `pair`, the venue's own symbol.
    Build one from text with `parse_units`; nothing here ever passes through a float.
    """

    trade_id: str
    symbol: str
    exchange: str
    timestamp_us: int
    price_units: int
    quantity_units: int
    currency: str
    side: Side
    ingestion_us: int
    vendor_data: Mapping[str, str]
    source_sequence: int | None = None
    platform_sequence: int | None = None
    asset_class: Literal["crypto"] = "crypto"
    trade_conditions: tuple[str, ...] = ()

    @property
    def price(self) -> Decimal:
        """The price, exact, with 8 fraction digits."""
        return units_to_decimal(self.price_units)

    @property
    def quantity(self) -> Decimal:
        """The quantity in the base currency, exact, with 8 fraction digits."""
        return units_to_decimal(self.quantity_units)

    @property
    def price_text(self) -> str:
        """The price as text with 8 fraction digits."""
        return format_units(self.price_units)

    @property
    def quantity_text(self) -> str:
        """The quantity in the base currency as text with 8 fraction digits."""
        return format_units(self.quantity_units)

    @property
    def pair(self) -> str:
        """The venue's own symbol."""
        return self.vendor_data["pair"]

    message_id = property(
        _IDS.of_trade,
        doc="UUIDv5 of exchange, venue pair and trade id: equal for equal trades.",
    )
