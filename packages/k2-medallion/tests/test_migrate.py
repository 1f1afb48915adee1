"""Old rows become bytes that read as they did, or nothing is published."""

from datetime import UTC, datetime

import pytest
from pyspark.sql import functions as F

from k2_medallion import MedallionError, bronze_trades, open_catalog
from k2_medallion.bronze import to_bronze
from k2_medallion.bronze_sink import BronzeSink
from k2_medallion.flow import Batch
from k2_medallion.migrate import migrate_bronze
from k2_medallion.promotion import Promotion
from k2_medallion.replay import Replay
from k2_medallion.silver import judge
from k2_medallion.spark import table_name
from k2_medallion.tables import TRADE_COLUMNS
from k2_medallion.testing import KafkaRecord, kafka_frame
from k2_medallion.trade_contract import TradeContract
from k2_schemas import TradeCodec
from k2_schemas.testing import make_trade

pytestmark = [pytest.mark.spark, pytest.mark.filterwarnings("ignore::ResourceWarning")]

CODEC = TradeCodec()
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TRADES = [make_trade(n, price=f"{n}.00000001", quantity="9999999999.99999999") for n in (1, 2, 3)]
OLD = "k2.market.old_bronze"


@pytest.fixture
def old(spark):
    """Make a table as a lake has it that threw its bytes away: each record's decoded fields."""
    records = [KafkaRecord(0, n, CODEC.encode(trade)) for n, trade in enumerate(TRADES)]
    bronze = to_bronze(kafka_frame(spark, "market.crypto.trades.binance", records), NOW)
    names = [name for name, _ in TRADE_COLUMNS]
    judged = judge(bronze, TradeContract.packaged())
    # Both have an ingestion_timestamp: the trade's own is the one that must be kept.
    frame = judged.select(*names, "bronze.partition", "bronze.offset", "bronze.kafka_timestamp")
    frame.writeTo(OLD).using("iceberg").create()
    return frame


def test_every_row_becomes_the_bytes_that_the_feed_would_have_sent(spark, old):
    """Decoded rows are encoded to the very frames they came from; a second run adds nothing."""
    report = migrate_bronze(spark, OLD, "binance")
    again = migrate_bronze(spark, OLD, "binance")

    assert (report.rows, report.migrated, report.complete) == (3, 3, True)
    assert (report.added, again.added, again.complete) == (3, 0, True)
    held = spark.table(table_name(bronze_trades("binance"))).orderBy("offset").collect()
    assert [bytes(row["raw_bytes"]) for row in held] == [CODEC.encode(trade) for trade in TRADES]
    assert "3 encode to bytes that read as they do" in str(report)


def test_offsets_that_bronze_has_are_left_out(spark, home, old):
    """k2-lake has read two of them from the topic already; they must not be there twice."""
    records = [KafkaRecord(0, n, CODEC.encode(trade)) for n, trade in enumerate(TRADES)][1:]
    sink = BronzeSink("binance", open_catalog(home))
    rows = kafka_frame(spark, sink.topic, records)
    sink.write(rows, Batch(sink.flow, {0: 1}, {0: 3}))

    assert migrate_bronze(spark, OLD, "binance").added == 1
    held = spark.table(table_name(bronze_trades("binance"))).select("offset").collect()
    assert sorted(row[0] for row in held) == [0, 1, 2]


def test_the_migrated_bronze_fills_the_layers(spark, home, old):
    """What was migrated is replayed into Silver and Gold as anything else."""
    migrate_bronze(spark, OLD, "binance")
    promotion = Promotion("binance", open_catalog(home), TradeContract.packaged())

    (report,) = Replay(promotion).run(spark)

    assert (report.bronze, report.silver, report.dead_letters, report.gold) == (3, 3, 0, 3)


def test_a_row_that_the_contract_refuses_stops_it(spark, old):
    """Its place and the reason are in the report; the others wait, unless told otherwise."""
    wrong = (
        old.limit(1).withColumn("message_id", F.lit("not its id")).withColumn("offset", F.lit(9))
    )
    wrong.withColumn("offset", F.col("offset").cast("bigint")).writeTo(OLD).append()

    report = migrate_bronze(spark, OLD, "binance")
    assert (report.migrated, report.refused, report.added) == (3, 1, None)
    assert "offset 9: message_id is not the UUIDv5" in report.examples[0]
    assert spark.table(table_name(bronze_trades("binance"))).count() == 0

    assert migrate_bronze(spark, OLD, "binance", leave_refused=True).added == 3
    assert spark.table(table_name(bronze_trades("binance"))).count() == 3


def test_a_table_of_other_columns_is_named(spark, old):
    """The error says what is missing."""
    spark.table(OLD).drop("price").writeTo("k2.market.no_price").using("iceberg").create()

    with pytest.raises(MedallionError, match="has no price"):
        migrate_bronze(spark, "k2.market.no_price", "binance")
