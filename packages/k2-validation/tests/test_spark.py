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
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import udf

from k2_validation import SILVER_TRADES, ColumnTypeError, RuleSet, gt
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


def expected_verdicts(table: pa.Table) -> list[tuple[object, ...]]:
    found = [SILVER_TRADES.check(record) for record in table.to_pylist()]
    return [
        (not failures, "; ".join(map(str, failures)) or None, *(f.error_type for f in failures[:1]))
        for failures in found
    ]


def verdicts(frame: DataFrame) -> list[tuple[object, ...]]:
    rows: list[Any] = frame.orderBy("row").collect()
    return [
        (row.k2_valid, row.k2_error_reason, *([row.k2_error_type] if row.k2_error_type else []))
        for row in rows
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
    assert dead.columns[-3:] == ["error_reason", "error_type", "rules_fingerprint"]


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
