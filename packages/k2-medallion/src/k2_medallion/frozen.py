"""Frozen: all tables of a home as they are at one instant, to ask more than one question of.

A question of its own each time would see a lake at work in several states, and report as a breach
what is only later. Which batches are on their way through the tables, their published ids say.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import duckdb
import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, Or
from pyiceberg.io import FileIO
from pyiceberg.table import Table

from k2_schemas import FileRegistry
from k2_schemas.registry import Registry

from .catalog import LakeHome, count_rows, read_horizon
from .data_files import plan_data_files
from .duck import open_duck
from .errors import QueryError
from .lake import Lake
from .published import walk_published, written_key
from .result import translate_errors
from .scan import is_from, quote_day, quote_name, scan_sql
from .tables import (
    GOLD_CANDLES,
    GOLD_TRADES,
    TableSpec,
    bronze_trades,
    silver_trades,
)

_CHUNK_ROWS = 50_000


class Cut(NamedTuple):
    """The part of an upstream table that its downstream has: the snapshot, and batches beyond."""

    snapshot_id: int | None
    pending_batches: int


class FrozenLake:
    """One reading of the catalog, on a DuckDB connection that spills to disk.

    Every table is there by its name. `bronze_<x>_judged` is Bronze without the batches that Silver
    lacks, `silver_<x>_promoted` Silver without those that Gold lacks, and `gold_<x>_before`, if the
    candles lack the exchange's newest batch, Gold without that. With `since` there is only what
    came in, or was traded, from that day on. `registry` knows what frames may carry; by default
    what ships with k2-schemas. Use it as a context manager.
    """

    def __init__(
        self, home: LakeHome, since: date | None = None, registry: Registry | None = None
    ) -> None:
        self.registry = registry or FileRegistry.packaged()
        self._since = since
        self._lake = Lake(home)
        self._duck = _connect(home.file_io)
        self._seen: set[str] = set()
        self.pending: dict[str, int] = {}
        """Batches on their way, per table that lacks them."""
        self._tables = dict(self._lake.load_all())
        self.exchanges = [name.lower() for name in self._lake.list_exchanges()]
        for name, table in self._tables.items():
            self._show(name, table, table.metadata.current_snapshot_id)
        for exchange in self.exchanges:
            self._show_settled(exchange)
            self._show_before(exchange)

    def __enter__(self) -> FrozenLake:
        return self

    def __exit__(self, *_: object) -> None:
        self._duck.close()
        self._lake.close()

    def count_rows(self) -> dict[str, int]:
        """Return how many rows each table has; reads no data."""
        return {name: count_rows(table) for name, table in sorted(self._tables.items())}

    def sees(self, name: str) -> bool:
        """Return whether there is something by this name."""
        return name in self._seen

    @property
    def since(self) -> date:
        """From which day on there is anything here."""
        return self._since or date.min

    def find_horizon(self, spec: TableSpec) -> date:
        """Return the day from which on a table has all of its rows, as retention has told."""
        table = self._tables.get(spec.name)
        told = date.min if table is None else read_horizon(table)
        return max(told, self.since)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return a query's rows; it must be one that gives few."""
        with translate_errors():
            rows: list[dict[str, Any]] = self._duck.sql(query).to_arrow_table().to_pylist()
        return rows

    def stream(self, query: str) -> Iterator[dict[str, Any]]:
        """Yield a query's rows, of which there may be many."""
        for chunk in self.read_chunks(query):
            yield from chunk.to_pylist()

    def read_chunks(self, query: str) -> Iterator[pa.RecordBatch]:
        """Yield a query's rows as Arrow has them, some tens of thousands at a time."""
        with translate_errors():
            yield from self._duck.sql(query).to_arrow_reader(_CHUNK_ROWS)

    def register(self, name: str, rows: pa.Table) -> None:
        """Let rows of ours be seen as a table."""
        self._duck.register(name, rows)

    def _show_settled(self, exchange: str) -> None:
        bronze, silver = (spec(exchange).name for spec in (bronze_trades, silver_trades))
        for upstream, downstream, suffix, flows in (
            (bronze, silver, "judged", ("bronze", "silver")),
            (silver, GOLD_TRADES.name, "promoted", ("silver", "gold")),
        ):
            source, target = self._tables[upstream], self._tables[downstream]
            cut = find_cut(source, target, exchange, flows)
            self._show(f"{upstream}_{suffix}", source, cut.snapshot_id)
            if cut.pending_batches:
                pending = self.pending.get(downstream, 0) + cut.pending_batches
                self.pending[downstream] = pending

    def _show_before(self, exchange: str) -> None:
        """Candles are published after Gold, and only if there are any: no id may mean either."""
        if GOLD_CANDLES.name not in self._tables:
            return
        prefixes = (f"k2:fused-{exchange}:", f"k2:gold-{exchange}:")
        gold = self._tables[GOLD_TRADES.name]
        batches = (one for one in walk_published(gold) if one.publish_id.startswith(prefixes))
        newest = next(batches, None)
        carried = {one.publish_id for one in walk_published(self._tables[GOLD_CANDLES.name])}
        if newest is not None and newest.publish_id not in carried:
            self._show(f"gold_{exchange}_before", gold, newest.parent_id)

    def _show(self, name: str, table: Table, snapshot_id: int | None) -> None:
        condition, where = _select_since(table, self._since)
        rows = scan_sql(table.schema(), plan_data_files(table, snapshot_id, condition))
        self._duck.execute(
            f"CREATE VIEW {quote_name(name)} AS SELECT * FROM ({rows}) WHERE {where}"
        )
        self._seen.add(name)


