"""Added rows: what one published batch added to a table, read in Python. No Spark job."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.types import TimestamptzType


def list_added_files(table: Table, snapshot_id: int) -> list[DataFile]:
    """Return the data files that a snapshot added."""
    snapshot = table.snapshot_by_id(snapshot_id)
    assert snapshot is not None, "a published batch's snapshot is kept until it is promoted"
    return [
        entry.data_file
        for manifest in snapshot.manifests(table.io)
        if manifest.added_snapshot_id == snapshot_id
        for entry in manifest.fetch_manifest_entry(table.io)
        if entry.snapshot_id == snapshot_id
    ]


def read_added_rows(table: Table, snapshot_id: int, columns: Sequence[str]) -> pa.Table:
    """Return some columns of the rows that a snapshot added, in the order of its files."""
    schema = table.schema().select(*columns).as_arrow()
    parts = [_read_file(table, file, schema.names) for file in list_added_files(table, snapshot_id)]
    return pa.concat_tables(parts) if parts else schema.empty_table()


def _read_file(table: Table, file: DataFile, columns: Sequence[str]) -> pa.Table:
    with table.io.new_input(file.file_path).open() as source:
        return pq.read_table(source, columns=list(columns))


def find_newest_ms(table: Table, snapshot_id: int, column: str) -> int:
    """Return the newest time of the rows that a snapshot added, from its files' bounds alone.

    In ms since 1970; 0 when it added none.
    """
    field = table.schema().find_field(column)
    assert isinstance(field.field_type, TimestamptzType), column
    bounds = [
        from_bytes(field.field_type, file.upper_bounds[field.field_id])
        for file in list_added_files(table, snapshot_id)
        if file.upper_bounds and field.field_id in file.upper_bounds
    ]
    return int(max(bounds, default=0)) // 1000
