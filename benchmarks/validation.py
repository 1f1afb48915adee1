"""Splitting a million trades: our rules beside hand-written expressions and other libraries.

Each library's split is compared with the ledger of the rows that were broken on purpose.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

from k2_validation import SILVER_TRADES

from .measure import Spread, interleave
from .report import Report
from .validation_peers import FULL_PEERS, NAIVE, SMALL_FRAMES, judge_small_frame, split_small

ROWS = 1_000_000
RECORDS = 200_000
ARRIVAL = datetime(2026, 11, 23, 12, tzinfo=UTC)

BROKEN: Mapping[str, object] = {
    "price": Decimal(0),
    "quantity": None,
    "symbol": "",
    "side": "buy",
    "message_id": None,
    "asset_class": None,
}
"""What breaks a row, one field each; the two times are broken besides."""

BREAKS = (*BROKEN, "late", "early")


def make_trades(rows: int = ROWS) -> pl.DataFrame:
    """Return trades of which 6 in 100 are broken, each in one of eight ways, by row number."""
    number = pl.col("source_sequence")
    place = number % 100
    breaks = pl.when(place < 6).then(number // 100 * 6 % 8 + place).otherwise(-1) % 8
    breaks = pl.when(place < 6).then(breaks).otherwise(-1)
    frame = pl.select(source_sequence=pl.int_range(rows, dtype=pl.Int64)).select(
        message_id=pl.format("0f6a1a0c-2f0b-5c7e-9a51-{}", number + 10**11),
        trade_id=number.cast(pl.String),
        symbol=pl.when(number % 3 == 0).then(pl.lit("BTC/USDT")).otherwise(pl.lit("ETH/USDT")),
        exchange=pl.lit("BINANCE"),
        asset_class=pl.lit("crypto"),
        ingestion_timestamp=pl.lit(ARRIVAL) + pl.duration(microseconds=number * 1000),
        price=(number * 7919 % 1_000_003 + 1).cast(pl.Decimal(18, 8)),
        quantity=(number * 104729 % 1009 + 1).cast(pl.Decimal(18, 8)),
        currency=pl.lit("USDT"),
        side=pl.when(number % 2 == 0).then(pl.lit("BUY")).otherwise(pl.lit("SELL")),
        source_sequence=number,
        breaks=breaks,
    )
    arrival = pl.col("ingestion_timestamp")
    late, early = arrival + timedelta(seconds=6), arrival - timedelta(days=366)
    ordinary = arrival - timedelta(milliseconds=20)
    spoiled = [
        pl.when(pl.col("breaks") == code)
        .then(pl.lit(value, dtype=frame.schema[column]))
        .otherwise(pl.col(column))
        .alias(column)
        for code, (column, value) in enumerate(BROKEN.items())
    ]
    times = pl.when(pl.col("breaks") == 6).then(late).when(pl.col("breaks") == 7).then(early)
    return frame.with_columns(*spoiled, timestamp=times.otherwise(ordinary))


def split_by_hand(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the split and the reasons as one would write them for these eight rules."""
    arrival = pl.col("ingestion_timestamp")
    rules = {
        "price_gt_0": (pl.col("price") > 0, "range"),
        "quantity_gt_0": (pl.col("quantity") > 0, "range"),
        "symbol_present": (pl.col("symbol") != "", "completeness"),
        "side_one_of": (pl.col("side").is_in(["BUY", "SELL"]), "consistency"),
        "not_after": (pl.col("timestamp") <= arrival + timedelta(seconds=5), "timeliness"),
        "not_before": (pl.col("timestamp") >= arrival - timedelta(days=365), "timeliness"),
        "message_id_present": (pl.col("message_id") != "", "completeness"),
        "asset_class_equals": (pl.col("asset_class") == "crypto", "consistency"),
    }
    tests = {name: test.fill_null(False) for name, (test, _) in rules.items()}
    valid = frame.select(pl.all_horizontal(tests.values())).to_series()
    values = [
        pl.col(name).cast(pl.String).fill_null("NULL")
        for name in ("price", "quantity", "symbol", "side", "timestamp", "timestamp")
    ] + [pl.col(name).fill_null("NULL") for name in ("message_id", "asset_class")]
    reasons = [
        pl.when(~test).then(pl.concat_str(pl.lit(f"{name}: found "), value))
        for (name, test), value in zip(tests.items(), values, strict=True)
    ]
    kinds = zip(tests.values(), rules.values(), strict=True)
    types = [pl.when(~test).then(pl.lit(kind)) for test, (_, kind) in kinds]
    dead = frame.filter(~valid).with_columns(
        failed_rules=pl.concat_str(
            [pl.when(~test).then(pl.lit(name)) for name, test in tests.items()],
            separator="; ",
            ignore_nulls=True,
        ),
        error_reason=pl.concat_str(reasons, separator="; ", ignore_nulls=True),
        error_type=pl.coalesce(types),
        rules_fingerprint=pl.lit("by hand"),
    )
    return frame.filter(valid), dead


