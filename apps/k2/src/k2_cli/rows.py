"""Rows: a query's result on stdout, exact in every form."""

from __future__ import annotations

import csv
import json
import sys
from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
from rich.console import Console
from rich.table import Table

_MAX_ROWS_SHOWN = 200


def print_json(result: pa.Table) -> None:
    """Print one JSON object a line; decimals and bytes as text, so that no digit is lost."""
    for row in result.to_pylist():
        sys.stdout.write(json.dumps(row, default=to_text, ensure_ascii=False) + "\n")


def print_csv(result: pa.Table) -> None:
    """Print CSV with a header; NULL as an empty field."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(result.column_names)
    for row in result.to_pylist():
        writer.writerow("" if value is None else to_text(value) for value in row.values())


def print_table(result: pa.Table) -> None:
    """Print a table for people, at most 200 rows of it."""
    table = Table(*result.column_names)
    for row in result.slice(0, _MAX_ROWS_SHOWN).to_pylist():
        table.add_row(*("NULL" if value is None else escape_text(value) for value in row.values()))
    console = Console()
    console.print(table)
    if result.num_rows > _MAX_ROWS_SHOWN:
        console.print(f"{_MAX_ROWS_SHOWN} of {result.num_rows:,} rows; --csv or --json print all")


def to_text(value: object) -> str:
    """Write a value exactly: bytes as hex, times as ISO 8601, decimals without exponent."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)


def escape_text(value: object) -> str:
    """Write a value for a terminal: no control characters of someone else's, no markup."""
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in to_text(value))
    return text.replace("[", r"\[")
