"""Dead letters: frames the feed could not turn into trades, from their topic into the DLQ table."""

from __future__ import annotations

from datetime import UTC, datetime

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from k2_schemas.topics import DEADLETTER_TOPIC, HEADER_REASON, HEADER_VENUE

from .batch_report import BatchReport
from .batch_value import take_in
from .catalog import require_table
from .flow import Batch
from .offsets import Offsets, claim_topic, read_high_water
from .publish import Guard, Standing, check_same_range, publish_rows
from .spark import table_name
from .tables import DEAD_LETTERS

_PLACE = ("kafka_partition", "kafka_offset")


class DeadLetterSink:
    """The dead-letter topic into the DLQ table: as many rows as offsets."""

    flow = "deadletter"
    topic = DEADLETTER_TOPIC
    with_headers = True

    def __init__(self, catalog: SqlCatalog) -> None:
        self._catalog = catalog
        self._standing = Standing(self.flow, self._load)

    def read_positions(self, spark: SparkSession, wanted: set[int]) -> Offsets:
        """Return the offsets after the newest rows that came from this topic."""
        self._standing.take()
        return self._read_held(spark, wanted)

    def claim(self, topic_id: str) -> None:
        """Tie the table's offsets of this topic to it."""
        claim_topic(self._catalog, DEAD_LETTERS, self.topic, topic_id)

    def write(self, rows: DataFrame, batch: Batch) -> BatchReport:
        """Publish one batch of dead letters."""
        guard = Guard(self.flow, batch.publish_id)
        dead = to_dead_letters(rows, datetime.now(UTC))
        read = batch.offsets_read
        with guard.clock.measure("dead_letters"):
            own = rows.sparkSession
            self._standing.confirm(
                guard, batch.start, lambda: self._read_held(own, set(batch.start))
            )
            if not publish_rows(dead, DEAD_LETTERS, guard, read):
                check_same_range(own, DEAD_LETTERS, self._load(), batch, _PLACE)
        return BatchReport(
            self.flow, batch.publish_id, read, dead={"schema": read}, seconds=guard.clock.seconds
        )

    def _read_held(self, spark: SparkSession, wanted: set[int]) -> Offsets:
        rows = spark.table(table_name(DEAD_LETTERS)).where(F.col("kafka_topic") == self.topic)
        named = rows.select(
            "dlq_date", *(F.col(name).alias(name.removeprefix("kafka_")) for name in _PLACE)
        )
        return read_high_water(named, DEAD_LETTERS, wanted)

    def _load(self) -> Table:
        return require_table(self._catalog, DEAD_LETTERS)


def to_dead_letters(kafka: DataFrame, failed_at: datetime) -> DataFrame:
    """Turn records of the dead-letter topic into rows of the DLQ table, bytes untouched."""
    return kafka.select(
        F.col("value").alias("raw_record"),
        F.concat_ws(": ", _header(HEADER_VENUE), _header(HEADER_REASON)).alias("error_reason"),
        F.lit("schema").alias("error_type"),
        take_in(failed_at, "partition").alias("error_timestamp"),
        F.lit(None).cast("string").alias("bronze_source"),
        F.col("topic").alias("kafka_topic"),
        F.col("partition").alias("kafka_partition"),
        F.col("offset").alias("kafka_offset"),
        F.lit(None).cast("int").alias("schema_id"),
        F.lit(None).cast("string").alias("rules_fingerprint"),
        take_in(failed_at.date(), "partition").alias("dlq_date"),
    )


def _header(name: str) -> Column:
    """Read a header's text; the last one counts, as in Kafka's own clients."""
    found = F.expr(f"filter(headers, h -> h.key = '{name}')")
    return F.make_valid_utf8(F.get(found, F.size(found) - 1)["value"].cast("string"))
