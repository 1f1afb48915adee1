"""Kinds: what a rule may read, said once for column types and once for Python values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import narwhals.stable.v2 as nw
from narwhals.stable.v2.dtypes import DType


@dataclass(frozen=True, slots=True)
class ColumnKind:
    """One kind of column: how it reads in an error, and which types and values are of it."""

    title: str
    fits_type: Callable[[DType], bool]
    fits_value: Callable[[object], bool]


def _is_number(dtype: DType) -> bool:
    # UInt64 and 128-bit integers do not fit the Int64 in which every engine compares.
    return dtype.is_float() or dtype.is_decimal() or _is_integer(dtype)


def _is_integer(dtype: DType) -> bool:
    return dtype.is_integer() and dtype not in (nw.UInt64, nw.Int128, nw.UInt128)


def _is_text(dtype: DType) -> bool:
    return dtype in (nw.String, nw.Categorical, nw.Enum)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


ANYTHING = ColumnKind("any type", lambda dtype: True, lambda value: True)

NUMBER = ColumnKind(
    "a number (integer up to 64 bit signed, float or decimal)",
    _is_number,
    lambda value: isinstance(value, (Decimal, float)) or _is_int(value),
)

INTEGER = ColumnKind("an integer (up to 64 bit signed)", _is_integer, _is_int)

TEXT = ColumnKind("text", _is_text, lambda value: isinstance(value, str))

TIME = ColumnKind(
    "a date with time",
    lambda dtype: dtype == nw.Datetime,
    lambda value: isinstance(value, datetime),
)
