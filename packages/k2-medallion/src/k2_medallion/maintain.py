"""Maintain: keep every table small while it is being written, and never under a reader's feet.

Small files of the hot partition are put together; an hour that has closed is sorted into a few;
snapshots expire, but none that a flow still needs; whole days go when their time is over. Rows are
never changed: what readers see before and after is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from .catalog import CATALOG_NAME, require_table, set_property
from .data_files import plan_data_files
from .publish import STALE_AFTER_S
from .spark import load_java_table, table_name
from .stage import Stage
from .tables import RETIRED_BEFORE, TableSpec

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


OnFailure = Callable[[str, str, Exception], None]
"""Told of a duty that failed, the table, and why; then the next table has its turn."""


class Maintenance:
    """The upkeep of a lake's tables. `stages` say which snapshots are still needed.

    Without `on_failure` the first table that cannot be kept ends a duty with its error.
    """

    def __init__(
        self, catalog: SqlCatalog, specs: Iterable[TableSpec], stages: Iterable[Stage]
    ) -> None:
        self.on_failure: OnFailure | None = None
        self._catalog = catalog
        self._specs = list(specs)
        self._stages = list(stages)

    def compact(self, spark: SparkSession, now: datetime) -> Iterator[Action]:
        """Put small files together, partition by partition, where there are too many of them."""
        for spec in self._specs:
            with self._go_on_after("compact", spec):
                parts: dict[datetime, list[DataFile]] = {}
                for file in self._list_files(spec):
                    parts.setdefault(_start(file, spec), []).append(file)
                for start, files in sorted(parts.items()):
                    closed = start + _PERIODS[spec.partition[1]] + CLOSED_AFTER < now
                    if _are_too_many(files, spec, closed=closed):
                        # One that cannot be rewritten must not leave those after it as they are.
                        with self._go_on_after("compact", spec):
                            yield self._rewrite(spark, spec, start, closed=closed)

    def expire(self, spark: SparkSession, now: datetime) -> Iterator[Action]:
        """Forget snapshots that are old and that no flow needs any more."""
        for stage in self._stages:
            with self._go_on_after("expire", stage.targets[-1]):
                stage.write_down(now - SNAPSHOT_AGE)
        for spec in self._specs:
            with self._go_on_after("expire", spec):
                count = self._expire(spark, spec, self._find_cutoff(spec, now))
                if count:
                    yield Action(spec.name, "expire", {"snapshots": count})

    def merge_manifests(self, spark: SparkSession) -> Iterator[Action]:
        """Rewrite the manifests of tables that have too many."""
        for spec in self._specs:
            with self._go_on_after("merge_manifests", spec):
                table = self._load(spec)
                snapshot = table.current_snapshot()
                if snapshot is not None and len(snapshot.manifests(table.io)) > MOST_MANIFESTS:
                    detail = _call(spark, "rewrite_manifests", spec, "use_caching => false")
                    yield Action(spec.name, "merge_manifests", detail)

    def remove_orphans(self, spark: SparkSession, now: datetime) -> Iterator[Action]:
        """Delete files that no snapshot knows and that no write can still be about to publish."""
        cutoff = (now - ORPHAN_AGE).isoformat()
        older = f"older_than => TIMESTAMP '{cutoff}'"
        for spec in self._specs:
            with self._go_on_after("remove_orphans", spec):
                # Hadoop, which lists by default, knows no object store; the table's access does.
                in_store = self._load(spec).location().startswith("s3://")
                by_prefix = f"prefix_listing => {str(in_store).lower()}"
                rows = _list_rows(spark, "remove_orphan_files", spec, f"{older}, {by_prefix}")
                if rows:
                    yield Action(spec.name, "remove_orphans", {"files": len(rows)})

    def retire(self, spark: SparkSession, now: datetime) -> Iterator[Action]:
        """Drop whole days that a table need not keep any longer, and write down from which day on
        it is whole.

        Bronze keeps the day of the newest row of every (topic, partition): its offsets say where
        the flow goes on. Silver keeps a day for as long as rows of it have come lately: what was
        taken in together goes together.
        """
        for spec in self._specs:
            if spec.kept_days is None:
                continue
            with self._go_on_after("retire", spec):
                end = (now - timedelta(days=spec.kept_days)).date()
                old = {day.date() for day in self._list_partitions(spec) if day.date() < end}
                days = sorted(old - _find_kept_days(spark, spec, end)) if old else []
                if days:
                    # First: who reads in between must not miss what goes.
                    set_property(
                        self._catalog, spec, RETIRED_BEFORE, partial(_pick_later, str(end))
                    )
                    spark.sql(f"DELETE FROM {table_name(spec)} WHERE {_is_of_days(spec, days)}")
                    yield Action(spec.name, "retire", {"days": len(days), "before": str(end)})

    @contextmanager
    def _go_on_after(self, duty: str, spec: TableSpec) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if self.on_failure is None:
                raise
            self.on_failure(duty, spec.name, error)

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
            f'where => "{_is_of_part(spec, start)}"',
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


def _is_of_part(spec: TableSpec, start: datetime) -> str:
    """Return the SQL condition of the partition that begins at a time."""
    column, unit = spec.partition
    literal = "DATE" if column.endswith("_date") else "TIMESTAMP"
    first, last = (
        str(at.date()) if literal == "DATE" else at.strftime("%F %T")
        for at in (start, start + _PERIODS[unit])
    )
    return f"{column} >= {literal} '{first}' AND {column} < {literal} '{last}'"


def _is_of_days(spec: TableSpec, days: Iterable[date]) -> str:
    starts = (datetime.combine(day, time.min, UTC) for day in days)
    return " OR ".join(f"({_is_of_part(spec, start)})" for start in starts)


def _pick_later(day: str, known: str | None) -> str:
    return max(day, known or day)


def _find_kept_days(spark: SparkSession, spec: TableSpec, end: date) -> set[date]:
    """Return the days before `end` that a table must keep for what its rows say."""
    rows = spark.table(table_name(spec))
    if spec.name.startswith("bronze_"):
        newest = rows.groupBy("topic", "partition").agg(F.max_by("ingestion_date", "offset"))
        return {row[2] for row in newest.collect()}
    if "bronze_ingestion_timestamp" in spec.column_names:
        old = rows.where(F.col("timestamp") < F.lit(end))
        late = old.where(F.col("bronze_ingestion_timestamp") >= F.lit(end))
        return {row[0] for row in late.select(F.to_date("timestamp")).distinct().collect()}
    return set()


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
