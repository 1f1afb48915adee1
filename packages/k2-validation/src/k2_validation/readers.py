"""Readers: a column as every engine compares it alike, and a Python value as the frame holds it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import narwhals.stable.v2 as nw
from narwhals.stable.v2.dtypes import DType

from .column_kind import INTEGER, TEXT

_MICROSECOND = timedelta(microseconds=1)
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1)


def read_column(name: str, dtype: DType) -> nw.Expr:
    """Read a column so that every engine compares it alike: NaN is NULL, widths are the widest."""
    column = nw.col(name)
    if dtype.is_float():
        # NaN > 0 is true on Polars, DuckDB and Spark, false on Arrow and in Python.
        wide = column if dtype == nw.Float64 else column.cast(nw.Float64)
        return nw.when(~wide.is_nan()).then(wide)
    if dtype.is_integer() and INTEGER.fits_type(dtype) and dtype != nw.Int64:
        return column.cast(nw.Int64)
    if TEXT.fits_type(dtype) and dtype != nw.String:
        return column.cast(nw.String)
    if isinstance(dtype, nw.Datetime) and dtype.time_unit in ("s", "ms"):
        # A tolerance finer than the column's unit would be rounded.
        return column.cast(nw.Datetime("us", dtype.time_zone))
    return column


def move_time(
    time: nw.Expr, span: timedelta, zone: str | None = None, to_zone: str | None = None
) -> nw.Expr:
    """Return a time later by `span` (earlier if negative), in the zone it is compared in."""
    if to_zone is not None and zone != to_zone:
        # The same instants; Polars compares only times of one zone.
        time = time.dt.convert_time_zone(to_zone)
    if not span:
        return time
    # Microseconds, not days: engines take a day in a time zone for 23 to 25 hours.
    return time.dt.offset_by(f"{span // _MICROSECOND}us")


def read_zone(schema: Mapping[str, DType], column: str) -> str | None:
    """Return the time zone of a column, None if it has none."""
    zone: str | None = getattr(schema[column], "time_zone", None)
    return zone


def is_missing(value: object) -> bool:
    """Return whether a value counts as NULL: None, every NaN, and pandas' NaT."""
    if value is None:
        return True
    if isinstance(value, Decimal):
        return value.is_nan()  # comparing a signalling NaN would raise
    return isinstance(value, (float, datetime)) and value != value


def to_micros(time: datetime) -> int:
    """Return microseconds since 1970: of the instant, or of the clock face if it has no zone.

    Python subtracts two times of one zone object by their clock faces, wrong across a clock change.
    """
    if time.tzinfo is UTC:
        return (time - _EPOCH_UTC) // _MICROSECOND
    face = (time.replace(tzinfo=None) - _EPOCH) // _MICROSECOND
    offset = time.utcoffset()
    return face if offset is None else face - offset // _MICROSECOND
