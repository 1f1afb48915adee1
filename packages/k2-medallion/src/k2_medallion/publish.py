"""Publish: write, audit, publish. One Iceberg table's batches, each visible once or not at all.

A batch is staged under its id (`spark.wap.id`), counted while still invisible, and published by
snapshot id. Iceberg refuses an id that is already among the table's ancestors, at commit time, so
neither a replay nor a second driver can publish a batch twice (CherryPickOperation, WapUtil).
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from py4j.protocol import Py4JJavaError
from pyiceberg.table import Table
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from .batch_report import COMMIT, StepClock
from .errors import ConservationError, FencedError
from .flow import Batch
from .offsets import Offsets
from .published import PublishedSnapshot, find_published, walk_flow
from .spark import load_java_table, table_name
from .tables import TableSpec

_log = structlog.get_logger()

_WAP_ID = "spark.wap.id"
STALE_AFTER_S = 400.0
"""Well below the age at which snapshots, and the ids they carry, may expire."""

ALONE = math.inf
"""`since` of a guard whose holder has the home for itself: nobody can publish in its place."""

_ATTEMPT = "k2-attempt"
_SMALLEST_SPLIT_BYTES = 2 << 20
_DUPLICATE = "org.apache.iceberg.exceptions.DuplicateWAPCommitException"


@dataclass(frozen=True, slots=True)
class Guard:
    """Under which id a flow's batch is published, and which tables hold it already.

    `held` gives, per table name, how many rows an earlier driver published there under the id.
    `since` is when the tables said that the batch is this driver's to publish (s since 1970).
    """

    flow: str
    publish_id: str
    held: Mapping[str, int] = field(default_factory=dict)
    since: float = field(default_factory=time.time)
    clock: StepClock = field(default_factory=StepClock)


@dataclass(frozen=True, slots=True)
class Staged:
    """Rows of one table that are written and that no reader sees."""

    spec: TableSpec
    row_count: int
    # Iceberg's own objects, in the JVM.
    table: Any
    snapshot: Any


def publish_rows(rows: DataFrame, spec: TableSpec, guard: Guard, expected_rows: int) -> bool:
    """Publish `rows` under the guard's id; return False when that id was published before.

    Raises `ConservationError`, with nothing published, when what was staged is not exactly
    `expected_rows`.
    """
    staged = stage_rows(rows, spec, guard) if expected_rows else stage_nothing(rows, spec, guard)
    if staged is None:
        return False
    audit_staged(staged, guard, expected_rows)
    return publish_staged(staged, guard)


def stage_rows(rows: DataFrame, spec: TableSpec, guard: Guard) -> Staged | None:
    """Write rows as a snapshot that no reader sees; return None if the id is published already."""
    # The batch's own session: the shared one must never carry an id.
    spark = rows.sparkSession
    attempt = uuid.uuid4().hex
    spark.conf.set(_WAP_ID, guard.publish_id)
    try:
        writer = fit_columns(rows, spec).writeTo(table_name(spec))
        writer = writer.option(f"snapshot-property.{_ATTEMPT}", attempt)
        # As the rows come: to hash a batch by its hour brings all of it to one core.
        writer.option("distribution-mode", "none").append()
    except Py4JJavaError as error:
        # Staging itself is refused when the id is already published.
        if _is_duplicate(error):
            return None
        raise
    finally:
        spark.conf.unset(_WAP_ID)
    return _find_staged(load_java_table(spark, spec), spec, attempt)


def fit_columns(rows: DataFrame, spec: TableSpec) -> DataFrame:
    """Add, as NULL, the columns that a table has got since: by another exchange's newer schema."""
    held = rows.sparkSession.table(table_name(spec)).schema
    lacking = [field for field in held if field.name not in rows.columns]
    return rows.withColumns({f.name: F.lit(None).cast(f.dataType) for f in lacking})


def stage_nothing(rows: DataFrame, spec: TableSpec, guard: Guard) -> Staged | None:
    """Stage an empty snapshot, which needs no Spark job; `rows` only name the session."""
    table = load_java_table(rows.sparkSession, spec)
    attempt = uuid.uuid4().hex
    append = table.newAppend().set("wap.id", guard.publish_id).set(_ATTEMPT, attempt)
    try:
        append.stageOnly().commit()
    except Py4JJavaError as error:
        if _is_duplicate(error):
            return None
        raise
    return _find_staged(table, spec, attempt)


def audit_staged(staged: Staged, guard: Guard, expected_rows: int) -> None:
    """Raise `ConservationError` unless what was staged is exactly as many rows as expected."""
    if staged.row_count != expected_rows:
        law = f"rows staged for {staged.spec.name}"
        raise ConservationError(guard.flow, law, expected_rows, staged.row_count)


