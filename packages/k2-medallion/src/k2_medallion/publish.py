"""Publish: write, audit, publish. One Iceberg table's batches, each visible once or not at all.

A batch is staged under its id (`spark.wap.id`), counted while still invisible, and published by
snapshot id. Iceberg refuses an id that is already among the table's ancestors, at commit time, so
neither a replay nor a second driver can publish a batch twice (CherryPickOperation, WapUtil).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JJavaError
from pyiceberg.table import Table
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from .errors import ConservationError, FencedError
from .flow import Batch
from .spark import table_name
from .tables import TableSpec

_WAP_ID = "spark.wap.id"
_ATTEMPT = "k2-attempt"
_DUPLICATE = "org.apache.iceberg.exceptions.DuplicateWAPCommitException"


@dataclass(frozen=True, slots=True)
class PublishedSnapshot:
    """A published batch: its id, where it stands in the table's history, and its rows."""

    publish_id: str
    snapshot_id: int
    parent_id: int | None
    row_count: int


def publish_rows(
    rows: DataFrame, spec: TableSpec, publish_id: str, *, flow: str, expected_rows: int
) -> bool:
    """Publish `rows` under `publish_id`; return False when that id was published before.

    Raises `ConservationError`, with nothing published, when the staged snapshot does not hold
    exactly `expected_rows`.
    """
    # The batch's own session: the shared one must never carry an id.
    spark = rows.sparkSession
    attempt = uuid.uuid4().hex
    spark.conf.set(_WAP_ID, publish_id)
    try:
        rows.writeTo(table_name(spec)).option(f"snapshot-property.{_ATTEMPT}", attempt).append()
    except Py4JJavaError as error:
        # Staging itself is refused when the id is already published.
        if _is_duplicate(error):
            return False
        raise
    finally:
        spark.conf.unset(_WAP_ID)
    table = _load(spark, spec)
    staged = _find_staged(table, attempt)
    found = int(staged.summary().get("added-records") or 0)
    if found != expected_rows:
        raise ConservationError(flow, f"rows staged for {spec.name}", expected_rows, found)
    return _cherry_pick(table, staged.snapshotId())


def list_published(table: Table, flow: str) -> list[PublishedSnapshot]:
    """Return the flow's published batches that the table still knows, oldest first."""
    prefix = f"k2:{flow}:"
    found = []
    for snapshot in _ancestors(table):
        summary = snapshot.summary
        # A cherry-pick that was no fast-forward keeps the id under another key, and nothing else.
        publish_id = (summary["published-wap-id"] or summary["wap.id"]) if summary else None
        if publish_id and publish_id.startswith(prefix):
            found.append(
                PublishedSnapshot(
                    publish_id=publish_id,
                    snapshot_id=snapshot.snapshot_id,
                    parent_id=snapshot.parent_snapshot_id,
                    row_count=int(summary["added-records"] or 0),
                )
            )
    return found[::-1]


def read_published(spark: SparkSession, spec: TableSpec, published: PublishedSnapshot) -> DataFrame:
    """Return the rows that one published batch added to a table."""
    reader = spark.read.format("iceberg")
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
    for published in list_published(table, batch.flow):
        if published.publish_id == batch.publish_id:
            rows = read_published(spark, spec, published)
            ends = rows.groupBy(partition).agg(F.max(offset) + 1).collect()
            if dict(batch.start) | {row[0]: row[1] for row in ends} == dict(batch.end):
                return
    raise FencedError(batch.flow, batch.publish_id)


def _ancestors(table: Table) -> Iterator[Any]:
    snapshot = table.current_snapshot()
    while snapshot is not None:
        yield snapshot
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else table.snapshot_by_id(parent)


def _load(spark: SparkSession, spec: TableSpec) -> Any:
    assert spark._jvm is not None
    load = spark._jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable
    return load(spark._jsparkSession, table_name(spec))


def _find_staged(table: Any, attempt: str) -> Any:
    """Return what this very write staged: leftovers and rivals may carry the same batch's id."""
    snapshots = table.snapshots()
    for place in range(len(snapshots) - 1, -1, -1):
        if snapshots[place].summary().get(_ATTEMPT) == attempt:
            return snapshots[place]
    raise AssertionError(f"Spark has written no snapshot of attempt {attempt}")


def _cherry_pick(table: Any, snapshot_id: int) -> bool:
    try:
        table.manageSnapshots().cherrypick(snapshot_id).commit()
    except Py4JJavaError as error:
        if _is_duplicate(error):
            return False
        raise
    return True


def _is_duplicate(error: Py4JJavaError) -> bool:
    cause = error.java_exception
    while cause is not None:
        if cause.getClass().getName() == _DUPLICATE:
            return True
        cause = cause.getCause()
    return False
