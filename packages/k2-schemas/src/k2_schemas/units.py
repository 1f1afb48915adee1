"""Units: decimals as integers of a fixed number of fraction digits. Exact, or a `FieldError`."""

from __future__ import annotations

import re
from decimal import Decimal

from ._backend import choose_parser
from .errors import FieldError

SCALE = 8
"""Fraction digits of every price and quantity."""

PRECISION = 18
"""Digits of every price and quantity, fraction included."""

MAX_UNITS = 10**PRECISION - 1
"""The largest scaled integer that decimal(18,8) holds: 9,999,999,999.99999999."""

_NUMBER = re.compile(r"([+-]?)(\d*)\.?(\d*)(?:[eE]([+-]?\d{1,3}))?", re.ASCII)


@choose_parser
def parse_units(field: str, text: str, scale: int = SCALE, precision: int = PRECISION) -> int:
    """Turn decimal text into an integer of 10^-scale, exact or an error.

    Accepts what exchanges send: an optional sign, digits, an optional fraction, an optional
    exponent. Raises `FieldError` for anything else, for more than `scale` significant fraction
    digits and for values that decimal(precision, scale) cannot hold.
    """
    whole, _, fraction = text.partition(".")
    if whole.isdecimal() and whole.isascii() and (not fraction or _is_digits(fraction)):
        if len(fraction) > scale:
            if fraction[scale:].strip("0"):
                raise FieldError(field, text, f"more than {scale} fraction digits")
            fraction = fraction[:scale]
        # Length before int(): a megabyte of digits must not become a bignum.
        if len(whole) > precision + 22:
            raise FieldError(field, text, f"more than {precision - scale} whole digits")
        units = int(whole + fraction.ljust(scale, "0"))
        return check_units(field, text, units, scale, precision)
    return _parse_unusual(field, text, scale, precision)


def _is_digits(text: str) -> bool:
    return text.isdecimal() and text.isascii()


def _parse_unusual(field: str, text: str, scale: int, precision: int) -> int:
    """Signs and exponents: rare on the wire, legal in JSON."""
    match = _NUMBER.fullmatch(text) if len(text) <= precision + 42 else None
    if match is None or not match[2] + match[3]:
        raise FieldError(field, text, "not a decimal number")
    units = int(match[2] + match[3])
    shift = int(match[4] or "0") - len(match[3]) + scale
    if units and shift > precision + scale + 4:
        raise FieldError(field, text, f"more than {precision - scale} whole digits")
    if shift >= 0:
        units = units * 10**shift if units else 0
    else:
        units, lost = divmod(units, 10**-shift)
        if lost:
            raise FieldError(field, text, f"more than {scale} fraction digits")
    return check_units(field, text, -units if match[1] == "-" else units, scale, precision)


def check_units(
    field: str, value: object, units: int, scale: int = SCALE, precision: int = PRECISION
) -> int:
    """Return `units`, or raise `FieldError` if decimal(precision, scale) cannot hold them."""
    if abs(units) >= 10**precision:
        raise FieldError(
            field,
            value,
            f"beyond decimal({precision},{scale}): at most {precision - scale} whole "
            f"and {scale} fraction digits",
        )
    return units


def units_to_decimal(units: int, scale: int = SCALE) -> Decimal:
    """Turn an integer of 10^-scale into a Decimal with `scale` fraction digits, at any size."""
    sign, digits = (1, str(-units)) if units < 0 else (0, str(units))
    return Decimal((sign, tuple(map(int, digits)), -scale))


def decimal_to_units(
    field: str, value: Decimal, scale: int = SCALE, precision: int = PRECISION
) -> int:
    """Turn a Decimal into an integer of 10^-scale, exact or `FieldError`."""
    if not isinstance(value, Decimal) or not value.is_finite():
        raise FieldError(field, value, "not a finite Decimal")
    sign, digits, exponent = value.as_tuple()
    if not any(digits):
        return 0
    # A Decimal may say 1E+999999999 in a few bytes: look at its size before writing it out.
    if value.adjusted() >= precision - scale:
        return check_units(field, value, 10**precision, scale, precision)
    shift = int(exponent) + scale
    if shift < 0:
        if any(digits[shift:]):
            raise FieldError(field, value, f"more than {scale} fraction digits")
        digits, shift = digits[:shift], 0
    units = int("".join(map(str, digits)) or "0") * int(10**shift)
    return -units if sign else units


def format_units(units: int, scale: int = SCALE) -> str:
    """Turn an integer of 10^-scale into text with `scale` fraction digits.

    >>> format_units(6_183_763_000_000)
    '61837.63000000'
    """
    digits = str(abs(units)).rjust(scale + 1, "0")
    sign = "-" if units < 0 else ""
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else f"{sign}{digits}"
