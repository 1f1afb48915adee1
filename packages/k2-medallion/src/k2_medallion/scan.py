"""Scan: SQL and PyIceberg expressions that say which rows of which files to read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any

from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    BooleanExpression,
    EqualTo,
    GreaterThanOrEqual,
    LessThan,
)
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    StringType,
    TimestamptzType,
)

from .data_files import find_path
from .errors import QueryError
from .window import Window

_TYPES: dict[type[IcebergType], str] = {
    BinaryType: "BLOB",
    BooleanType: "BOOLEAN",
    DateType: "DATE",
    IntegerType: "INTEGER",
    LongType: "BIGINT",
    StringType: "VARCHAR",
    TimestamptzType: "TIMESTAMPTZ",
}


_FIRST_SCHEMA = 0
"""The id of a schema that has never changed: every file has all columns."""


def scan_sql(schema: Schema, files: Iterable[DataFile]) -> str:
    """Return SQL for all rows of the files, with every column of the table in its order.

    A file from before a column was added gives NULL for it. DuckDB's way of naming columns by their
    Iceberg ids is not used: it takes twice as long, because filters are not applied while reading.
    """
    names = ", ".join(quote_name(field.name) for field in schema.fields)
    paths = ", ".join(quote_text(find_path(file.file_path)) for file in files)
    if paths and schema.schema_id == _FIRST_SCHEMA:
        return f"SELECT {names} FROM read_parquet([{paths}], hive_partitioning = false)"
    columns = ", ".join(
        f"CAST(NULL AS {_to_duckdb(field.field_type)}) AS {quote_name(field.name)}"
        for field in schema.fields
    )
    nothing = f"SELECT {columns} WHERE false"
    if not paths:
        return nothing
    source = f"read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"
    # In this order, so that types and columns are the table's even where every file is older.
    return f"SELECT {names} FROM ({nothing} UNION ALL BY NAME SELECT * FROM {source})"


def is_within_sql(column: str, window: Window) -> str:
    """Return the SQL condition that a time lies in a window."""
    bounds = ((">=", window.start), ("<", window.end))
    name = quote_name(column)
    terms = [f"{name} {sign} {quote_time(time)}" for sign, time in bounds if time is not None]
    return " AND ".join(terms) or "true"


def is_within(column: str, window: Window) -> BooleanExpression:
    """Return the same condition for planning: literal times, so that files can be left out."""
    condition: BooleanExpression = AlwaysTrue()
    if window.start is not None:
        condition = And(condition, _compare(GreaterThanOrEqual, column, window.start.isoformat()))
    if window.end is not None:
        condition = And(condition, _compare(LessThan, column, window.end.isoformat()))
    return condition


def is_from(column: str, bound: str) -> BooleanExpression:
    """Return, for planning, the condition that a date or time is not before a bound (ISO 8601)."""
    return _compare(GreaterThanOrEqual, column, bound)


def is_equal_sql(column: str, value: str | None) -> str:
    """Return the SQL condition that a column has this text; None asks for nothing."""
    return "true" if value is None else f"{quote_name(column)} = {quote_text(value)}"


def is_equal(column: str, value: str | None) -> BooleanExpression:
    """Return the same condition for planning."""
    return AlwaysTrue() if value is None else _compare(EqualTo, column, value)


def quote_text(text: str) -> str:
    """Write a SQL text literal."""
    return "'" + text.replace("'", "''") + "'"


def quote_name(name: str) -> str:
    """Write a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_time(time: datetime) -> str:
    """Write a SQL time literal."""
    return f"TIMESTAMPTZ '{time.astimezone(UTC).isoformat()}'"


def quote_day(day: date) -> str:
    """Write a SQL date literal."""
    return f"DATE '{day.isoformat()}'"


def choose_columns(names: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    """Return the columns to read, all of them by default; raise `QueryError` for unknown ones."""
    if wanted is None:
        return list(names)
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted or isinstance(wanted, str):
        raise QueryError(
            f"no columns {', '.join(map(repr, unknown)) or 'at all'}; choose a list of: "
            + ", ".join(names)
        )
    return list(dict.fromkeys(wanted))


def _compare(predicate: Any, column: str, value: str) -> BooleanExpression:
    """Compare a column with a literal; of these classes mypy sees fields, not the constructor."""
    compared: BooleanExpression = predicate(column, value)
    return compared


def _to_duckdb(kind: IcebergType) -> str:
    if isinstance(kind, DecimalType):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if isinstance(kind, ListType):
        return f"{_to_duckdb(kind.element_type)}[]"
    if isinstance(kind, MapType):
        return f"MAP({_to_duckdb(kind.key_type)}, {_to_duckdb(kind.value_type)})"
    return _TYPES[type(kind)]
