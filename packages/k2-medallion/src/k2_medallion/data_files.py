"""Data files: which files of a table hold what is asked, as PyIceberg plans them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from .errors import QueryError


def plan_data_files(
    table: Table, snapshot_id: int | None, rows: BooleanExpression | None = None
) -> list[DataFile]:
    """Return the data files of a snapshot that may hold the rows, of None none.

    Raises `QueryError` when a file has row-level deletes: the lake only appends, so a reader that
    took the files as they are would show rows that someone else deleted.
    """
    if snapshot_id is None:
        return []
    scan = table.scan(row_filter=rows or AlwaysTrue(), snapshot_id=snapshot_id)
    tasks = list(scan.plan_files())
    if any(task.delete_files for task in tasks):
        raise QueryError(
            f"{table.name()[-1]} has row-level deletes, which K2 never makes; use PyIceberg for it"
        )
    return [task.file for task in tasks]


def list_arrivals(table: Table) -> dict[str, int]:
    """Return, per current data file, when its snapshot became current (ms since 1970 UTC).

    From the table's history: a snapshot's own time is when it was staged, before it was audited.
    """
    snapshot = table.current_snapshot()
    if snapshot is None:
        return {}
    current_ms = {entry.snapshot_id: entry.timestamp_ms for entry in table.history()}
    arrivals = {}
    for manifest in snapshot.manifests(table.io):
        for entry in manifest.fetch_manifest_entry(table.io):
            if entry.snapshot_id in current_ms:
                path = find_path(entry.data_file.file_path)
                arrivals[path] = current_ms[entry.snapshot_id]
    return arrivals


def find_path(location: str) -> str:
    """Turn a file location of Iceberg metadata (`file:/…`, `file:///…` or a path) into a path.

    Of an object store (`s3://…`) it stays what it is.
    """
    parts = urlsplit(location)
    if parts.scheme == "file":
        return unquote(parts.path)
    return location if parts.netloc else str(Path(location))
