"""Rows: a query's result on stdout, exact in every form."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

_MAX_ROWS_SHOWN = 200


def print_json(result: pa.Table) -> None:
    """Print one JSON object a line; decimals and bytes as text, so that no digit is lost."""
    names = _distinguish(result.column_names)
    for row in _iterate(result):
        fields = dict(zip(names, map(_to_plain, row), strict=True))
        sys.stdout.write(json.dumps(fields, ensure_ascii=False) + "\n")


def print_csv(result: pa.Table) -> None:
    """Print CSV with a header; NULL as an empty field."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(result.column_names)
    for row in _iterate(result):
        writer.writerow("" if value is None else to_text(value) for value in row)


def print_table(result: pa.Table) -> None:
    """Print a table for people, at most 200 rows of it."""
    # Text, not str: what the tables hold is never markup.
    table = Table()
    for name in result.column_names:
        table.add_column(Text(escape_text(name)))
    for row in _iterate(result.slice(0, _MAX_ROWS_SHOWN)):
        table.add_row(*(Text("NULL" if value is None else escape_text(value)) for value in row))
    console = Console()
    console.print(table)
    if result.num_rows > _MAX_ROWS_SHOWN:
        console.print(f"{_MAX_ROWS_SHOWN} of {result.num_rows:,} rows; --csv or --json print all")


def to_text(value: object) -> str:
    """Write a value exactly: bytes as hex, times as ISO 8601, decimals without exponent.

    Lists and maps as JSON.
    """
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, list | dict):
        return json.dumps(_to_plain(value), ensure_ascii=False)
    return str(value)


def escape_text(value: object) -> str:
    """Write a value for a terminal: no control characters of someone else's."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in to_text(value))


def _iterate(result: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Yield the rows by position: two columns of a query may have one name."""
    for batch in result.to_batches():
        columns = (column.to_pylist(maps_as_pydicts="strict") for column in batch.columns)
        yield from zip(*columns, strict=True)


def _distinguish(names: Sequence[str]) -> list[str]:
    """Number the repetitions of a name (`a`, `a_2`): a JSON object holds each name once."""
    distinct: list[str] = []
    for name in names:
        number, free = 1, name
        while free in distinct or (number > 1 and free in names):
            number += 1
            free = f"{name}_{number}"
        distinct.append(free)
    return distinct


def _to_plain(value: object) -> object:
    """Turn a value into what JSON has, and into exact text where it has nothing."""
    if isinstance(value, dict):
        return {to_text(key): _to_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_to_plain(item) for item in value]
    exact = value is None or isinstance(value, bool | int | str)
    if exact or (isinstance(value, float) and math.isfinite(value)):
        return value
    return to_text(value)
