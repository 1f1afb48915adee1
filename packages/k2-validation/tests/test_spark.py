"""The same rules on Spark, batch and streaming. Starts one JVM."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.functions import udf

from k2_validation import (
    SILVER_TRADES,
    ColumnTypeError,
    MarketLimits,
    Monitor,
    Row,
    RuleSet,
    Term,
    between,
    ge,
    gt,
    le,
    lt,
    matches,
    not_before,
    one_of,
    present,
    redrive,
    rule,
)
from k2_validation.testing import EXAMPLE_ARRIVAL, make_breakers, make_trade_record

pytestmark = [
    pytest.mark.spark,
    # PySpark leaves the sockets of collect() and of its callbacks to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

TIME = pa.timestamp("us", "UTC")
FIELDS = {
    "row": pa.int64(),
    "message_id": pa.string(),
    "symbol": pa.string(),
    "asset_class": pa.string(),
    "timestamp": TIME,
    "price": pa.decimal128(18, 8),
    "quantity": pa.decimal128(18, 8),
    "side": pa.string(),
    "ingestion_timestamp": TIME,
}


def make_trades() -> pa.Table:
    """Valid trades, every breaker, every NULL and the exact time limits."""
    records = [
        make_trade_record(),
        make_trade_record(price=Decimal("9999999999.99999999")),
        make_trade_record(timestamp=EXAMPLE_ARRIVAL + timedelta(seconds=5)),
        make_trade_record(timestamp=EXAMPLE_ARRIVAL - timedelta(days=365)),
        make_trade_record(timestamp=datetime(1, 1, 3, tzinfo=UTC)),
        make_trade_record(symbol=" ", message_id=""),
        *make_breakers().values(),
        *(make_trade_record(**{field: None}) for field in FIELDS if field != "row"),
        make_trade_record(**{field: None for field in FIELDS if field != "row"}),
    ]
    return pa.Table.from_pylist(
        [record | {"row": row} for row, record in enumerate(records)], pa.schema(FIELDS)
    )


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    shared = SparkSession.getActiveSession()
    session = (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.driver.extraJavaOptions", "-Duser.timezone=UTC")
        .getOrCreate()
    )
    yield session
    if shared is None:
        session.stop()


@pytest.fixture
def trades(tmp_path: Path) -> tuple[pa.Table, str]:
    """The trades as a table and as a Parquet directory."""
    table = make_trades()
    directory = tmp_path / "trades"
    directory.mkdir()
    pq.write_table(table, directory / "part-0.parquet")
    return table, str(directory)


def expected_verdicts(table: pa.Table, rules: RuleSet = SILVER_TRADES) -> list[tuple[object, ...]]:
    found = [rules.check(record) for record in table.to_pylist()]
    return [
        (
            not failures,
            "; ".join(failure.rule for failure in failures) or None,
            "; ".join(map(str, failures)) or None,
            failures[0].error_type if failures else None,
        )
        for failures in found
    ]


def verdicts(frame: DataFrame) -> list[tuple[object, ...]]:
    rows: list[Any] = frame.orderBy("row").collect()
    return [
        (row.k2_valid, row.k2_failed_rules, row.k2_error_reason, row.k2_error_type) for row in rows
    ]


def runs_python(frame: DataFrame) -> bool:
    """Whether the plan leaves the JVM: BatchEvalPython, ArrowEvalPython, pythonUDF0."""
    plan = str(frame._jdf.queryExecution().toString()).lower()
    return "evalpython" in plan or "pythonudf" in plan


def test_batch_gives_the_verdict_of_the_records(spark: SparkSession, trades):
    """Verdict, reasons and type on a Spark frame are those of the Python records."""
    table, directory = trades
    tagged = SILVER_TRADES.tag(spark.read.parquet(directory))
    assert verdicts(tagged) == expected_verdicts(table)
    assert not runs_python(tagged)


def test_the_plan_check_sees_a_python_function(spark: SparkSession):
    """The check for functions in the plan is able to fail."""
    plus_one = udf(lambda number: number + 1, "long")
    assert runs_python(spark.range(1).select(plus_one("id")))


def test_batch_split_conserves_rows(spark: SparkSession, trades):
    """valid + dead == input, with the columns of the dead-letter table on the dead."""
    table, directory = trades
    valid, dead = SILVER_TRADES.split(spark.read.parquet(directory))
    rows = [row.row for half in (valid, dead) for row in half.select("row").collect()]
    assert sorted(rows) == table["row"].to_pylist()
    assert valid.columns == table.column_names
    assert dead.columns[-4:] == ["failed_rules", "error_reason", "error_type", "rules_fingerprint"]


def test_floats_fail_on_nan_and_null(spark: SparkSession):
    """NaN and NULL prices are dead on Spark, infinity is above the bound."""
    rules = RuleSet("floats", [gt("price", 0)])
    prices = [1.0, math.nan, None, math.inf, -math.inf, 0.0, 5e-324]
    frame = spark.createDataFrame([(price,) for price in prices], "price double")
    valid, dead = rules.split(frame)
    assert [row.price for row in valid.collect()] == [1.0, math.inf, 5e-324]
    assert dead.count() == 4


def test_text_prices_are_refused_before_the_job(spark: SparkSession):
    """A text price is an error at bind, where Spark would stop in the middle of a batch."""
    frame = spark.createDataFrame([("1.5",)], "price string")
    with pytest.raises(ColumnTypeError):
        RuleSet("text", [gt("price", 0)]).bind(frame)


def test_tolerance_ignores_the_session_time_zone(spark: SparkSession, trades):
    """A session in a zone with clock changes gives the same verdicts."""
    table, directory = trades
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    try:
        tagged = SILVER_TRADES.tag(spark.read.parquet(directory))
        assert verdicts(tagged) == expected_verdicts(table)
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")


def test_streams_stay_streams(spark: SparkSession, trades, tmp_path: Path):
    """A tagged stream is a stream without UDF, and its rows get the verdicts of the records."""
    table, directory = trades
    source = spark.read.parquet(directory)
    stream = spark.readStream.schema(source.schema).parquet(directory)
    tagged = SILVER_TRADES.tag(stream)
    assert tagged.isStreaming
    assert not runs_python(tagged)
    query = (
        tagged.writeStream.format("memory")
        .queryName("tagged_trades")
        .option("checkpointLocation", str(tmp_path / "tag"))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    assert verdicts(spark.table("tagged_trades")) == expected_verdicts(table)


def test_micro_batches_conserve_rows(spark: SparkSession, trades, tmp_path: Path):
    """Splitting inside foreachBatch puts every row of the stream in exactly one half."""
    table, directory = trades
    stream = spark.readStream.schema(spark.read.parquet(directory).schema).parquet(directory)
    rows: list[int] = []

    def split_batch(batch: DataFrame, batch_id: int) -> None:
        for half in SILVER_TRADES.split(batch):
            rows.extend(row.row for row in half.select("row").collect())

    query = (
        stream.writeStream.foreachBatch(split_batch)
        .option("checkpointLocation", str(tmp_path / "split"))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    assert sorted(rows) == table["row"].to_pylist()


@rule(severity="flag")
def drift_is_small(row: Row) -> Term:
    """Three times the count, less the fine price, is small, or there is no count."""
    return row["count"].is_null() | (abs(3 * row["count"] - row.fine) <= 40)


@rule()
def floats_multiply(row: Row) -> Term:
    """The price and its square are not far apart."""
    return (row.price * row.price - row.price <= 1e17) & (row.text.length() < 70)


EVERY = RuleSet(
    "every 'rule' \\ of ours",
    [
        present("text"),
        ge("price", 0.5),
        lt("price", 1e16),
        le("fine", Decimal("0.00000001"), severity="flag"),
        between("count", -3, 5),
        one_of("count", 1, 2, 3, severity="flag"),
        matches("text", "[^/]*(?:a|b)?", name="text_fits_'it\\"),
        not_before("time", "seen", timedelta(days=1)),
        drift_is_small,
        floats_multiply,
    ],
)
EVERY_SCHEMA = pa.schema(
    {
        "row": pa.int64(),
        "price": pa.float64(),
        "fine": pa.decimal128(18, 8),
        "count": pa.int64(),
        "text": pa.string(),
        "time": TIME,
        "seen": TIME,
    }
)
_FLOATS = st.none() | st.floats() | st.sampled_from([0.5, -0.0, math.nan, math.inf, 5e-324, 0.29])
_TIMES = st.none() | st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 30)).map(
    lambda time: time.replace(tzinfo=UTC)
)
EVERY_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "price": _FLOATS,
            "fine": st.none()
            | st.integers(-(10**18) + 1, 10**18 - 1).map(lambda n: Decimal(n).scaleb(-8)),
            "count": st.none() | st.integers(-9, 9) | st.integers(-(2**63), 2**63 - 1),
            "text": st.none() | st.text("ab/'\\é😀\n ", max_size=4) | st.just("😀" * 70),
            "time": _TIMES | st.just(EXAMPLE_ARRIVAL),
            "seen": _TIMES | st.just(EXAMPLE_ARRIVAL + timedelta(days=1)),
        }
    ),
    min_size=40,
    max_size=60,
)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=EVERY_ROWS)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_random_frames_get_the_verdicts_of_the_records(spark, tmp_path_factory, zone, rows):
    """Every operator, flags, custom rules, edge values and texts; conservation is exact."""
    table = pa.Table.from_pylist([row | {"row": n} for n, row in enumerate(rows)], EVERY_SCHEMA)
    path = tmp_path_factory.mktemp("every") / "rows.parquet"
    pq.write_table(table, path)
    spark.conf.set("spark.sql.session.timeZone", zone)
    try:
        frame = spark.read.parquet(str(path))
        tagged = EVERY.tag(frame)
        found = {row.row: row for row in tagged.collect()}
        valid, dead = EVERY.split(frame)
        halves = [{row.row for row in half.collect()} for half in (valid, dead)]
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    assert not runs_python(tagged)
    for record in table.to_pylist():
        failures = EVERY.check(record)
        reasons = [str(f) for f in failures if f.severity == "reject"]
        flags = [str(f) for f in failures if f.severity == "flag"]
        row = found[record["row"]]
        assert row.k2_valid is (not reasons)
        assert row.k2_error_reason == ("; ".join(reasons) or None)
        assert row.k2_flag_reason == ("; ".join(flags) or None)
    assert halves[0] | halves[1] == set(range(len(rows)))
    assert halves[0] == {number for number, row in found.items() if row.k2_valid}
    assert not halves[0] & halves[1]


def test_counters_come_from_the_pass_that_writes(spark: SparkSession, trades, tmp_path: Path):
    """An observation on the tagged frame counts rows, dead rows and each rule, in one job."""
    _, directory = trades
    observation = Observation("k2")
    counters = [F.expr(sql).alias(name) for name, sql in SILVER_TRADES.counters.items()]
    tagged = SILVER_TRADES.tag(spark.read.parquet(directory)).observe(observation, *counters)
    tagged.write.parquet(str(tmp_path / "tagged"))
    report = SILVER_TRADES.report(spark.read.parquet(directory))
    assert observation.get == {
        "input": report.rows,
        "valid": report.valid,
        "dead": report.dead,
        **report.failures,
    }


def test_dead_rows_can_be_driven_again(spark: SparkSession, trades):
    """Written with reasons, they are judged anew without them."""
    _, directory = trades
    dead = SILVER_TRADES.split(spark.read.parquet(directory)).dead
    again = redrive(dead, SILVER_TRADES)
    assert (again.valid.count(), again.dead.count()) == (0, dead.count())
    assert again.dead.columns == dead.columns


def test_a_monitor_watches_micro_batches(spark: SparkSession, tmp_path: Path):
    """In foreachBatch, on the batch in the order of its arrival, gaps come with their range."""
    records = [
        make_trade_record(
            source_sequence=number,
            timestamp=EXAMPLE_ARRIVAL + timedelta(seconds=number),
            ingestion_timestamp=EXAMPLE_ARRIVAL + timedelta(seconds=number),
        )
        for number in (1, 2, 5, 6, 9)
    ]
    schema = pa.schema({**FIELDS, "exchange": pa.string(), "source_sequence": pa.int64()})
    for number, record in enumerate(records):
        table = pa.Table.from_pylist([record | {"row": number}], schema)
        pq.write_table(table, tmp_path / f"{number}.parquet")
    monitor, found = Monitor(MarketLimits()), []
    stream = (
        spark.readStream.schema(spark.read.parquet(str(tmp_path)).schema)
        .option("maxFilesPerTrigger", 2)
        .parquet(str(tmp_path))
    )
    query = (
        stream.writeStream.foreachBatch(
            lambda batch, batch_id: found.extend(monitor.observe(batch.orderBy("source_sequence")))
        )
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    missing = [(i.first_missing_id, i.last_missing_id) for i in found if i.kind == "id_gap"]
    assert missing == [(3, 4), (7, 8)]