def run(report: Report, arguments: Sequence[str]) -> dict[str, Any]:
    """Measure Polars, Python records and Spark; with --correctness compare the splits only."""
    report.versions(
        "k2-validation", "narwhals", "polars", "dataframely", "pandera", "pointblank", "pyspark"
    )
    wrong_small = compare_small_frames(report)
    if "--correctness" in arguments:
        return {"peers_with_wrong_split": wrong_small}
    trades = make_trades()
    figures = measure_polars(report, trades.drop("breaks"), trades)
    figures["python_rows_per_s"] = measure_python(report, trades.drop("breaks"))
    figures |= measure_spark(report, trades.drop("breaks"))
    figures["peers_with_wrong_split"] = sorted(
        {*wrong_small, *figures.pop("wrong_on_a_million_trades")}
    )
    return figures


def compare_small_frames(report: Report) -> list[str]:
    """Show which rows of NULL and NaN frames each library calls valid, dead, both or neither."""
    rows, wrong = [], set()
    for title, (frame, rules) in SMALL_FRAMES.items():
        for name, split in split_small(frame, rules).items():
            verdict, is_right = judge_small_frame(frame, split)
            rows.append([title, name, verdict])
            if not is_right and name != NAIVE:
                wrong.add(name)
    report.table("Five rows, of which only row 0 is valid", ["frame", "library", "split"], rows)
    return sorted(wrong)


def judge_split(trades: pl.DataFrame, split: tuple[Any, Any | None]) -> tuple[str, bool]:
    """Compare a split with the ledger, row by row; return what is wrong, and whether nothing is."""
    wanted = set(trades.filter(pl.col("breaks") == -1)["source_sequence"])
    valid = list(split[0]["source_sequence"])
    broken, refused = len(set(valid) - wanted), len(wanted - set(valid))
    faults = {"broken rows called valid": broken, "good rows refused": refused}
    if split[1] is not None:
        dead = list(split[1]["source_sequence"])
        faults["rows lost"] = len(set(trades["source_sequence"]).difference(valid, dead))
        faults["rows twice"] = len(valid) + len(dead) - len({*valid, *dead})
    told = [f"{count:,} {fault}" for fault, count in faults.items() if count]
    told += ["dead rows not given"] if split[1] is None else []
    return "; ".join(told) or "right", not any(faults.values())