def publish_staged(staged: Staged, guard: Guard) -> bool:
    """Make staged rows visible; return False if their id is published already.

    Raises `FencedError` if the batch was this driver's long ago: who has slept that long cannot
    know that the id it would be refused for has not been forgotten (`maintain.SNAPSHOT_AGE`).
    """
    if time.time() - guard.since > STALE_AFTER_S:
        raise FencedError(guard.flow, guard.publish_id)
    with guard.clock.measure(COMMIT):
        try:
            staged.table.manageSnapshots().cherrypick(staged.snapshot.snapshotId()).commit()
        except Py4JJavaError as error:
            if _is_duplicate(error):
                return False
            raise
    return True


class Standing:
    """Whether a flow's newest batch in a table is still the one that this driver knows.

    A driver that has slept may find its next batch published by another, and the id under which
    that was done forgotten; what came after it is not.
    """

    def __init__(self, flow: str, load: Callable[[], Table]) -> None:
        self._flow = flow
        self._load = load
        self._newest: str | None = None

    def take(self) -> None:
        """Note the newest batch; before positions are read from the table's rows."""
        self._newest = self._find_newest()

    def confirm(
        self, guard: Guard, start: Mapping[int, int], read_positions: Callable[[], Offsets]
    ) -> None:
        """Raise `FencedError` if another driver has published, unless it is this very batch.

        A table that knows none of the flow's batches may have forgotten them all: twenty minutes
        without one are enough. Then its rows say whether somebody has been beyond its `start`.
        """
        newest = self._find_newest()
        if newest is None:
            held = read_positions()
            fenced = any(position > start.get(place, 0) for place, position in held.items())
        else:
            fenced = newest not in (self._newest, guard.publish_id)
        if fenced:
            raise FencedError(self._flow, guard.publish_id)
        self._newest = guard.publish_id

    def _find_newest(self) -> str | None:
        newest = next(walk_flow(self._load(), self._flow), None)
        return None if newest is None else newest.publish_id


def check_published(spec: TableSpec, guard: Guard, table: Table, expected_rows: int) -> None:
    """Raise `ConservationError` unless what a table holds of a batch is as many rows as expected.

    For a batch that an earlier driver, or a rival, has published: `table` is loaded after that.
    """
    found = guard.held.get(spec.name)
    if found is None:
        _log.warning("already_published", table=spec.name, publish_id=guard.publish_id)
        found = find_published(table, guard.publish_id).row_count
    if found != expected_rows:
        law = f"{spec.name} as an earlier driver published {guard.publish_id}"
        raise ConservationError(guard.flow, law, expected_rows, found)


def read_published(spark: SparkSession, spec: TableSpec, published: PublishedSnapshot) -> DataFrame:
    """Return the rows that one published batch added to a table."""
    # Iceberg would read files of this size in one task, on one core.
    share = published.size_bytes // spark.sparkContext.defaultParallelism + 1
    reader = spark.read.format("iceberg").option("split-size", max(_SMALLEST_SPLIT_BYTES, share))
    if published.parent_id is None:
        # The table's first snapshot: all it holds is what the batch added.
        return reader.option("versionAsOf", published.snapshot_id).load(table_name(spec))
    return (
        reader.option("start-snapshot-id", published.parent_id)
        .option("end-snapshot-id", published.snapshot_id)
        .load(table_name(spec))
    )


def check_same_range(
    spark: SparkSession, spec: TableSpec, table: Table, batch: Batch, place: tuple[str, str]
) -> None:
    """Raise `FencedError` unless what was published under a batch's id is the batch's own range.

    Called when Iceberg refused the id. `place` names the partition and offset columns.
    """
    partition, offset = place
    for published in walk_flow(table, batch.flow):
        if published.publish_id == batch.publish_id:
            rows = read_published(spark, spec, published)
            ends = rows.groupBy(partition).agg(F.max(offset) + 1).collect()
            if dict(batch.start) | {row[0]: row[1] for row in ends} == dict(batch.end):
                return
    raise FencedError(batch.flow, batch.publish_id)


def _find_staged(table: Any, spec: TableSpec, attempt: str) -> Staged:
    """Return what this very write staged: leftovers and rivals may carry the same batch's id."""
    table.refresh()
    snapshots = table.snapshots()
    for place in range(len(snapshots) - 1, -1, -1):
        summary = snapshots[place].summary()
        if summary.get(_ATTEMPT) == attempt:
            return Staged(spec, int(summary.get("added-records") or 0), table, snapshots[place])
    raise AssertionError(f"Spark has written no snapshot of attempt {attempt}")


def _is_duplicate(error: Py4JJavaError) -> bool:
    cause = error.java_exception
    while cause is not None:
        if cause.getClass().getName() == _DUPLICATE:
            return True
        cause = cause.getCause()
    return False
