"""Queries on a closed hour and a closed day: K2's reader, PyIceberg and Spark SQL, in one run."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any

import duckdb
import pyarrow as pa
from platformdirs import user_cache_path

import k2_medallion
from k2_medallion import (
    GOLD_CANDLES,
    GOLD_TRADES,
    LakeHome,
    LakeReader,
    TableSpec,
    all_tables,
    ensure_tables,
    open_catalog,
)
from k2_medallion.jvm import fetch_jars, find_java, spark_jars
from k2_medallion.spark import open_session, table_name

from .measure import Spread, interleave
from .report import Report

ROWS = 500_000
SYMBOLS = 30
FILES = 4
"""As many as maintenance leaves in a closed hour at most."""
DAYS = 7
ROUNDS = 250
SPARK_ROUNDS = 50
"""Spark takes ten times as long."""
SYMBOL = "BTC/USDT"
DAY = datetime(2026, 11, 22, tzinfo=UTC)
HOUR = DAY + timedelta(hours=22)
HOUR_END = HOUR + timedelta(hours=1)
DAY_END = DAY + timedelta(days=1)

VWAP, SPARK_VWAP = "K2 VWAP, trades().to_duckdb()", "Spark SQL VWAP"
CANDLES, SPARK_CANDLES = "K2 candles of 1m, a day", "Spark SQL candles of 1m, a day"

SYMBOL_SQL = f"if(rank = 0, '{SYMBOL}', format('S{{:02}}/USDT', rank))"
EXCHANGE_SQL = "if(rank % 3 = 2, 'KRAKEN', 'BINANCE')"
"""By rank: a third of the symbols trade on the other exchange."""

TRADES_SQL = f"""
SELECT
  uuid()::VARCHAR AS message_id,
  (1000000000 + n)::VARCHAR AS trade_id,
  {SYMBOL_SQL} AS symbol,
  {EXCHANGE_SQL} AS exchange,
  'crypto' AS asset_class,
  make_timestamptz({{begin_us}} + ({{span_us}} * n::HUGEINT // {{count}})::BIGINT) AS "timestamp",
  ((6000000000000 + hash(n, 1) % 100000000000)::DECIMAL(38, 0) * 0.00000001)::DECIMAL(18, 8)
    AS price,
  ((1 + hash(n, 2) % 100000000)::DECIMAL(38, 0) * 0.00000001)::DECIMAL(18, 8) AS quantity,
  'USDT' AS currency,
  if(hash(n, 3) % 2 = 0, 'BUY', 'SELL') AS side,
  []::VARCHAR[] AS trade_conditions,
  1000000000 + n AS source_sequence,
  "timestamp" + INTERVAL 50 MILLISECONDS AS ingestion_timestamp,
  NULL::BIGINT AS platform_sequence,
  MAP {{'pair': replace({SYMBOL_SQL}, '/', '')}} AS vendor_data,
  "timestamp"::DATE AS exchange_date,
  extract(hour FROM "timestamp")::INTEGER AS exchange_hour
FROM (
  -- A third of the trades are of the first symbol.
  SELECT n, floor({SYMBOLS} * pow(hash(n, 4) / 18446744073709551616, 3))::INTEGER AS rank
  FROM range({{count}}) r(n)
)
ORDER BY "timestamp", trade_id
"""

CANDLES_SQL = f"""
SELECT
  {EXCHANGE_SQL} AS exchange,
  {SYMBOL_SQL} AS symbol,
  make_timestamptz({{begin_us}} + minute * 60000000) AS start,
  (60000 + hash(minute, rank) % 1000)::DECIMAL(18, 8) AS open,
  open + 7 AS high,
  open - 7 AS low,
  open + 1 AS close,
  (1 + hash(minute, rank) % 500)::DECIMAL(38, 8) AS volume,
  (volume * 60000)::DECIMAL(38, 16) AS quote_volume,
  60000::DECIMAL(18, 8) AS vwap,
  (1 + hash(minute, rank) % 300)::BIGINT AS trade_count,
  minute::VARCHAR AS first_trade_id,
  (minute + 1)::VARCHAR AS last_trade_id,
  trade_count AS version
FROM range(1440) m(minute), range({SYMBOLS}) s(rank)
ORDER BY start, symbol
"""

VWAP_SQL = f"""
SELECT sum(price::DECIMAL(38, 8) * quantity) AS turnover, sum(quantity) AS volume
FROM gold_crypto_trades
WHERE symbol = '{SYMBOL}'
  AND "timestamp" >= TIMESTAMPTZ '{HOUR}' AND "timestamp" < TIMESTAMPTZ '{HOUR_END}'
"""

SPARK_VWAP_SQL = f"""
SELECT sum(price * quantity) AS turnover, sum(quantity) AS volume
FROM {table_name(GOLD_TRADES)}
WHERE symbol = '{SYMBOL}'
  AND timestamp >= TIMESTAMP '{HOUR}' AND timestamp < TIMESTAMP '{HOUR_END}'
"""

SPARK_CANDLES_SQL = f"""
SELECT * FROM (
  SELECT *, row_number() OVER (PARTITION BY exchange, symbol, start ORDER BY version DESC) AS place
  FROM {table_name(GOLD_CANDLES)}
  WHERE symbol = '{SYMBOL}' AND start >= TIMESTAMP '{DAY}' AND start < TIMESTAMP '{DAY_END}'
) WHERE place = 1 ORDER BY exchange, start
"""

Candidates = Mapping[str, tuple[int, Callable[[], pa.Table]]]


def run(report: Report, arguments: Sequence[str]) -> dict[str, float]:
    """Build the lake, measure, report, and return the figures."""
    report.versions("k2-medallion", "duckdb", "pyiceberg", "pyarrow", "pyspark")
    report.note(
        f"A Gold table of a day; its closed hour has {ROWS:,} trades of {SYMBOLS} symbols in "
        f"{FILES} files sorted by (timestamp, trade_id), row groups of 65,536 rows, a third of the "
        f"trades of the symbol asked for. Candles: {DAYS} days of 1,440 minutes of {SYMBOLS} "
        f"symbols, a file a day. Wall time in one warm process: {ROUNDS} interleaved rounds of all "
        f"but Spark, then {SPARK_ROUNDS} of K2 and Spark (local[2]) by turns, for the ratios. "
        "Every candidate's answer is checked to be the same before."
    )
    with tempfile.TemporaryDirectory() as folder:
        home = LakeHome(Path(folder))
        build_lake(home)
        with k2_medallion.open(folder) as lake:
            candidates = list_candidates(home, lake)
            answers = check_answers(candidates)
            began = os.getloadavg()[0]
            alone = interleave(candidates, ROUNDS, time.perf_counter)
            ended = os.getloadavg()[0]
            with open_spark(home) as spark:
                rivals = list_spark_candidates(spark)
                check_answers(rivals, answers)
                both = {name: candidates[name] for name in (VWAP, CANDLES)} | rivals
                beside = interleave(both, SPARK_ROUNDS, time.perf_counter)
    report.note(f"Load average when K2's rounds began {began:.1f}, when they ended {ended:.1f}.")
    tabulate(report, "Without a JVM in the process", alone)
    tabulate(report, "By turns with Spark", beside)
    figures = summarise(alone, beside)
    report.table(
        "Figures", ["key", "value"], [[key, f"{value:,.2f}"] for key, value in figures.items()]
    )
    return figures


def build_lake(home: LakeHome) -> None:
    """Write the tables as maintenance leaves closed partitions."""
    catalog = open_catalog(home, create=True)
    ensure_tables(catalog, all_tables(["binance", "kraken"]))
    with duckdb.connect(":memory:") as duck:
        duck.execute("SET TimeZone = 'UTC'")

        def append(spec: TableSpec, query: str, slices: int = 1) -> None:
            table = catalog.load_table(spec.identifier)
            rows = duck.sql(query).to_arrow_table().cast(table.schema().as_arrow())
            size = -(-rows.num_rows // slices)
            for place in range(slices):
                table.append(rows.slice(place * size, size))

        table = catalog.load_table(GOLD_TRADES.identifier)
        limit = {"write.parquet.row-group-limit": "65536"}
        table.transaction().set_properties(limit).commit_transaction()
        with warnings.catch_warnings():
            # PyIceberg says that it leaves a setting of Spark's writer alone.
            warnings.filterwarnings("ignore", "Parquet writer option", UserWarning)
            append(GOLD_TRADES, fill(TRADES_SQL, DAY, 22 * 3600, 44_000))
            append(GOLD_TRADES, fill(TRADES_SQL, HOUR, 3600, ROWS), FILES)
        for day in range(DAYS):
            begin = DAY - (DAYS - 1 - day) * timedelta(days=1)
            append(GOLD_CANDLES, fill(CANDLES_SQL, begin))
    catalog.close()


def fill(query: str, begin: datetime, span_s: int = 0, count: int = 0) -> str:
    """Return the query of so many rows in so many seconds from a time on."""
    begin_us = int(begin.timestamp()) * 1_000_000
    for name, value in (("begin_us", begin_us), ("span_us", span_s * 10**6), ("count", count)):
        query = query.replace(f"{{{name}}}", str(value))
    return query


@contextmanager
def open_spark(home: LakeHome) -> Iterator[Any]:
    """Start Spark on the lake."""
    cache = user_cache_path("k2")
    spark = open_session(
        home,
        java_home=find_java(cache, os.environ).home,
        jars=fetch_jars(spark_jars(), cache),
    )
    try:
        yield spark
    finally:
        spark.stop()


def list_candidates(home: LakeHome, lake: LakeReader) -> Candidates:
    """Return who answers what without Spark; each returns an Arrow table."""
    gold = open_catalog(home).load_table(GOLD_TRADES.identifier)
    condition = (
        f"symbol = '{SYMBOL}' AND timestamp >= '{HOUR.isoformat()}'"
        f" AND timestamp < '{HOUR_END.isoformat()}'"
    )

    def ask_trades() -> pa.Table:
        trades = lake.trades(SYMBOL, HOUR, HOUR_END, columns=["price", "quantity"])
        sums = "sum(price::DECIMAL(38, 8) * quantity) AS turnover, sum(quantity) AS volume"
        return trades.to_duckdb().aggregate(sums).to_arrow_table()

    def ask_pyiceberg() -> pa.Table:
        rows = gold.scan(condition, selected_fields=("price", "quantity")).to_arrow()
        price = rows["price"].cast(pa.decimal128(19, 8))
        turnover = pa.compute.multiply(price, rows["quantity"].cast(pa.decimal128(18, 8)))
        sums = {"turnover": pa.compute.sum(turnover), "volume": pa.compute.sum(rows["quantity"])}
        return pa.table({name: pa.array([value.as_py()]) for name, value in sums.items()})

    return {
        VWAP: (1, ask_trades),
        "K2 VWAP, sql()": (1, lambda: lake.sql(VWAP_SQL).to_arrow()),
        "PyIceberg VWAP, scan to Arrow": (1, ask_pyiceberg),
        CANDLES: (1, lambda: lake.candles(SYMBOL, "1m", DAY, DAY_END).to_arrow()),
        "K2 candles of 1h, a day": (1, lambda: lake.candles(SYMBOL, "1h", DAY, DAY_END).to_arrow()),
    }


def list_spark_candidates(spark: Any) -> Candidates:
    """Return the same questions to Spark."""
    return {
        SPARK_VWAP: (1, lambda: spark.sql(SPARK_VWAP_SQL).toArrow()),
        SPARK_CANDLES: (1, lambda: spark.sql(SPARK_CANDLES_SQL).toArrow()),
    }


Answers = dict[str, list[dict[str, Any]]]


def check_answers(candidates: Candidates, expected: Answers | None = None) -> Answers:
    """Raise unless all who answer the same question give the same; return the answers."""
    answers = dict(expected or {})
    for kind in ("VWAP", "candles of 1m"):
        for name, (_, call) in candidates.items():
            if kind in name:
                rows = call().to_pylist()
                known = answers.setdefault(kind, rows)
                assert [{key: row[key] for key in known[0]} for row in rows] == known, name
    assert len(answers["candles of 1m"]) == 1440
    return answers


def percentiles_ms(spread: Spread) -> tuple[float, float]:
    """Return the median and the 99th percentile of a round in milliseconds."""
    cuts = quantiles(spread.seconds, n=100, method="inclusive")
    return cuts[49] * 1000, cuts[98] * 1000


def tabulate(report: Report, title: str, spreads: Mapping[str, Spread]) -> None:
    """Add a table of percentiles to the report."""
    rows = [
        [name, *(f"{n:,.1f}" for n in (*percentiles_ms(spread), max(spread.seconds) * 1000))]
        for name, spread in spreads.items()
    ]
    report.table(title, ["", "p50, ms", "p99, ms", "slowest, ms"], rows)


def summarise(alone: Mapping[str, Spread], beside: Mapping[str, Spread]) -> dict[str, float]:
    """Return the figures by key."""
    keys = {
        "vwap": alone[VWAP],
        "candles": alone[CANDLES],
        "pyiceberg_vwap": alone["PyIceberg VWAP, scan to Arrow"],
        "spark_vwap": beside[SPARK_VWAP],
        "spark_candles": beside[SPARK_CANDLES],
    }
    figures = {}
    for key, spread in keys.items():
        median, tail = percentiles_ms(spread)
        figures |= {f"{key}_p50_ms": round(median, 1), f"{key}_p99_ms": round(tail, 1)}
    return figures | {
        "vwap_vs_spark": round(beside[SPARK_VWAP].median_s / beside[VWAP].median_s, 1),
        "candles_vs_spark": round(beside[SPARK_CANDLES].median_s / beside[CANDLES].median_s, 1),
    }
