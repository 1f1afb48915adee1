"""Gold takes each trade once; what it costs depends on the batch, not on the table."""

from datetime import UTC, datetime, timedelta

import pytest
from pyspark.sql import functions as F

from k2_medallion import GOLD_TRADES
from k2_medallion.bronze import to_bronze
from k2_medallion.gold import drop_known, find_known, to_gold
from k2_medallion.publish import publish_rows
from k2_medallion.silver import judge, to_silver
from k2_medallion.spark import table_name
from k2_medallion.testing import KafkaRecord, kafka_frame
from k2_schemas import FileRegistry, TradeCodec
from k2_schemas.testing import EXAMPLE_TIME_US, make_trade

pytestmark = [pytest.mark.spark, pytest.mark.filterwarnings("ignore::ResourceWarning")]

START = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=EXAMPLE_TIME_US)
HOUR_US = 3_600 * 1_000_000
CODEC = TradeCodec()


def gold_rows(spark, trades):
    """Return Gold rows of trades that went through Bronze and Silver."""
    records = [KafkaRecord(0, n, CODEC.encode(trade)) for n, trade in enumerate(trades)]
    bronze = to_bronze(kafka_frame(spark, "market.crypto.trades.binance", records))
    return to_gold(to_silver(judge(bronze, FileRegistry.packaged()), START))


def hold(spark, trades, publish_id="k2:test:0=0"):
    """Put trades into Gold."""
    rows = gold_rows(spark, trades).persist()
    publish_rows(rows, GOLD_TRADES, publish_id, flow="test", expected_rows=rows.count())


def new_ids(spark, trades, exchange="binance", first=START, last=START):
    """Return the ids of the trades that Gold lacks."""
    rows = gold_rows(spark, trades)
    table = spark.table(table_name(GOLD_TRADES))
    new = drop_known(rows, find_known(rows, table, exchange, first, last))
    return sorted(int(row["trade_id"]) for row in new.collect())


def test_a_batch_that_repeats_itself_counts_once(spark):
    """Duplicates within one batch become one row."""
    assert new_ids(spark, [make_trade(1), make_trade(2), make_trade(1)]) == [1, 2]


def test_what_gold_holds_is_not_taken_again(spark):
    """Only trades that the table lacks come out."""
    hold(spark, [make_trade(1), make_trade(2)])

    assert new_ids(spark, [make_trade(2), make_trade(3), make_trade(1)]) == [3]


def test_the_same_trade_with_other_last_digits_of_time_is_known(spark):
    """REST and socket differ in the digits of a time; within the slack it is the same trade."""
    hold(spark, [make_trade(1)])
    nearly = make_trade(1, timestamp_us=EXAMPLE_TIME_US + 900_000)

    moment = START + timedelta(microseconds=900_000)
    assert new_ids(spark, [nearly], first=moment, last=moment) == []


def test_a_late_trade_is_taken_and_a_late_duplicate_is_not(spark):
    """Nothing is too late: old rows are compared with their own time's rows."""
    hold(spark, [make_trade(1, timestamp_us=EXAMPLE_TIME_US - 5 * HOUR_US), make_trade(9)])
    late = START - timedelta(hours=5)
    batch = [
        make_trade(1, timestamp_us=EXAMPLE_TIME_US - 5 * HOUR_US),
        make_trade(2, timestamp_us=EXAMPLE_TIME_US - 5 * HOUR_US),
        make_trade(10),
    ]

    assert new_ids(spark, batch, first=late, last=START) == [2, 10]


def test_date_and_hour_are_utc(spark):
    """The two added columns follow UTC, whatever the machine's zone."""
    (row,) = gold_rows(spark, [make_trade(1)]).collect()

    assert (START.date(), START.hour) == (row["exchange_date"], row["exchange_hour"])


def test_only_files_that_overlap_the_batch_are_read(spark):
    """The batch's times are literals in the plan: other hours' files are not opened."""
    hold(spark, [make_trade(1)])
    hold(spark, [make_trade(2, timestamp_us=EXAMPLE_TIME_US - 9 * HOUR_US)], "k2:test:0=1")
    table = spark.table(table_name(GOLD_TRADES))
    rows = gold_rows(spark, [make_trade(3)])

    read = (
        table.where(F.col("timestamp").between(F.lit(START), F.lit(START)))
        .select(F.input_file_name())
        .distinct()
        .count()
    )
    known = find_known(rows, table, "binance", START, START)
    plan = drop_known(rows, known)._jdf.queryExecution().toString()

    assert read == 1
    assert "BroadcastHashJoin" in plan
    assert "SortMergeJoin" not in plan
