"""Trade: one public trade of a crypto exchange, exactly as contract V2 holds it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from hashlib import sha1
from typing import Literal
from uuid import UUID

import msgspec

from .errors import TradeFieldError

Side = Literal["BUY", "SELL"]

SCALE = 8
"""Fraction digits of every price and quantity."""

UNITS_PER_ONE = 10**SCALE

MAX_UNITS = 10**18 - 1
"""The largest scaled integer that decimal(18,8) holds: 9,999,999,999.99999999."""

MESSAGE_ID_NAMESPACE = UUID("6b2f7a3e-5d43-5e0b-9c4a-2f1d8e7c6b5a")
"""Fixed for ever: changing it would give every trade a second identity."""


_NUMBER = re.compile(r"([+-]?)(\d*)\.?(\d*)(?:[eE]([+-]?\d{1,3}))?", re.ASCII)


class Trade(msgspec.Struct, frozen=True, kw_only=True):
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
    def pair(self) -> str:
        """The venue's own symbol."""
        return self.vendor_data["pair"]

    @property
    def message_id(self) -> str:
        """UUIDv5 of exchange, venue pair and trade id: equal for equal trades, whoever sends it."""
        return derive_message_id(self.exchange, self.pair, self.trade_id)


def derive_message_id(exchange: str, pair: str, trade_id: str) -> str:
    """Return the UUIDv5 text of a trade, computed when needed and not before.

    Equal to `uuid.uuid5(MESSAGE_ID_NAMESPACE, f"{exchange}|{pair}|{trade_id}")` (RFC 9562 §5.5),
    without building a UUID object.
    """
    digest = bytearray(
        sha1(
            MESSAGE_ID_NAMESPACE.bytes + f"{exchange}|{pair}|{trade_id}".encode(),
            usedforsecurity=False,
        ).digest()[:16]
    )
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def parse_units(field: str, text: str) -> int:
    """Turn decimal text into an integer of 1e-8, exact or an error.

    Accepts what exchanges send: an optional sign, digits, an optional fraction, an optional
    exponent. Raises `TradeFieldError` for anything else, for more than 8 significant fraction
    digits and for values that decimal(18,8) cannot hold.
    """
    whole, _, fraction = text.partition(".")
    if whole.isdecimal() and whole.isascii() and (not fraction or _is_digits(fraction)):
        if len(fraction) > SCALE:
            if fraction[SCALE:].strip("0"):
                raise TradeFieldError(field, text, f"more than {SCALE} fraction digits")
            fraction = fraction[:SCALE]
        # Length before int(): a megabyte of digits must not become a bignum.
        if len(whole) > 40:
            raise TradeFieldError(field, text, "more than 10 whole digits")
        return _check_range(field, text, int(whole + fraction.ljust(SCALE, "0")))
    return _parse_unusual(field, text)


def _is_digits(text: str) -> bool:
    return text.isdecimal() and text.isascii()


def _parse_unusual(field: str, text: str) -> int:
    """Signs and exponents: rare on the wire, legal in JSON."""
    match = _NUMBER.fullmatch(text) if len(text) <= 60 else None
    if match is None or not match[2] + match[3]:
        raise TradeFieldError(field, text, "not a decimal number")
    units = int(match[2] + match[3])
    shift = int(match[4] or "0") - len(match[3]) + SCALE
    if units and shift > 30:
        raise TradeFieldError(field, text, "more than 10 whole digits")
    if shift >= 0:
        units = units * 10**shift if units else 0
    else:
        units, lost = divmod(units, 10**-shift)
        if lost:
            raise TradeFieldError(field, text, f"more than {SCALE} fraction digits")
    return _check_range(field, text, -units if match[1] == "-" else units)


def _check_range(field: str, value: object, units: int) -> int:
    if not -MAX_UNITS <= units <= MAX_UNITS:
        raise TradeFieldError(
            field, value, "beyond decimal(18,8): at most 10 whole and 8 fraction digits"
        )
    return units


def units_to_decimal(units: int) -> Decimal:
    """Turn an integer of 1e-8 into a Decimal with 8 fraction digits, exact at any size."""
    sign, digits = (1, str(-units)) if units < 0 else (0, str(units))
    return Decimal((sign, tuple(map(int, digits)), -SCALE))


def decimal_to_units(field: str, value: Decimal) -> int:
    """Turn a Decimal into an integer of 1e-8, exact or `TradeFieldError`."""
    if not isinstance(value, Decimal) or not value.is_finite():
        raise TradeFieldError(field, value, "not a finite Decimal")
    return parse_units(field, format(value, "f"))
