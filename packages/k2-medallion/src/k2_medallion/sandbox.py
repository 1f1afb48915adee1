"""Sandbox: a stranger's SQL over the lake's tables, on a connection that has no file system.

DuckDB's statement types are no guard: a SELECT may hold a COPY or an INSERT in its WITH. So the
connection cannot open any file, not even the tables' own, which a COPY could overwrite. Rows come
in as Arrow, from datasets of exactly the files of one published snapshot.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import cast
from uuid import uuid4

import duckdb
import pyarrow as pa
from pyarrow import dataset as ds
from pyiceberg.conversions import from_bytes
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import (
    DateType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    PrimitiveType,
    TimestamptzType,
)

from .data_files import plan_data_files
from .errors import QueryError
from .result import translate_errors

_BOUNDED: dict[type[IcebergType], pa.DataType] = {
    DateType: pa.date32(),
    IntegerType: pa.int32(),
    LongType: pa.int64(),
    TimestamptzType: pa.timestamp("us", "UTC"),
}
"""Types whose bounds in the metadata are the values themselves, not cut short."""


class Sandbox:
    """Tables by name, each in the state that it was last shown in, and SELECTs over them."""

    def __init__(self) -> None:
        self._duck = duckdb.connect(":memory:")
        # What does not fit into memory goes there; DuckDB's default is the working directory.
        scratch = Path(tempfile.gettempdir()) / f"k2-sql-{uuid4().hex}"
        for setting, value in (
            ("TimeZone", "'UTC'"),
            ("temp_directory", f"'{scratch}'"),
            ("autoinstall_known_extensions", "false"),
            ("autoload_known_extensions", "false"),
            # Else a name that is no table is looked up among the caller's Python variables.
            ("python_enable_replacements", "false"),
            ("enable_external_access", "false"),
            ("lock_configuration", "true"),
        ):
            self._duck.execute(f"SET {setting} = {value}")
        self._shown: dict[str, tuple[str, int | None]] = {}

    def close(self) -> None:
        """Close the connection."""
        self._duck.close()

    def show(self, name: str, table: Table, snapshot_id: int | None) -> None:
        """Let a table be seen as it is in a snapshot."""
        state = (table.metadata_location, snapshot_id)
        if self._shown.get(name) != state:
            self._duck.register(name, open_dataset(table, snapshot_id))
            self._shown[name] = state

    def hide(self, name: str) -> None:
        """Let a table not be seen any more."""
        if self._shown.pop(name, None) is not None:
            self._duck.unregister(name)

    def run(self, query: str) -> pa.Table:
        """Run one SELECT and return its rows; raise `QueryError` for anything else."""
        with translate_errors():
            statements = self._duck.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise QueryError("only a single SELECT can be run here: the lake is read-only")
            return self._duck.sql(query).to_arrow_table()


def open_dataset(table: Table, snapshot_id: int | None) -> ds.FileSystemDataset:
    """Open a snapshot's files as one Arrow dataset, with the table's columns.

    Each file comes with its bounds from the metadata: one whose values cannot match is not opened.
    """
    schema, parquet = table.schema(), ds.ParquetFileFormat()
    scheme, bucket, _ = PyArrowFileIO.parse_location(table.location())
    files = PyArrowFileIO(table.io.properties).fs_by_scheme(scheme, bucket)
    fragments = [
        parquet.make_fragment(
            PyArrowFileIO.parse_location(file.file_path)[2],
            files,
            partition_expression=bound_rows(schema, file),
        )
        for file in plan_data_files(table, snapshot_id)
    ]
    return ds.FileSystemDataset(fragments, schema.as_arrow(), parquet, files)


def bound_rows(schema: Schema, file: DataFile) -> ds.Expression:
    """Return what holds for all rows of a file: its lowest and highest numbers and times."""
    condition = ds.scalar(True)
    for field in schema.fields:
        if type(field.field_type) in _BOUNDED and _has_bounds(file, field):
            lowest, highest = _read_bounds(file, field)
            column = ds.field(field.name)
            condition = condition & (column >= lowest) & (column <= highest)
    return condition


def _has_bounds(file: DataFile, field: NestedField) -> bool:
    """Return whether the bounds are known and, there being no NULL, hold for every row."""
    number = field.field_id
    known = number in (file.lower_bounds or {}) and number in (file.upper_bounds or {})
    return known and (file.null_value_counts or {}).get(number) == 0


def _read_bounds(file: DataFile, field: NestedField) -> tuple[pa.Scalar, pa.Scalar]:
    iceberg, arrow = cast(PrimitiveType, field.field_type), _BOUNDED[type(field.field_type)]

    def read(raw: bytes) -> pa.Scalar:
        return pa.scalar(from_bytes(iceberg, raw), arrow)

    return read(file.lower_bounds[field.field_id]), read(file.upper_bounds[field.field_id])
