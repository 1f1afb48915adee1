"""Value text: what was found, in the same letters on every engine.

Integers and decimals in plain digits without trailing zeros; floats rounded to 6 fraction digits,
or as `inf`, `1e12 or more`; text in quotes, cut after 64 characters; times in UTC with 6 fraction
digits; NULL and NaN as such. Any other type only as `a value`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import narwhals.stable.v2 as nw
from narwhals.stable.v2.dtypes import DType

from .column_kind import INTEGER, TEXT
from .readers import is_missing

LONGEST_TEXT = 64
"""Characters of a found text that a reason repeats: a dead letter keeps the whole record."""

LARGEST_FLOAT = 1e12
"""Floats from here on are not written out: their 6th fraction digit is no longer their own."""

_ZEROS = r"\.?0+$"
_OTHER = "a value"


def write_value(value: object) -> str:
    """Return the text for a Python value."""
    if value is None or isinstance(value, bool):
        return "NULL" if value is None else str(value).lower()
    if is_missing(value):
        return "NULL" if isinstance(value, datetime) else "NaN"
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= LONGEST_TEXT else f"'{value[:LONGEST_TEXT]}…'"
    if isinstance(value, datetime):
        return _write_time(value)
    if isinstance(value, float):
        return _write_float(value)
    return write_number(value) if isinstance(value, (int, Decimal)) else _OTHER


def write_number(number: int | Decimal) -> str:
    """Write a number without exponent and trailing zeros: equal numbers, equal text."""
    if isinstance(number, Decimal) and number.is_infinite():
        return "inf" if number > 0 else "-inf"
    text = format(Decimal(number) if number else Decimal(0), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _write_time(time: datetime) -> str:
    if time.utcoffset() is None:
        return time.isoformat(timespec="microseconds")
    instant = time if time.tzinfo is UTC else time.astimezone(UTC)
    return instant.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _write_float(value: float) -> str:
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if abs(value) >= LARGEST_FLOAT:
        return "1e12 or more" if value > 0 else "-1e12 or less"
    millionths = math.floor(abs(value) * 1e6 + 0.5)
    text = write_number(Decimal(millionths).scaleb(-6))
    return f"-{text}" if value < 0 and millionths else text


def polars_text(name: str, dtype: DType) -> nw.Expr:
    """Return the text as an expression for Polars; NULL for a NULL."""
    column = nw.col(name)
    if dtype.is_float():
        return _polars_float(column.cast(nw.Float64))
    if dtype.is_decimal() and getattr(dtype, "scale", False):
        return column.cast(nw.String).str.replace_all(_ZEROS, "")
    if dtype.is_decimal() or dtype.is_integer() or dtype == nw.Boolean:
        return column.cast(nw.String)
    if TEXT.fits_type(dtype):
        text = column.cast(nw.String)
        cut = nw.concat_str(nw.lit("'"), text.str.head(LONGEST_TEXT), nw.lit("…'"))
        whole = nw.concat_str(nw.lit("'"), text, nw.lit("'"))
        return nw.when(text.str.len_chars() > LONGEST_TEXT).then(cut).otherwise(whole)
    if isinstance(dtype, nw.Datetime):
        zoned = dtype.time_zone is not None
        time = column.dt.convert_time_zone("UTC") if zoned else column
        # `%.6f` is Polars' own: `%f` is nanoseconds there.
        return time.dt.to_string("%Y-%m-%dT%H:%M:%S%.6f" + "Z" * zoned)
    return nw.when(~column.is_null()).then(nw.lit(_OTHER))


def _polars_float(value: nw.Expr) -> nw.Expr:
    # Only what the last branch keeps may be cast: infinity is no integer.
    small = nw.when(value.abs() < LARGEST_FLOAT).then(value)
    millionths = (small.abs() * 1e6 + 0.5).floor().cast(nw.Int64)
    fraction = (millionths % 1_000_000).cast(nw.String).str.zfill(6)
    digits = nw.concat_str((millionths // 1_000_000).cast(nw.String), nw.lit("."), fraction)
    sign = nw.when((value < 0) & (millionths > 0)).then(nw.lit("-")).otherwise(nw.lit(""))
    return (
        nw.when(value.is_null())
        .then(nw.lit(None, nw.String))
        .when(value.is_nan())
        .then(nw.lit("NaN"))
        .when(value == math.inf)
        .then(nw.lit("inf"))
        .when(value == -math.inf)
        .then(nw.lit("-inf"))
        .when(value >= LARGEST_FLOAT)
        .then(nw.lit("1e12 or more"))
        .when(value <= -LARGEST_FLOAT)
        .then(nw.lit("-1e12 or less"))
        .otherwise(nw.concat_str(sign, digits.str.replace_all(_ZEROS, "")))
    )


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the SQL of two engines. `time` takes the SQL of a zoned time."""

    text_type: str
    quote_name: Callable[[str], str]
    quote_text: Callable[[str], str]
    divide: str
    zoned_time: str
    plain_time: str

    def text(self, name: str, dtype: DType) -> str:
        """Return the text as SQL; NULL for a NULL."""
        column = self.quote_name(name)
        if dtype.is_float():
            return self._float(f"CAST({column} AS DOUBLE)")
        text = f"CAST({column} AS {self.text_type})"
        if dtype.is_decimal() and getattr(dtype, "scale", False):
            return self._strip(text)
        if dtype.is_decimal() or INTEGER.fits_type(dtype) or dtype == nw.Boolean:
            return text
        if TEXT.fits_type(dtype):
            quote, cut = self.quote_text("'"), self.quote_text("…'")
            return (
                f"CASE WHEN length({text}) > {LONGEST_TEXT}"
                f" THEN concat({quote}, substring({text}, 1, {LONGEST_TEXT}), {cut})"
                f" WHEN {column} IS NOT NULL THEN concat({quote}, {text}, {quote}) END"
            )
        if isinstance(dtype, nw.Datetime):
            form = self.plain_time if dtype.time_zone is None else self.zoned_time
            return form.format(time=column)
        return f"CASE WHEN {column} IS NOT NULL THEN {self.quote_text(_OTHER)} END"

    def _strip(self, text: str) -> str:
        return f"regexp_replace({text}, {self.quote_text(_ZEROS)}, '')"

    def _float(self, value: str) -> str:
        millionths = f"CAST(floor(abs({value}) * 1e6 + 5e-1) AS BIGINT)"
        whole = f"CAST({millionths} {self.divide} 1000000 AS {self.text_type})"
        fraction = f"lpad(CAST({millionths} % 1000000 AS {self.text_type}), 6, '0')"
        digits = self._strip(f"concat({whole}, '.', {fraction})")
        return (
            f"CASE WHEN {value} IS NULL THEN NULL WHEN isnan({value}) THEN 'NaN'"
            f" WHEN {value} = CAST('Infinity' AS DOUBLE) THEN 'inf'"
            f" WHEN {value} = CAST('-Infinity' AS DOUBLE) THEN '-inf'"
            f" WHEN {value} >= 1e12 THEN '1e12 or more' WHEN {value} <= -1e12 THEN '-1e12 or less'"
            f" WHEN {value} < 0 AND {millionths} > 0 THEN concat('-', {digits}) ELSE {digits} END"
        )