def find_cut(source: Table, target: Table, exchange: str, flows: tuple[str, str]) -> Cut:
    """Return where `source` ends as far as `target` has published what follows from it.

    A batch is published everywhere under its own id (fused), or under the sequence number of the
    snapshot it follows from (staged: `flows` are the two flows' kinds). What has no such id is no
    batch: maintenance, or rows that somebody else has written.
    """
    carried = {batch.publish_id for batch in walk_published(target)}
    fused, staged, next_flow = (f"k2:{kind}-{exchange}" for kind in ("fused", *flows))
    pending = 0
    cut = source.metadata.current_snapshot_id
    for batch in walk_published(source):
        if batch.publish_id.startswith(f"{staged}:"):
            wanted = f"{next_flow}:{batch.sequence_number}"
        elif batch.publish_id.startswith(f"{fused}:"):
            wanted = batch.publish_id
        else:
            continue
        flow = wanted.rpartition(":")[0].removeprefix("k2:")
        if wanted in carried or wanted == target.properties.get(written_key(flow)):
            break
        pending += 1
        cut = batch.parent_id
    if cut is not None and source.snapshot_by_id(cut) is None:
        raise QueryError(
            f"{source.name()[-1]} has forgotten how it was before {pending} batches that are on "
            "their way; let k2-lake finish them, then ask again"
        )
    return Cut(cut, pending)


_TIMES = ("ingestion_date", "bronze_ingestion_timestamp", "dlq_date", "timestamp", "start")
"""The columns that say when rows came in or were traded; a table has one of them, Silver two."""


def _select_since(table: Table, since: date | None) -> tuple[BooleanExpression, str]:
    """Return which rows are of a day or of a later one: for planning, and as SQL."""
    names = [field.name for field in table.schema().fields if field.name in _TIMES]
    if since is None or not names:
        return AlwaysTrue(), "true"
    day = since.isoformat()
    time = datetime.combine(since, datetime.min.time(), UTC).isoformat()
    bounds = [
        (name, day if name.endswith("_date") else time, f'"{name}" >= {quote_day(since)}')
        for name in names
    ]
    conditions: list[BooleanExpression] = [is_from(name, bound) for name, bound, _ in bounds]
    return reduce(Or, conditions), " OR ".join(where for *_, where in bounds)


def _connect(io: FileIO) -> duckdb.DuckDBPyConnection:
    duck = open_duck(io)
    scratch = Path(tempfile.gettempdir()) / f"k2-audit-{uuid4().hex}"
    for setting, value in (
        # What does not fit into memory goes there; DuckDB's default is the working directory.
        ("temp_directory", f"'{scratch}'"),
        # Enough to sort and join with; four fifths of the machine, the default, are others'.
        ("memory_limit", "'1GB'"),
        ("python_enable_replacements", "false"),
    ):
        duck.execute(f"SET {setting} = {value}")
    return duck
