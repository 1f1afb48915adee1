"""Promotion: Bronze rows to dead letters and Silver, Silver rows to Gold and candles.

One exchange's steps, the same for every topology and for replay. Every step publishes under the
guard that it is given, and checks that rows are conserved before it does.
"""

from __future__ import annotations

from datetime import UTC, datetime, time
from functools import reduce

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from . import gold, silver
from .added_rows import read_added_rows
from .batch_report import BatchReport
from .candle_step import CandleStep
from .catalog import ensure_tables, read_horizon, require_table
from .publish import (
    Guard,
    Staged,
    check_published,
    publish_rows,
    publish_staged,
    read_published,
    stage_rows,
)
from .published import PublishedSnapshot, find_published
from .tables import DEAD_LETTERS, GOLD_TRADES, TableSpec, bronze_trades, silver_trades
from .trade_contract import TradeContract

_SILVER_ALONE = ("validation_timestamp", "bronze_ingestion_timestamp", "schema_id")
"""Silver's columns that are not a trade's."""

_PLACE = ("topic", "partition", "offset")

ERROR_TYPES = ("schema", "completeness", "range", "consistency", "timeliness")


class Promotion:
    """The steps of one exchange (lower-case name) after Bronze."""

    def __init__(self, exchange: str, catalog: SqlCatalog, contract: TradeContract) -> None:
        self.exchange = exchange
        self.bronze = bronze_trades(exchange)
        self.silver = silver_trades(exchange)
        self.candles = CandleStep(exchange, catalog)
        self._catalog = catalog
        self.contract = contract
        self._widen_tables()

    def judge(self, bronze: DataFrame, verdicts: Observation) -> DataFrame:
        """Decode Bronze rows and judge them; `verdicts` counts the dead ones on their way."""
        return silver.judge(bronze, self.contract).observe(verdicts, *_count_by_type())

    def publish_verdicts(
        self, spark: SparkSession, published: PublishedSnapshot, guard: Guard
    ) -> BatchReport:
        """Publish what Bronze rows make: first the dead letters, then the Silver rows.

        Both are staged before either is published, each from its own pass over the rows, and
        together they must be as many as Bronze has: a row that neither takes, or both, stops it.
        """
        now = datetime.now(UTC)
        rows = read_published(spark, self.bronze, published)
        verdicts = Observation()
        judged = self._keep_verdicts(self.judge(rows, verdicts), guard)
        with guard.clock.measure("silver"):
            accepted = silver.to_silver(judged, self.contract, now)
            staged = self._stage(accepted, self.silver, guard)
        if staged is not None and self._learn_schemas(verdicts):
            # What was staged is never published; it goes when it has grown old.
            return self.publish_verdicts(spark, published, guard)
        count = staged.row_count if staged else self._count_held(self.silver, guard)
        with guard.clock.measure("dead_letters"):
            dead_count = published.row_count - count
            dead = silver.to_dead_letters(judged, self.bronze.name, now)
            self._publish(dead, DEAD_LETTERS, guard, dead_count)
        with guard.clock.measure("silver"):
            if staged is not None and not publish_staged(staged, guard):
                check_published(self.silver, guard, self._load(self.silver), count)
        return BatchReport(
            guard.flow,
            guard.publish_id,
            read=published.row_count,
            accepted=count,
            dead=_read_counts(verdicts) if staged else {"all": dead_count},
            seconds=guard.clock.seconds,
        )

    def publish_gold(
        self, spark: SparkSession, published: PublishedSnapshot, guard: Guard
    ) -> BatchReport:
        """Publish what Gold lacks of Silver rows, and the candles that they close or change."""
        with guard.clock.measure("count"):
            columns = ("message_id", "timestamp")
            ids = read_added_rows(self._load(self.silver), published.snapshot_id, columns)
        rows = read_published(spark, self.silver, published)
        added, candles = self.publish_new(rows, ids, guard)
        return BatchReport(
            guard.flow,
            guard.publish_id,
            read=published.row_count,
            accepted=published.row_count,
            gold=added,
            duplicates=published.row_count - added,
            candles=candles,
            seconds=guard.clock.seconds,
        )

    def publish_new(self, rows: DataFrame, ids: pa.Table, guard: Guard) -> tuple[int, int]:
        """Publish what Gold lacks of Silver rows, then their candles; return how many of each.

        `ids` are the rows' message_id and timestamp.
        """
        with guard.clock.measure("count"):
            tally = gold.count_ids(ids)
        with guard.clock.measure("gold"):
            added = guard.held.get(GOLD_TRADES.name)
            if added is None:
                added = self._publish_lacking(rows, ids, tally, guard)
        with guard.clock.measure("candles"):
            spark = rows.sparkSession
            candles = self.candles.publish(spark, guard, tally, ids["timestamp"])
        return added, candles

    def find_horizon(self) -> datetime:
        """Return since when everything taken in is still in Silver or among the dead letters."""
        tables = map(self._load, (self.silver, DEAD_LETTERS))
        return datetime.combine(max(map(read_horizon, tables)), time.min, UTC)

    def find_silver(self, guard: Guard) -> PublishedSnapshot:
        """Return what Silver holds of a batch that has been published there."""
        return find_published(self._load(self.silver), guard.publish_id)

    def _publish_lacking(
        self, rows: DataFrame, ids: pa.Table, tally: gold.Tally, guard: Guard
    ) -> int:
        """Publish the rows that Gold lacks: distinct = known + new, or nothing."""
        known = gold.find_known(ids, self._load(GOLD_TRADES), self.exchange, tally.ranges)
        # Not the contract's: Silver may have those of a schema that was learned before a crash.
        names = [name for name in rows.columns if name not in _SILVER_ALONE]
        lacking = gold.to_gold(rows, names)
        if tally.repeated.num_rows:
            lacking = gold.drop_repeats(lacking, tally.repeated)
        if known.num_rows:
            lacking = gold.drop_known(lacking, known)
        added = tally.distinct - int(known.num_rows)
        # Refused: another driver has published the batch, and what it added is known here.
        publish_rows(lacking, GOLD_TRADES, guard, added)
        return added

    def _keep_verdicts(self, judged: DataFrame, guard: Guard) -> DataFrame:
        """Let a batch whose dead letters are published already be judged as it was then.

        Rules and schemas may be others by now: what is not among the dead was accepted.
        """
        if DEAD_LETTERS.name not in guard.held:
            return judged
        published = find_published(self._load(DEAD_LETTERS), guard.publish_id)
        dead = read_published(judged.sparkSession, DEAD_LETTERS, published).select(
            *(F.col(f"kafka_{name}").alias(f"dead_{name}") for name in _PLACE)
        )
        at = [judged[f"bronze.{name}"] == dead[f"dead_{name}"] for name in _PLACE]
        joined = judged.join(F.broadcast(dead), reduce(Column.__and__, at), "left")
        readable = F.col("accepted") | (F.col("error_type") != "schema")
        kept = F.col("dead_offset").isNull() & F.coalesce(readable, F.lit(False))
        return joined.withColumn("accepted", kept).select(*judged.columns)

    def _learn_schemas(self, verdicts: Observation) -> bool:
        """Ask the registry for the schema ids of frames that nobody could read."""
        unknown = verdicts.get["unknown_ids"]
        if not unknown or not self.contract.learn(unknown):
            return False
        self._widen_tables()
        return True

    def _widen_tables(self) -> None:
        """Give Silver and Gold the columns that the contract has beyond V2's.

        Gold first: what Silver has, Gold can take, wherever a driver dies.
        """
        added = self.contract.added_columns
        specs = (GOLD_TRADES.with_columns(added), self.silver.with_columns(added))
        ensure_tables(self._catalog, specs)

    def _stage(self, rows: DataFrame, spec: TableSpec, guard: Guard) -> Staged | None:
        return None if spec.name in guard.held else stage_rows(rows, spec, guard)

    def _publish(self, rows: DataFrame, spec: TableSpec, guard: Guard, expected: int) -> None:
        if spec.name in guard.held or not publish_rows(rows, spec, guard, expected):
            check_published(spec, guard, self._load(spec), expected)

    def _count_held(self, spec: TableSpec, guard: Guard) -> int:
        """Return how many rows a table holds of a batch that somebody else published there."""
        found = guard.held.get(spec.name)
        return (
            find_published(self._load(spec), guard.publish_id).row_count if found is None else found
        )

    def _load(self, spec: TableSpec) -> Table:
        return require_table(self._catalog, spec)


def _count_by_type() -> list[Column]:
    """Count dead rows by error_type on their way; the count also keeps the rows' filter above it.

    Spark would otherwise push the filter below decoding, with a copy of the whole of it.
    """
    dead = F.col("error_type")
    unknown = F.col("error_reason").startswith("unknown schema id")
    unknown_ids = F.collect_set(F.when(unknown, F.col("schema_id"))).alias("unknown_ids")
    return [*(F.count_if(dead == kind).alias(kind) for kind in ERROR_TYPES), unknown_ids]


def _read_counts(verdicts: Observation) -> dict[str, int]:
    return {kind: verdicts.get[kind] for kind in ERROR_TYPES if verdicts.get[kind]}