def measure_polars(report: Report, frame: pl.DataFrame, ledger: pl.DataFrame) -> dict[str, Any]:
    """Split the million on Polars; wall clock, since Polars uses every core."""
    splits: dict[str, Callable[[pl.DataFrame], Any]] = {
        "k2-validation": SILVER_TRADES.split,
        "hand-written Polars": split_by_hand,
        **FULL_PEERS,
    }
    verdicts = {name: judge_split(ledger, split(frame)) for name, split in splits.items()}
    spreads = interleave(
        {name: (ROWS, _bind(split, frame)) for name, split in splits.items()},
        rounds=9,
        clock=time.perf_counter,
    )
    rows = [
        [name, f"{spread.per_s / 1e6:.1f}", f"{spread.slowest_per_s / 1e6:.1f}", verdicts[name][0]]
        for name, spread in spreads.items()
    ]
    report.table(
        "Polars, 1,000,000 trades, 6 % broken, 8 rules",
        ["", "M rows/s, median", "slowest round", "its split"],
        rows,
    )
    by_hand = spreads["hand-written Polars"]
    ratios = sorted(
        theirs / ours
        for ours, theirs in zip(spreads["k2-validation"].seconds, by_hand.seconds, strict=True)
    )
    return {
        "polars_rows_per_s": round(spreads["k2-validation"].per_s),
        "vs_handwritten_polars": round(ratios[len(ratios) // 2], 3),
        "wrong_on_a_million_trades": [
            name for name, (_, is_right) in verdicts.items() if not is_right
        ],
    }


def _bind(split: Callable[[Any], Any], frame: Any) -> Callable[[], object]:
    return lambda: split(frame)


def measure_python(report: Report, frame: pl.DataFrame) -> int:
    """Check dicts and Trades one by one, of the same mix; CPU time of one core."""
    from k2_schemas import Trade

    sample = frame.head(RECORDS)
    records = [
        # As every decoder of ours makes them; Polars makes times of a ZoneInfo.
        record
        | {name: record[name].replace(tzinfo=UTC) for name in ("timestamp", "ingestion_timestamp")}
        for record in sample.to_dicts()
    ]
    trade = Trade(
        trade_id="1",
        symbol="BTC/USDT",
        exchange="BINANCE",
        timestamp_us=1_795_435_200_000_000,
        price_units=6_183_763_000_000,
        quantity_units=2_000_000,
        currency="USDT",
        side="SELL",
        ingestion_us=1_795_435_200_001_000,
        vendor_data={"pair": "BTCUSDT"},
    )
    bad = sum(1 for record in records if SILVER_TRADES.check(record))
    spreads = interleave(
        {
            f"dict, {bad / RECORDS:.0%} broken": (RECORDS, lambda: _check_all(records)),
            "Trade, all valid": (RECORDS, lambda: _check_all([trade] * RECORDS)),
        }
    )
    report.spreads("Python records, one core", "records", spreads)
    return round(next(iter(spreads.values())).per_s)


def _check_all(records: Iterable[Any]) -> None:
    check = SILVER_TRADES.check
    for record in records:
        check(record)


def measure_spark(report: Report, frame: pl.DataFrame) -> dict[str, Any]:
    """Tag a cached Spark frame and write it nowhere, planning included."""
    from tempfile import TemporaryDirectory

    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.driver.memory", "2g")
        .config("spark.driver.extraJavaOptions", "-Duser.timezone=UTC")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    with TemporaryDirectory() as folder:
        path = f"{folder}/trades.parquet"
        frame.write_parquet(path)
        cached = session.read.parquet(path).repartition(2).cache()
        cached.count()
        candidates = {
            "k2-validation": (ROWS, lambda: _write_nowhere(SILVER_TRADES.tag(cached))),
            "hand-written columns": (ROWS, lambda: _write_nowhere(tag_spark_by_hand(cached))),
        }
        spreads = interleave(candidates, rounds=11, clock=time.perf_counter)
        session.stop()
    report.spreads("Spark local[2], tag with reasons, written to noop", "rows", spreads)
    ours, by_hand = (spreads[name] for name in candidates)
    return {"spark_time_vs_handwritten": round(_median_ratio(ours, by_hand), 3)}


def _median_ratio(ours: Spread, theirs: Spread) -> float:
    ratios = sorted(a / b for a, b in zip(ours.seconds, theirs.seconds, strict=True))
    return ratios[len(ratios) // 2]


def _write_nowhere(frame: Any) -> None:
    frame.write.format("noop").mode("overwrite").save()


def tag_spark_by_hand(frame: Any) -> Any:
    """Return the tag as one would write it with Spark columns: verdict, rules, reasons, type."""
    from pyspark.sql import functions as F

    arrival = F.col("ingestion_timestamp")
    text = {name: F.coalesce(F.col(name).cast("string"), F.lit("NULL")) for name in frame.columns}
    rules = [
        ("price_gt_0", F.col("price") > 0, "range", text["price"]),
        ("quantity_gt_0", F.col("quantity") > 0, "range", text["quantity"]),
        ("symbol_present", F.col("symbol") != "", "completeness", text["symbol"]),
        ("side_one_of", F.col("side").isin("BUY", "SELL"), "consistency", text["side"]),
        (
            "not_after",
            F.col("timestamp") <= arrival + F.expr("INTERVAL 5 SECONDS"),
            "timeliness",
            text["timestamp"],
        ),
        (
            "not_before",
            F.col("timestamp") >= arrival - F.expr("INTERVAL 365 DAYS"),
            "timeliness",
            text["timestamp"],
        ),
        ("message_id_present", F.col("message_id") != "", "completeness", text["message_id"]),
        (
            "asset_class_equals",
            F.col("asset_class") == "crypto",
            "consistency",
            text["asset_class"],
        ),
    ]
    tests = [(n, F.coalesce(test, F.lit(False)), kind, value) for n, test, kind, value in rules]
    valid = tests[0][1]
    for _, test, _, _ in tests[1:]:
        valid = valid & test
    failed = F.concat_ws("; ", *(F.when(~test, F.lit(name)) for name, test, _, _ in tests))
    reason = F.concat_ws(
        "; ", *(F.when(~t, F.concat(F.lit(f"{n}: found "), value)) for n, t, _, value in tests)
    )
    return frame.withColumns(
        {
            "k2_valid": valid,
            "k2_failed_rules": F.when(~valid, failed),
            "k2_error_reason": F.when(~valid, reason),
            "k2_error_type": F.coalesce(*(F.when(~t, F.lit(kind)) for _, t, kind, _ in tests)),
        }
    )
