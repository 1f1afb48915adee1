"""Replay: Silver, dead letters, Gold and candles of a time range, rebuilt from Bronze.

The same functions as the flows use, and only what is lacking is appended: of each message_id the
rows that Bronze yields beyond those that Silver holds, by batch and content, of dead letters those
whose place in Kafka is not there yet. So a second run adds nothing. What was judged stays judged:
where today's rules or schemas would make more or fewer rows of Bronze than it has, nothing is
published. It compares tables, so it must be alone (`hold_home(home, alone=True)`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import pairwise

from pyspark.sql import Column, DataFrame, Observation, SparkSession, Window
from pyspark.sql import functions as F

from . import silver
from .errors import ConservationError, SchemaLackingError
from .promotion import Promotion
from .publish import ALONE, Guard, publish_rows
from .spark import table_name
from .tables import DEAD_LETTERS, TRADE_COLUMNS
from .time_range import from_micros

MOST_ROWS = 200_000
"""Bronze rows that are replayed at once, unless a single batch has more."""

_HOUR = timedelta(hours=1)
_HOUR_US = 3_600_000_000
_PLACE = ("kafka_topic", "kafka_partition", "kafka_offset")
_SAME_ROW = ("message_id", "bronze_ingestion_timestamp", "content")


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """An hour of Bronze, by ingestion time, and how many rows each table lacked of it."""

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

    def add(self, later: ReplayReport) -> ReplayReport:
        """Return this report with what came of the part of the hour after it."""
        names = ("bronze", "silver", "dead_letters", "gold", "candles")
        sums = {name: getattr(self, name) + getattr(later, name) for name in names}
        return replace(self, end=later.end, **sums)


class Replay:
    """Replays one exchange's Bronze as the flows took it in, some of their batches at a time.

    What is older than Silver and the dead letters keep is left alone: they have let go of it, and
    what is added would be gone again within the hour.
    """

    def __init__(self, promotion: Promotion) -> None:
        self._promotion = promotion

    def run(
        self, spark: SparkSession, start: datetime | None = None, end: datetime | None = None
    ) -> Iterator[ReplayReport]:
        """Replay what Bronze took in from `start` to before `end`; everything by default.

        The times are Bronze's ingestion_timestamp, and must have a time zone. Yields a report an
        hour. Raises `SchemaLackingError` as `require_schemas` does.
        """
        self.require_schemas(spark)
        since = self._promotion.find_horizon()
        first = max(start.astimezone(UTC), since) if start else since
        end = end.astimezone(UTC) if end else None
        for hour in self._list_hours(spark):
            bounds = max(hour, first), min(hour + _HOUR, end or hour + _HOUR)
            if bounds[0] < bounds[1]:
                parts = self._list_slices(spark, *bounds)
                yield reduce(ReplayReport.add, (self._replay(spark, *part) for part in parts))

    def require_schemas(self, spark: SparkSession) -> None:
        """Raise `SchemaLackingError` if Silver has rows of a schema that is not known here.

        Their bytes would become dead letters beside them.
        """
        contract = self._promotion.contract
        rows = spark.table(table_name(self._promotion.silver)).select("schema_id").distinct()
        held = {row[0] for row in rows.where("schema_id IS NOT NULL").collect()}
        if lacking := held.difference(contract.ids):
            contract.learn(lacking)
        if lacking := held.difference(contract.ids):
            raise SchemaLackingError(self._promotion.silver.name, min(lacking))

    def _list_hours(self, spark: SparkSession) -> list[datetime]:
        """Return the hours in which Bronze took in rows, ascending."""
        hour = F.floor(F.unix_micros("ingestion_timestamp") / _HOUR_US)
        rows = spark.table(table_name(self._promotion.bronze)).select(hour).distinct().collect()
        return sorted(from_micros(row[0] * _HOUR_US) for row in rows)

    def _list_slices(
        self, spark: SparkSession, start: datetime, end: datetime
    ) -> list[tuple[datetime, datetime]]:
        """Cut a part of an hour between batches, so that none is much larger than a batch may be.

        An hour of a busy exchange, or one of catching up, has too many rows for a driver's memory.
        """
        # Cut by Spark: a migrated Bronze has as many times as Kafka had, millions an hour.
        batches = self._select_bronze(spark, start, end).groupBy("ingestion_timestamp").count()
        before = F.sum("count").over(Window.orderBy("ingestion_timestamp")) - F.col("count")
        slices = batches.withColumn("slice", F.floor(before / MOST_ROWS)).groupBy("slice")
        begins = slices.agg(F.min("ingestion_timestamp")).orderBy("slice").collect()
        cuts = [start, *(begin.astimezone(UTC) for _, begin in begins[1:]), end]
        return list(pairwise(cuts))

    def _select_bronze(self, spark: SparkSession, start: datetime, end: datetime) -> DataFrame:
        # The date is there for Iceberg to skip files by.
        days = F.col("ingestion_date").between(F.lit(start.date()), F.lit(end.date()))
        rows = spark.table(table_name(self._promotion.bronze))
        return rows.where(days & _is_within("ingestion_timestamp", start, end))

    def _replay(self, spark: SparkSession, start: datetime, end: datetime) -> ReplayReport:
        promotion, now = self._promotion, datetime.now(UTC)
        flow = f"replay-{promotion.exchange}"
        publish_id = f"k2:{flow}:{start.isoformat()}:{uuid.uuid4().hex}"
        guard = Guard(flow, publish_id, since=ALONE)
        bronze = self._select_bronze(spark, start, end)
        letters = spark.table(table_name(DEAD_LETTERS))
        buried = letters.where(F.col("bronze_source") == promotion.bronze.name).select(*_PLACE)
        # What has died stays dead, whatever today's rules say: requeueing is for that.
        fresh = promotion.judge(_drop_places(bronze, buried), Observation())
        held = spark.table(table_name(promotion.silver)).where(
            _is_within("bronze_ingestion_timestamp", start, end)
        )
        dead = silver.to_dead_letters(fresh, promotion.bronze.name, now).persist()
        lacking = _drop_held(silver.to_silver(fresh, promotion.contract, now), held).persist()
        try:
            counts = dead.count(), lacking.count()
            known = held.count() + _count_places(bronze, buried)
            count = bronze.count()
            if known + sum(counts) != count:
                law = f"rows of {promotion.bronze.name} in Silver or dead, {start} to {end}"
                raise ConservationError(flow, law, count, known + sum(counts))
            for rows, spec, expected in zip(
                (dead, lacking), (DEAD_LETTERS, promotion.silver), counts, strict=True
            ):
                if expected:
                    publish_rows(rows, spec, guard, expected)
        finally:
            dead.unpersist()
            lacking.unpersist()
        gold_count, candle_count = self._rebuild_gold(spark, start, end, guard)
        dead_count, silver_count = counts
        return ReplayReport(start, end, count, silver_count, dead_count, gold_count, candle_count)

    def _rebuild_gold(
        self, spark: SparkSession, start: datetime, end: datetime, guard: Guard
    ) -> tuple[int, int]:
        rows = spark.table(table_name(self._promotion.silver)).where(
            _is_within("bronze_ingestion_timestamp", start, end)
        )
        ids = rows.select("message_id", "timestamp").toArrow()
        return self._promotion.publish_new(rows, ids, guard)


def _is_within(column: str, start: datetime, end: datetime) -> Column:
    return (F.col(column) >= F.lit(start)) & (F.col(column) < F.lit(end))


def _drop_places(bronze: DataFrame, places: DataFrame) -> DataFrame:
    return bronze.join(places, _is_at(bronze, places), "left_anti")


def _count_places(bronze: DataFrame, places: DataFrame) -> int:
    return bronze.join(places, _is_at(bronze, places), "left_semi").count()


def _is_at(bronze: DataFrame, places: DataFrame) -> Column:
    names = zip(("topic", "partition", "offset"), _PLACE, strict=True)
    return reduce(Column.__and__, (bronze[ours] == places[theirs] for ours, theirs in names))


def _drop_held(rows: DataFrame, held: DataFrame) -> DataFrame:
    """Return the rows beyond as many of the same batch and content as are held.

    A trade that came in two batches has a row of each: one must not stand in for the other.
    """
    counts = _add_content(held).groupBy(*_SAME_ROW).agg(F.count("*").alias("held_count"))
    place = Window.partitionBy(*_SAME_ROW).orderBy("message_id")
    numbered = _add_content(rows).withColumn("copy", F.row_number().over(place))
    lacking = F.col("copy") > F.coalesce("held_count", F.lit(0))
    return numbered.join(counts, list(_SAME_ROW), "left").where(lacking).select(*rows.columns)


def _add_content(rows: DataFrame) -> DataFrame:
    """Return Silver rows with a hash of what they say of the trade."""
    # A map has no hash, as it has no order; its entries do.
    fields = (
        F.sort_array(F.map_entries(name)) if kind.startswith("map") else F.col(name)
        for name, kind in TRADE_COLUMNS
    )
    return rows.withColumn("content", F.xxhash64(*fields))
