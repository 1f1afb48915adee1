"""Bronze sink: one exchange's topic into Bronze, fenced; and where Bronze stands."""

from __future__ import annotations

from datetime import UTC, datetime

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from k2_schemas.topics import trades_topic

from . import bronze
from .added_rows import find_newest_ms
from .batch_report import BatchReport
from .catalog import require_table
from .flow import Batch
from .offsets import Offsets, claim_topic, read_high_water
from .publish import (
    Guard,
    Standing,
    check_same_range,
    publish_rows,
)
from .published import PublishedSnapshot, find_published
from .spark import table_name
from .tables import bronze_trades

_PLACE = ("partition", "offset")


class BronzeSink:
    """Every record of an exchange (lower-case name) into Bronze, and nothing else."""

    with_headers = False

    def __init__(self, exchange: str, catalog: SqlCatalog, *, flow: str | None = None) -> None:
        self.flow = flow or f"bronze-{exchange}"
        self.topic = trades_topic(exchange)
        self._spec = bronze_trades(exchange)
        self._catalog = catalog
        self._standing = Standing(self.flow, self._load)

    def read_positions(self, spark: SparkSession, wanted: set[int]) -> Offsets:
        """Return the offsets after Bronze's newest rows."""
        self._standing.take()
        return self._read_held(spark, wanted)

    def claim(self, topic_id: str) -> None:
        """Tie Bronze's offsets to the topic."""
        claim_topic(self._catalog, self._spec, self.topic, topic_id)

    def write(self, rows: DataFrame, batch: Batch) -> BatchReport:
        """Publish a batch."""
        guard, _, newest_ms = self.publish(rows, batch)
        return BatchReport(
            self.flow,
            batch.publish_id,
            read=batch.offsets_read,
            newest_ms=newest_ms,
            seconds=guard.clock.seconds,
        )

    def publish(self, rows: DataFrame, batch: Batch) -> tuple[Guard, PublishedSnapshot, int]:
        """Publish a batch's Bronze rows; raise `FencedError` if another driver has, and not these.

        If another driver has published the very same range, it is the same work, done. Returns also
        Kafka's time of the newest row (ms since 1970).
        """
        guard = Guard(self.flow, batch.publish_id)
        with guard.clock.measure("bronze"):
            own = rows.sparkSession
            self._standing.confirm(
                guard, batch.start, lambda: self._read_held(own, set(batch.start))
            )
            taken = bronze.to_bronze(rows, datetime.now(UTC))
            fresh = publish_rows(taken, self._spec, guard, batch.offsets_read)
            table = self._load()
            if not fresh:
                check_same_range(own, self._spec, table, batch, _PLACE)
        published = find_published(table, guard.publish_id)
        newest_ms = find_newest_ms(table, published.snapshot_id, "kafka_timestamp")
        return guard, published, newest_ms

    def _read_held(self, spark: SparkSession, wanted: set[int]) -> Offsets:
        rows = spark.table(table_name(self._spec)).where(F.col("topic") == self.topic)
        return read_high_water(rows, self._spec, wanted)

    def _load(self) -> Table:
        return require_table(self._catalog, self._spec)
