"""Lake: Kafka to Gold on this machine, beside the usual design in the same session.

`hatch run bench lake` runs every part but the soak; `--part catch_up` one of them; `--minutes 2`
shortens the steady part, or the soak.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from k2_medallion import (
    DEAD_LETTERS,
    GOLD_CANDLES,
    GOLD_TRADES,
    bronze_trades,
    open_catalog,
    silver_trades,
)
from k2_medallion.bronze import to_bronze
from k2_medallion.bronze_sink import BronzeSink
from k2_medallion.catalog import load_table
from k2_medallion.flow import MAX_OFFSETS_PER_BATCH
from k2_medallion.fused import TradeSink
from k2_medallion.gold import count_ids, find_known, to_gold
from k2_medallion.promotion import Promotion
from k2_medallion.silver import judge, to_dead_letters, to_silver
from k2_medallion.spark import table_name
from k2_medallion.trade_contract import TradeContract
from k2_schemas.topics import trades_topic

from .lake_rig import TRADES_PER_S, BatchLog, Rig, open_rig, run_flow
from .options import read_options
from .report import Report

_RECORDS = 1_000_000
_TURNS = 5
_BATCH = MAX_OFFSETS_PER_BATCH
_DEDUP_BATCH = 20_000
_HALF_STEP_US = 500_000 // TRADES_PER_S
"""Every second trade of a batch has the time, and so the id, of one in Gold."""
_PARTS = ("catch_up", "dedup", "steady", "recovery")


def run(report: Report, arguments: Sequence[str]) -> dict[str, float]:
    """Run the parts that are asked for, all by default."""
    options = read_options(arguments)
    parts = [options["part"]] if "part" in options else list(_PARTS)
    figures: dict[str, float] = {}
    if "catch_up" in parts or "dedup" in parts:
        with open_rig() as rig:
            if "catch_up" in parts:
                figures |= _catch_up(rig, report)
            if "dedup" in parts:
                figures |= _dedup(rig, report, int(options.get("rows", "50000000")))
    if "steady" in parts:
        from .lake_steady import run_steady

        figures |= run_steady(report, float(options.get("minutes", "10")))
    if "soak" in parts:
        from .lake_steady import run_soak

        figures |= run_soak(report, float(options.get("minutes", "60")))
    if "recovery" in parts:
        from .lake_steady import run_recovery

        figures |= run_recovery(report)
    report.versions("pyspark", "pyiceberg", "duckdb", "confluent-kafka")
    return figures


def _catch_up(rig: Rig, report: Report) -> dict[str, float]:
    """A million records wait in Kafka; one batch more warms up and does not count.

    The designs take turns; the first turn, in which the JVM still compiles, does not count either.
    """
    count = _RECORDS + _BATCH
    rates: dict[str, list[float]] = {"bronze": [], "gold": [], "naive": []}
    commits: list[float] = []
    for number in range(_TURNS):
        rig.add_exchange(f"b{number}", count)
        log = BatchLog()
        run_flow(rig, BronzeSink(f"b{number}", open_catalog(rig.home)), count, log)
        rates["bronze"].append(log.rate_after_first())
        rig.add_exchange(f"f{number}", count)
        log = BatchLog()
        run_flow(rig, _fused(rig, f"f{number}"), count, log)
        rates["gold"].append(log.rate_after_first())
        commits += [batch.seconds["commit"] for batch in log.reports[1:]]
        rig.add_exchange(f"n{number}", count)
        rates["naive"].append(_run_naive(rig, f"n{number}", count))
    median = {name: statistics.median(found[1:]) for name, found in rates.items()}
    rows = [
        [name, *(f"{rate:,.0f}" for rate in found), f"{median[name]:,.0f}"]
        for name, found in rates.items()
    ]
    report.table(
        "1 M records in Kafka: records/s of every turn, and the median of those after the first",
        ["", *map(str, range(1, _TURNS + 1)), "median"],
        rows,
    )
    report.note(
        "bronze: the Bronze flow alone. gold: the fused flow with every table, deduplication, "
        "candles and fenced publish. naive: three streams in the same session make the same "
        "tables, Bronze appended in foreachBatch, Silver and dead letters of one persisted frame, "
        "Gold and candles by MERGE, no maintenance. "
        f"Publishing (audit and cherry-pick of all tables) takes {max(commits):.2f} s a batch at "
        "most."
    )
    return {
        "bronze_per_s": round(median["bronze"]),
        "gold_per_s": round(median["gold"]),
        "gold_vs_naive": round(median["gold"] / median["naive"], 2),
        "commit_s": round(max(commits), 3),
    }


def _fused(rig: Rig, name: str) -> TradeSink:
    catalog = open_catalog(rig.home)
    return TradeSink(Promotion(name, catalog, TradeContract.packaged()), catalog)


def _run_naive(rig: Rig, name: str, count: int) -> float:
    """Run the usual design: staged streams, MERGE, no maintenance; return its records/s.

    The same five tables, without staging; decoding and rules are ours, so that only the design
    differs.
    """
    spark = rig.spark.newSession()
    bronze, silver, dead, gold, candles = (
        _copy_table(spark, spec, f"naive_{layer}_{name}")
        for layer, spec in (
            ("bronze", bronze_trades(name)),
            ("silver", silver_trades(name)),
            ("dead", DEAD_LETTERS),
            ("gold", GOLD_TRADES),
            ("candles", GOLD_CANDLES),
        )
    )
    contract = TradeContract.packaged()
    names = [column for column, _ in contract.columns]

    def read_kafka() -> DataFrame:
        reader = spark.readStream.format("kafka").option("subscribe", trades_topic(name))
        reader = reader.option("kafka.bootstrap.servers", rig.broker.address)
        reader = reader.option("startingOffsets", "earliest")
        return reader.option("maxOffsetsPerTrigger", _BATCH).load()

    def append_bronze(rows: DataFrame, _epoch: int) -> None:
        to_bronze(rows, datetime.now(UTC)).writeTo(bronze).append()

    def append_silver(rows: DataFrame, _epoch: int) -> None:
        judged = judge(rows, contract).persist()
        now = datetime.now(UTC)
        to_silver(judged, contract, now).writeTo(silver).append()
        to_dead_letters(judged, bronze, now).writeTo(dead).append()
        judged.unpersist()

    def merge_gold(rows: DataFrame, _epoch: int) -> None:
        to_gold(rows.dropDuplicates(["message_id"]), names).createOrReplaceTempView("batch")
        rows.sparkSession.sql(
            f"MERGE INTO {gold} t USING batch s ON t.message_id = s.message_id "
            "WHEN NOT MATCHED THEN INSERT *"
        )
        rows.sparkSession.sql(_merge_candles_sql(gold, candles))

    folder = rig.home.path / "naive" / name

    def start(stream: DataFrame, work: Callable[[DataFrame, int], None], layer: str) -> Any:
        writer = stream.writeStream.foreachBatch(work)
        writer = writer.option("checkpointLocation", str(folder / layer))
        return writer.trigger(processingTime="10 milliseconds").start()

    def read_table(table: str) -> DataFrame:
        return spark.readStream.format("iceberg").load(table)

    queries = [
        start(read_kafka(), append_bronze, "bronze"),
        start(read_table(bronze), append_silver, "silver"),
        start(read_table(silver), merge_gold, "gold"),
    ]
    try:
        return _time_naive(spark, gold, count, queries)
    finally:
        for query in queries:
            query.stop()


def _merge_candles_sql(gold: str, candles: str) -> str:
    """Return SQL that makes the candles anew of every minute that the view `batch` touches."""
    place = "struct(timestamp, source_sequence)"
    return f"""
