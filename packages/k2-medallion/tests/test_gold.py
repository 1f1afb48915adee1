"""Gold takes each trade once; what it costs depends on the batch, not on the table."""

from datetime import UTC, datetime, timedelta

import pytest

from k2_medallion import GOLD_TRADES, open_catalog
from k2_medallion.bronze import to_bronze
from k2_medallion.catalog import load_table
from k2_medallion.gold import (
    count_ids,
    drop_known,
    drop_repeats,
    find_known,
    select_rows,
    to_gold,
)
from k2_medallion.publish import Guard, publish_rows
from k2_medallion.silver import judge, to_silver
from k2_medallion.tables import TRADE_COLUMNS
from k2_medallion.testing import KafkaRecord, kafka_frame
from k2_medallion.time_range import TimeRange
from k2_medallion.trade_contract import TradeContract
from k2_schemas import TradeCodec
from k2_schemas.testing import EXAMPLE_TIME_US, make_trade

pytestmark = [pytest.mark.spark, pytest.mark.filterwarnings("ignore::ResourceWarning")]

START = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=EXAMPLE_TIME_US)
HOUR_US = 3_600 * 1_000_000
CODEC = TradeCodec()


def gold_rows(spark, trades):
    """Return Gold rows of trades that went through Bronze and Silver."""
    records = [KafkaRecord(0, n, CODEC.encode(trade)) for n, trade in enumerate(trades)]
    bronze = to_bronze(kafka_frame(spark, "market.crypto.trades.binance", records), START)
    silver = to_silver(judge(bronze, TradeContract.packaged()), TradeContract.packaged(), START)
    return to_gold(silver, [name for name, _ in TRADE_COLUMNS])


def hold(spark, trades, publish_id="k2:test:0=0"):
    """Put trades into Gold."""
    publish_rows(gold_rows(spark, trades), GOLD_TRADES, Guard("test", publish_id), len(trades))


def new_ids(spark, home, trades, exchange="binance"):
    """Return the ids of the trades that Gold lacks."""
    rows = gold_rows(spark, trades)
    ids = rows.select("message_id", "timestamp").toArrow()
    tally = count_ids(ids)
    known = find_known(ids, load_table(open_catalog(home), GOLD_TRADES), exchange, tally.ranges)
    new = drop_known(drop_repeats(rows, tally.repeated), known)
    found = sorted(int(row["trade_id"]) for row in new.collect())
    assert len(found) == tally.distinct - known.num_rows
    return found


def test_a_batch_that_repeats_itself_counts_once(spark, home):
    """Duplicates within one batch become one row."""
    assert new_ids(spark, home, [make_trade(1), make_trade(2), make_trade(1)]) == [1, 2]


def test_what_gold_holds_is_not_taken_again(spark, home):
    """Only trades that the table lacks come out."""
    hold(spark, [make_trade(1), make_trade(2)])

    assert new_ids(spark, home, [make_trade(2), make_trade(3), make_trade(1)]) == [3]


def test_the_same_trade_with_other_last_digits_of_time_is_known(spark, home):
    """REST and socket differ in the digits of a time; within the slack it is the same trade."""
    hold(spark, [make_trade(1)])
    nearly = make_trade(1, timestamp_us=EXAMPLE_TIME_US + 900_000)

    assert new_ids(spark, home, [nearly]) == []


def test_a_late_trade_is_taken_and_a_late_duplicate_is_not(spark, home):
    """Nothing is too late: old rows are compared with their own time's rows."""
    hold(spark, [make_trade(1, timestamp_us=EXAMPLE_TIME_US - 5 * HOUR_US), make_trade(9)])
    batch = [
        make_trade(1, timestamp_us=EXAMPLE_TIME_US - 5 * HOUR_US),
        make_trade(2, timestamp_us=EXAMPLE_TIME_US - 5 * HOUR_US),
        make_trade(10),
    ]

    assert new_ids(spark, home, batch) == [2, 10]


def test_date_and_hour_are_utc(spark):
    """The two added columns follow UTC, whatever the machine's zone."""
    (row,) = gold_rows(spark, [make_trade(1)]).collect()

    assert (START.date(), START.hour) == (row["exchange_date"], row["exchange_hour"])


def test_only_files_that_overlap_the_batch_are_read(spark, home):
    """The batch's times are literals in the plan: files of other hours are not opened."""
    hold(spark, [make_trade(1)])
    hold(spark, [make_trade(2, timestamp_us=EXAMPLE_TIME_US - 9 * HOUR_US)], "k2:test:0=1")
    hold(spark, [make_trade(3, timestamp_us=EXAMPLE_TIME_US - 18 * HOUR_US)], "k2:test:0=2")
    table = load_table(open_catalog(home), GOLD_TRADES)
    ends = [START, START - timedelta(hours=18)]

    rows = select_rows(table, "binance", "timestamp", [TimeRange(end, end) for end in ends])

    assert rows.count(".parquet") == 2
