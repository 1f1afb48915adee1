"""Replay: Silver, dead letters, Gold and candles of a time range, rebuilt from Bronze.

The same functions as the flows use, and only what is lacking is appended: of each message_id the
rows that Bronze yields beyond those that Silver holds, of dead letters those whose place in Kafka
is not there yet. So a second run adds nothing. It compares tables, so it must be alone
(`hold_home(home, alone=True)`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame, Observation, SparkSession, Window
from pyspark.sql import functions as F

from . import silver
from .promotion import Promotion
from .publish import Guard, publish_rows
from .spark import table_name
from .tables import DEAD_LETTERS, TableSpec
from .time_range import from_micros

_SLICE = timedelta(hours=1)
_HOUR_US = 3_600_000_000
_PLACE = ("kafka_topic", "kafka_partition", "kafka_offset")


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """One slice of Bronze, by ingestion time, and how many rows each table lacked of it."""

    start: datetime
    end: datetime
    bronze: int
    silver: int
    dead_letters: int
    gold: int
    candles: int

    @property
    def added(self) -> int:
        """Rows added to any table."""
        return self.silver + self.dead_letters + self.gold + self.candles


class Replay:
    """Replays one exchange's Bronze, an hour at a time: memory grows with the hour alone."""

    def __init__(self, promotion: Promotion) -> None:
        self._promotion = promotion

    def run(
        self, spark: SparkSession, start: datetime | None = None, end: datetime | None = None
    ) -> Iterator[ReplayReport]:
        """Replay what Bronze took in from `start` to before `end`; everything by default.

        The times are Bronze's ingestion_timestamp, and must have a time zone.
        """
        for hour in self._list_hours(spark):
            first = max(hour, start) if start else hour
            last = min(hour + _SLICE, end) if end else hour + _SLICE
            if first < last:
                yield self._replay(spark, first, last)

    def _list_hours(self, spark: SparkSession) -> list[datetime]:
        """Return the hours in which Bronze took in rows, ascending."""
        hour = F.floor(F.unix_micros("ingestion_timestamp") / _HOUR_US)
        rows = spark.table(table_name(self._promotion.bronze)).select(hour).distinct().collect()
        return sorted(from_micros(row[0] * _HOUR_US) for row in rows)

    def _replay(self, spark: SparkSession, start: datetime, end: datetime) -> ReplayReport:
        promotion, now = self._promotion, datetime.now(UTC)
        flow = f"replay-{promotion.exchange}"
        guard = Guard(flow, f"k2:{flow}:{start.isoformat()}:{uuid.uuid4().hex}")
        taken_in = _is_within("ingestion_timestamp", start, end)
        # The date is there for Iceberg to skip files by.
        days = F.col("ingestion_date").between(F.lit(start.date()), F.lit(end.date()))
        bronze = spark.table(table_name(promotion.bronze)).where(days & taken_in)
        judged = promotion.judge(bronze, Observation())
        accepted = silver.to_silver(judged, promotion.contract, now)
        held = spark.table(table_name(promotion.silver)).where(
            _is_within("bronze_ingestion_timestamp", start, end)
        )
        dead = silver.to_dead_letters(judged, promotion.bronze.name, now)
        known = spark.table(table_name(DEAD_LETTERS)).select(*_PLACE)
        dead_count = self._append(dead.join(known, list(_PLACE), "left_anti"), DEAD_LETTERS, guard)
        silver_count = self._append(_drop_held(accepted, held), promotion.silver, guard)
        gold_count, candle_count = self._rebuild_gold(spark, start, end, guard)
        return ReplayReport(
            start, end, bronze.count(), silver_count, dead_count, gold_count, candle_count
        )

    def _rebuild_gold(
        self, spark: SparkSession, start: datetime, end: datetime, guard: Guard
    ) -> tuple[int, int]:
        rows = spark.table(table_name(self._promotion.silver)).where(
            _is_within("bronze_ingestion_timestamp", start, end)
        )
        ids = rows.select("message_id", "timestamp").toArrow()
        return self._promotion.publish_new(rows, ids, guard)

    def _append(self, rows: DataFrame, spec: TableSpec, guard: Guard) -> int:
        lacking = rows.persist()
        try:
            count = lacking.count()
            if count:
                publish_rows(lacking, spec, guard, count)
        finally:
            lacking.unpersist()
        return count


def _is_within(column: str, start: datetime, end: datetime) -> Column:
    return (F.col(column) >= F.lit(start)) & (F.col(column) < F.lit(end))


def _drop_held(rows: DataFrame, held: DataFrame) -> DataFrame:
    """Return, of each message_id, the rows beyond as many as are held."""
    counts = held.groupBy("message_id").agg(F.count("*").alias("held_count"))
    place = Window.partitionBy("message_id").orderBy("bronze_ingestion_timestamp")
    numbered = rows.withColumn("copy", F.row_number().over(place))
    lacking = F.col("copy") > F.coalesce("held_count", F.lit(0))
    return numbered.join(counts, "message_id", "left").where(lacking).select(*rows.columns)
