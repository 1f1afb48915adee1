"""Maintain: keep every table small while it is being written, and never under a reader's feet.

Small files of the hot partition are put together; an hour that has closed is sorted into a few;
snapshots expire, but none that a flow still needs; whole days go when their time is over. Rows are
never changed: what readers see before and after is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from .catalog import CATALOG_NAME, require_table
from .data_files import plan_data_files
from .publish import STALE_AFTER_S
from .spark import load_java_table, table_name
from .stage import Stage
from .tables import TableSpec

MOST_OPEN_FILES = 16
"""Small files of an open partition before they are put together."""
MOST_CLOSED_FILES = 4
"""Files of a closed hour before it is sorted into fewer."""
MOST_MANIFESTS = 16
CLOSED_AFTER = timedelta(minutes=5)
"""An hour or a day counts as closed this long after its end: most late trades have come by then."""
SNAPSHOT_AGE = timedelta(seconds=3 * STALE_AFTER_S)
"""How long, 20 minutes, a reader that has opened a table can go on reading what it opened; a driver
no longer trusts what it knew after a third of it.

Every commit writes all snapshots that are kept, and every reader parses them: in the first 25
minutes of 2,500 trades/s a batch became a quarter slower, and publishing it twice as slow."""
ORPHAN_AGE = timedelta(days=3)

_KEPT_SNAPSHOTS = 10
"""The newest, whatever their age: a batch that begins while expiry runs is read from its parent."""

_PERIODS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OPEN_FILE_BYTES = 16 << 20
"""Wanted size of a file in an open partition: what has it is left alone until it closes."""
_SMALL = 0.75
"""A file below this part of its wanted size is worth rewriting (Iceberg's own default)."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that was done to a table; `detail` are Iceberg's own counts of it."""

    table: str
    name: str
    detail: Mapping[str, object]


class Maintenance:
    """The upkeep of a lake's tables. `stages` say which snapshots are still needed."""

    def __init__(
        self, catalog: SqlCatalog, specs: Iterable[TableSpec], stages: Iterable[Stage]
    ) -> None:
        self._catalog = catalog
        self._specs = list(specs)
        self._stages = list(stages)

    def compact(self, spark: SparkSession, now: datetime) -> Iterator[Action]:
        """Put small files together, partition by partition, where there are too many of them."""
        for spec in self._specs:
            parts: dict[datetime, list[DataFile]] = {}
            for file in self._list_files(spec):
                parts.setdefault(_start(file, spec), []).append(file)
            for start, files in sorted(parts.items()):
                closed = start + _PERIODS[spec.partition[1]] + CLOSED_AFTER < now
                if _are_too_many(files, spec, closed=closed):
                    yield self._rewrite(spark, spec, start, closed=closed)

    def expire(self, spark: SparkSession, now: datetime) -> Iterator[Action]:
        """Forget snapshots that are old and that no flow needs any more."""
        for stage in self._stages:
            stage.write_down(now - SNAPSHOT_AGE)
        for spec in self._specs:
            count = self._expire(spark, spec, self._find_cutoff(spec, now))
            if count:
                yield Action(spec.name, "expire", {"snapshots": count})

    def merge_manifests(self, spark: SparkSession) -> Iterator[Action]:
        """Rewrite the manifests of tables that have too many."""
        for spec in self._specs:
            table = self._load(spec)
            snapshot = table.current_snapshot()
            if snapshot is not None and len(snapshot.manifests(table.io)) > MOST_MANIFESTS:
                detail = _call(spark, "rewrite_manifests", spec, "use_caching => false")
                yield Action(spec.name, "merge_manifests", detail)

    def remove_orphans(self, spark: SparkSession, now: datetime) -> Iterator[Action]:
        """Delete files that no snapshot knows and that no write can still be about to publish."""
        for spec in self._specs:
            cutoff = (now - ORPHAN_AGE).isoformat()
            older = f"older_than => TIMESTAMP '{cutoff}'"
            # Hadoop, which lists by default, knows no object store; the table's own access does.
            in_store = require_table(self._catalog, spec).location().startswith("s3://")
            by_prefix = f"prefix_listing => {str(in_store).lower()}"
            rows = _list_rows(spark, "remove_orphan_files", spec, f"{older}, {by_prefix}")
            if rows:
                yield Action(spec.name, "remove_orphans", {"files": len(rows)})

    def retire(self, spark: SparkSession, now: datetime) -> Iterator[Action]:
        """Drop whole days that a table need not keep any longer.

        Bronze keeps the day of the newest row of every (topic, partition): its offsets say where
        the flow goes on.
        """
        for spec in self._specs:
            if spec.kept_days is None:
                continue
            end = (now - timedelta(days=spec.kept_days)).date()
            if spec.name.startswith("bronze_"):
                end = min(end, _find_oldest_tip(spark, spec, end))
            old = [day for day in self._list_partitions(spec) if day.date() < end]
            if old:
                literal = "DATE" if spec.partition[0].endswith("_date") else "TIMESTAMP"
                table = f"{CATALOG_NAME}.{spec.identifier}"
                spark.sql(f"DELETE FROM {table} WHERE {spec.partition[0]} < {literal} '{end}'")
                yield Action(spec.name, "retire", {"days": len(old), "before": str(end)})

    def _expire(self, spark: SparkSession, spec: TableSpec, cutoff: datetime) -> int:
        """Forget a table's snapshots older than `cutoff`; return how many those were.

        By Iceberg's core: its procedure looks for the files that nobody needs any more with Spark
        jobs over all manifests, for ten seconds a table, while nothing is compacted (ADR 0011).
        """
        expiry = load_java_table(spark, spec).expireSnapshots().retainLast(_KEPT_SNAPSHOTS)
        expiry.expireOlderThan(int(cutoff.timestamp() * 1000))
        count = len(expiry.apply())
        if count:
            expiry.commit()
        return count

    def _rewrite(
        self, spark: SparkSession, spec: TableSpec, start: datetime, *, closed: bool
    ) -> Action:
        """Put one partition's small files together; sort all of a closed one, if it is sorted."""
        column, unit = spec.partition
        literal = "DATE" if column.endswith("_date") else "TIMESTAMP"
        end = start + _PERIODS[unit]
        first, last = (
            str(time.date()) if literal == "DATE" else time.strftime("%F %T")
            for time in (start, end)
        )
        sort = closed and bool(spec.sort)
        size = int(spec.properties["write.target-file-size-bytes"])
        options = {
            "min-input-files": "2",
            "max-concurrent-file-group-rewrites": "1",
            "target-file-size-bytes": str(size if closed else min(size, _OPEN_FILE_BYTES)),
            **({"rewrite-all": "true"} if sort else {}),
        }
        pairs = ", ".join(f"'{key}', '{value}'" for key, value in options.items())
        detail = _call(
            spark,
            "rewrite_data_files",
            spec,
            f"strategy => '{'sort' if sort else 'binpack'}'",
            f"options => map({pairs})",
            f"where => \"{column} >= {literal} '{first}' AND {column} < {literal} '{last}'\"",
        )
        return Action(spec.name, "sort" if sort else "compact", {**detail, "start": str(start)})

    def _list_partitions(self, spec: TableSpec) -> list[datetime]:
        return sorted({_start(file, spec) for file in self._list_files(spec)})

    def _list_files(self, spec: TableSpec) -> list[DataFile]:
        table = self._load(spec)
        snapshot = table.current_snapshot()
        return plan_data_files(table, snapshot.snapshot_id if snapshot else None)

    def _find_cutoff(self, spec: TableSpec, now: datetime) -> datetime:
        """Return before which time no reader and no stage needs a snapshot of a table."""
        table = self._load(spec)
        cutoff = now - SNAPSHOT_AGE
        for stage in self._stages:
            snapshot_id = stage.find_needed(spec)
            snapshot = None if snapshot_id is None else table.snapshot_by_id(snapshot_id)
            if snapshot is not None:
                cutoff = min(cutoff, _EPOCH + timedelta(milliseconds=snapshot.timestamp_ms - 1))
        return cutoff

    def _load(self, spec: TableSpec) -> Table:
        return require_table(self._catalog, spec)


def _are_too_many(files: Sequence[DataFile], spec: TableSpec, *, closed: bool) -> bool:
    """Return whether a partition's files are worth rewriting.

    Of a closed and sorted one all files count: what was put together while it was open is not yet
    in order. Twice as many as its size asks for is where it ends, or it would never end.
    """
    size = int(spec.properties["write.target-file-size-bytes"])
    if closed and spec.sort:
        wanted = -(-sum(file.file_size_in_bytes for file in files) // size)
        return len(files) > max(MOST_CLOSED_FILES, 2 * wanted + 1)
    small = min(size, _OPEN_FILE_BYTES) * _SMALL
    count = sum(file.file_size_in_bytes < small for file in files)
    return count > (MOST_CLOSED_FILES if closed else MOST_OPEN_FILES)


def _start(file: DataFile, spec: TableSpec) -> datetime:
    """Return when a data file's partition begins; Iceberg counts hours or days since 1970."""
    count = int(file.partition[0])
    return _EPOCH + count * _PERIODS[spec.partition[1]]


def _find_oldest_tip(spark: SparkSession, spec: TableSpec, end: date) -> date:
    """Return the oldest day that holds the newest row of a (topic, partition), of days before."""
    rows = spark.table(table_name(spec))
    tips = (
        rows.groupBy("topic", "partition")
        .agg(F.max_by("ingestion_date", "offset").alias("day"))
        .where(F.col("day") < F.lit(end))
        .agg(F.min("day"))
    )
    (oldest,) = tips.collect()[0]
    return oldest or end


def _call(spark: SparkSession, procedure: str, spec: TableSpec, *arguments: str) -> dict[str, Any]:
    """Run one of Iceberg's maintenance procedures; return its first row."""
    rows = _list_rows(spark, procedure, spec, *arguments)
    return rows[0] if rows else {}


def _list_rows(
    spark: SparkSession, procedure: str, spec: TableSpec, *arguments: str
) -> list[dict[str, Any]]:
    # By its whole name: else Spark looks for a catalog of the namespace's name, and says so.
    named = ", ".join([f"table => '{table_name(spec)}'", *arguments])
    rows = spark.sql(f"CALL {CATALOG_NAME}.system.{procedure}({named})").collect()
    return [row.asDict() for row in rows]