MERGE INTO {candles} t USING (
  SELECT exchange, symbol, date_trunc('minute', timestamp) AS start,
    min_by(price, {place}) AS open, max(price) AS high, min(price) AS low,
    max_by(price, {place}) AS close, CAST(sum(quantity) AS DECIMAL(38, 8)) AS volume,
    CAST(sum(price * quantity) AS DECIMAL(38, 16)) AS quote_volume,
    CAST(sum(price * quantity) / sum(quantity) AS DECIMAL(18, 8)) AS vwap,
    count(*) AS trade_count, min_by(trade_id, {place}) AS first_trade_id,
    max_by(trade_id, {place}) AS last_trade_id, count(*) AS version
  FROM {gold}
  WHERE date_trunc('minute', timestamp) IN (SELECT date_trunc('minute', timestamp) FROM batch)
  GROUP BY ALL
) s ON t.exchange = s.exchange AND t.symbol = s.symbol AND t.start = s.start
WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"""


def _time_naive(spark: SparkSession, gold: str, count: int, queries: Sequence[Any]) -> float:
    """Return records/s from Gold's first batch to its last."""
    first: tuple[float, int] | None = None
    while True:
        rows = spark.sql(f"SELECT sum(record_count) FROM {gold}.files").collect()[0][0] or 0
        now = time.monotonic()
        if rows and first is None:
            first = now, rows
        if rows >= count:
            assert first is not None
            return (rows - first[1]) / (now - first[0])
        for query in queries:
            if query.exception() is not None:
                raise query.exception()
        time.sleep(0.1)