def _quote_spark_text(text: str) -> str:
    # Quotes and backslashes depend on the session's parser settings; bytes do not.
    if text.isascii() and text.isprintable() and "'" not in text and "\\" not in text:
        return f"'{text}'"
    return f"decode(unhex('{text.encode().hex()}'), 'UTF-8')"


def _quote_duckdb_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# Both sessions have a time zone of their own, which must not show in a text.
DUCKDB = Dialect(
    text_type="VARCHAR",
    quote_name=lambda name: '"' + name.replace('"', '""') + '"',
    quote_text=_quote_duckdb_text,
    divide="//",
    zoned_time="strftime({time} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')",
    plain_time="strftime({time}, '%Y-%m-%dT%H:%M:%S.%f')",
)

SPARK = Dialect(
    text_type="STRING",
    quote_name=lambda name: "`" + name.replace("`", "``") + "`",
    quote_text=_quote_spark_text,
    divide="DIV",
    zoned_time=(
        "date_format(TIMESTAMP_NTZ '1970-01-01 00:00:00'"
        " + unix_micros({time}) * INTERVAL '0.000001' SECOND,"
        " \"yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'\")"
    ),
    plain_time="date_format({time}, \"yyyy-MM-dd'T'HH:mm:ss.SSSSSS\")",
)
