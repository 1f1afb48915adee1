"""Read: read-only SQL over the lake's Iceberg tables with DuckDB. No Spark, no server."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import duckdb
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from .catalog import LakeHome, open_catalog
from .errors import QueryError
from .tables import NAMESPACE

_READ_ONLY = {duckdb.StatementType.SELECT}


class LakeReader:
    """SQL over the table snapshots that were current when it was opened, table by table.

    Every table is a view of its own name. The connection can read the tables' files and nothing
    else, and it cannot write. Use it as a context manager, or close it.
    """

    def __init__(self, home: LakeHome) -> None:
        catalog = open_catalog(home)
        self._duck = duckdb.connect(":memory:")
        self._duck.execute("SET TimeZone = 'UTC'")
        paths: list[str] = []
        for _, name in catalog.list_tables(NAMESPACE):
            paths += self._add_view(catalog, name)
        self._duck.execute("SET allowed_paths = [" + ", ".join(map(_quote, paths)) + "]")
        self._duck.execute("SET enable_external_access = false")
        self._duck.execute("SET lock_configuration = true")

    def __enter__(self) -> LakeReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._duck.close()
        # Freed now: a connection that lives until Python ends makes DuckDB report leaks.
        del self._duck

    def sql(self, query: str) -> pa.Table:
        """Run one SELECT and return its result; raise `QueryError` for anything else."""
        try:
            statements = self._duck.extract_statements(query)
            if len(statements) != 1 or statements[0].type not in _READ_ONLY:
                raise QueryError("only a single SELECT can be run here: the lake is read-only")
            return self._duck.sql(query).to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(str(error).strip()) from error

    def _add_view(self, catalog: SqlCatalog, name: str) -> list[str]:
        table = catalog.load_table(f"{NAMESPACE}.{name}")
        paths = list_data_files(table)
        if paths:
            files = ", ".join(map(_quote, paths))
            source = f"read_parquet([{files}], union_by_name = true, hive_partitioning = false)"
            self._duck.execute(f'CREATE VIEW "{name}" AS SELECT * FROM {source}')
        else:
            self._duck.register("nothing", table.schema().as_arrow().empty_table())
            self._duck.execute(f'CREATE TABLE "{name}" AS SELECT * FROM nothing')
            self._duck.unregister("nothing")
        return paths


def list_data_files(table: Table) -> list[str]:
    """Return the local paths of a table's current data files.

    Raises `QueryError` when a file has row-level deletes: the lake only appends, so a reader that
    took the files as they are would show rows that someone else deleted.
    """
    tasks = list(table.scan().plan_files())
    if any(task.delete_files for task in tasks):
        raise QueryError(
            f"{table.name()[-1]} has row-level deletes, which K2 never makes; use PyIceberg for it"
        )
    return [local_path(task.file.file_path) for task in tasks]


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
                path = local_path(entry.data_file.file_path)
                arrivals[path] = current_ms[entry.snapshot_id]
    return arrivals


def local_path(location: str) -> str:
    """Turn a file location of Iceberg metadata (`file:/…`, `file:///…` or a path) into a path."""
    parts = urlsplit(location)
    return unquote(parts.path) if parts.scheme == "file" else str(Path(location))


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


CANDLES_SQL = """
SELECT
  exchange,
  symbol,
  time_bucket(INTERVAL 1 MINUTE, "timestamp") AS start,
  arg_min(price, ("timestamp", source_sequence)) AS open,
  max(price) AS high,
  min(price) AS low,
  arg_max(price, ("timestamp", source_sequence)) AS close,
  sum(quantity) AS volume,
  count(*) AS trades
FROM gold_crypto_trades
GROUP BY ALL
ORDER BY exchange, symbol, start
"""
"""One-minute candles of every symbol. First and last are by time, then by the exchange's own id."""