def _copy_table(spark: SparkSession, spec: Any, name: str) -> str:
    """Make an empty table like one of ours, without staging."""
    column, transform = spec.partition
    source = table_name(spec)
    target = f"{source.rpartition('.')[0]}.{name}"
    parts = f"PARTITIONED BY ({transform}s({column}))"
    spark.sql(f"CREATE TABLE {target} USING iceberg {parts} AS SELECT * FROM {source} LIMIT 0")
    return target


def _dedup(rig: Rig, report: Report, rows: int) -> dict[str, float]:
    """The same batches against a Gold of 1 M rows of their exchange, and one of `rows`."""
    rig.add_exchange("d", 0)
    end_us = time.time_ns() // 1000
    _fill_gold(rig.spark, "D", 1_000_000, end_us)
    small = _time_dedup(rig, end_us)
    _fill_gold(rig.spark, "D", rows - 1_000_000, end_us - 1_000_000 * 1_000_000 // TRADES_PER_S)
    large = _time_dedup(rig, end_us)
    times = [
        [f"{name:,}", *(f"{s * 1000:,.0f}" for s in (statistics.median(found), max(found)))]
        for name, found in ((1_000_000, small), (rows, large))
    ]
    report.table(
        f"Finding the known ids of a batch of {_DEDUP_BATCH:,}, ms",
        ["rows in Gold", "median", "slowest"],
        times,
    )
    return {"dedup_50m_vs_1m": round(statistics.median(large) / statistics.median(small), 2)}


def _time_dedup(rig: Rig, end_us: int, rounds: int = 25) -> list[float]:
    """Time the finding of known ids for batches, half of whose ids Gold holds."""
    taken = []
    for number in range(rounds + 3):
        begin_us = end_us - 5_000_000 - number * 100_000
        times_us = range(begin_us, begin_us + _DEDUP_BATCH * _HALF_STEP_US, _HALF_STEP_US)
        ids = pa.table(
            {
                "message_id": [_make_id("D", time_us) for time_us in times_us],
                "timestamp": pa.array(times_us, pa.timestamp("us", "UTC")),
            }
        )
        began = time.perf_counter()
        table = load_table(open_catalog(rig.home), GOLD_TRADES)
        assert table is not None
        known = find_known(ids, table, "d", count_ids(ids).ranges)
        if number >= 3:
            taken.append(time.perf_counter() - began)
        assert known.num_rows == _DEDUP_BATCH // 2
    return taken


def _make_id(exchange: str, time_us: int) -> str:
    """Return the message_id that `_fill_gold` gives the trade of a time."""
    digest = hashlib.sha1(f"{exchange}|{time_us}".encode(), usedforsecurity=False)
    return str(UUID(hex=digest.hexdigest()[:32]))


def _fill_gold(spark: SparkSession, exchange: str, rows: int, end_us: int) -> None:
    """Append rows that end at a time, `TRADES_PER_S` a second, sorted as after maintenance."""
    step_us = 1_000_000 // TRADES_PER_S
    time_us = F.lit(end_us) - F.col("id") * step_us
    moment = F.timestamp_micros(time_us)
    digest = F.sha1(F.concat(F.lit(f"{exchange}|"), time_us.cast("string")))
    values = {
        "message_id": F.concat_ws(
            "-",
            *(F.substring(digest, *span) for span in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))),
        ),
        "trade_id": F.col("id").cast("string"),
        "symbol": F.lit("BTC/USDT"),
        "exchange": F.lit(exchange),
        "asset_class": F.lit("crypto"),
        "timestamp": moment,
        "price": (F.col("id") % 1000 + 60_000).cast("decimal(18,8)"),
        "quantity": F.lit(1).cast("decimal(18,8)"),
        "currency": F.lit("USDT"),
        "side": F.lit("BUY"),
        "trade_conditions": F.array().cast("array<string>"),
        "source_sequence": F.col("id"),
        "ingestion_timestamp": moment,
        "platform_sequence": F.lit(None).cast("bigint"),
        "vendor_data": F.create_map(F.lit("pair"), F.lit("BTCUSDT")),
        "exchange_date": F.to_date(moment),
        "exchange_hour": F.hour(moment),
    }
    chunk = 10_000_000
    for first in range(0, rows, chunk):
        frame = spark.range(first, min(rows, first + chunk), numPartitions=8)
        frame.select(*(value.alias(name) for name, value in values.items())).writeTo(
            table_name(GOLD_TRADES)
        ).append()
