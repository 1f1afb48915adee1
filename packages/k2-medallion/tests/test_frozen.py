"""All questions see one state, and batches on their way are told from rows that are lost."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from k2_medallion import (
    DEAD_LETTERS,
    GOLD_CANDLES,
    GOLD_TRADES,
    QueryError,
    bronze_trades,
    silver_trades,
)
from k2_medallion.audit import audit_lake
from k2_medallion.frozen import FrozenLake
from k2_schemas import TradeCodec
from k2_schemas.testing import make_trade
from k2_schemas.trade_codec import trade_to_record

BRONZE, SILVER = bronze_trades("binance"), silver_trades("binance")
TOPIC = "market.crypto.trades.binance"
NOW = datetime.now(UTC)


def trade(offset):
    """Return the trade of a Bronze row."""
    at_us = (NOW - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return make_trade(offset, price="2", quantity="1", timestamp_us=at_us)


def bronze_row(offset):
    """Return a Bronze row, a batch of its own."""
    time = NOW.replace(microsecond=offset)
    return {
        "topic": TOPIC,
        "partition": 0,
        "offset": offset,
        "raw_bytes": TradeCodec().encode(trade(offset)),
        "ingestion_timestamp": time,
        "ingestion_date": time.date(),
    }


def silver_row(offset):
    """Return the Silver row of a Bronze row."""
    time = NOW.replace(microsecond=offset)
    return {**trade_to_record(trade(offset)), "bronze_ingestion_timestamp": time, "schema_id": 1}


def gold_row(offset):
    """Return the Gold row of a Silver row."""
    return trade_to_record(trade(offset))


def candle_row():
    """Return the candle of the first batch alone."""
    return {
        "exchange": "BINANCE",
        "symbol": "BTC/USDT",
        "start": NOW.replace(second=0, microsecond=0),
        **dict.fromkeys(("open", "high", "low", "close", "vwap", "quote_volume"), Decimal(2)),
        "volume": Decimal(1),
        "trade_count": 1,
        "first_trade_id": "0",
        "last_trade_id": "0",
        "version": 1,
    }


def publish_batch(publish, offset, *, until):
    """Publish a fused batch as far as a table, in the order in which the flow does."""
    publish_id = f"k2:fused-binance:0={offset}"
    for spec, row in (
        (BRONZE, bronze_row(offset)),
        (DEAD_LETTERS, None),
        (SILVER, silver_row(offset)),
        (GOLD_TRADES, gold_row(offset)),
    ):
        publish(spec, row, publish_id)
        if spec is until:
            return


@pytest.mark.parametrize(
    ("until", "pending"),
    [
        (BRONZE, {SILVER.name: 1}),
        (DEAD_LETTERS, {SILVER.name: 1}),
        (SILVER, {GOLD_TRADES.name: 1}),
        (GOLD_TRADES, {}),
    ],
)
def test_a_batch_on_its_way_is_pending_and_no_breach(home, publish, until, pending):
    """Wherever the driver was when it was asked, or when it died."""
    publish_batch(publish, 0, until=GOLD_TRADES)
    publish_batch(publish, 1, until=until)
    report = audit_lake(home)

    assert report.breaches == []
    assert report.pending == pending


def test_the_first_batch_ever_is_pending_too(home, publish):
    """No table after Bronze has any batch yet."""
    publish_batch(publish, 0, until=BRONZE)
    publish(BRONZE, bronze_row(1), "k2:fused-binance:0=1", "published-wap-id")
    report = audit_lake(home)

    assert report.breaches == []
    assert report.pending == {SILVER.name: 2}


def test_a_staged_topology_is_pending_by_sequence_number(home, publish):
    """Each stage follows the snapshots of the one before it."""
    for offset in (0, 1):
        number = publish(BRONZE, bronze_row(offset), f"k2:bronze-binance:0={offset}")
        silver = publish(SILVER, silver_row(offset), f"k2:silver-binance:{number}")
        if offset == 0:
            publish(GOLD_TRADES, gold_row(offset), f"k2:gold-binance:{silver}")
    publish(BRONZE, bronze_row(2), "k2:bronze-binance:0=2")
    report = audit_lake(home)

    assert report.breaches == []
    assert report.pending == {SILVER.name: 1, GOLD_TRADES.name: 1}


def test_rows_lost_in_a_finished_batch_are_a_breach(home, publish):
    """An id in the later table says that the batch is done there."""
    publish_batch(publish, 0, until=GOLD_TRADES)
    publish(BRONZE, bronze_row(1), "k2:fused-binance:0=1")
    publish(SILVER, None, "k2:fused-binance:0=1")
    assert {breach.table for breach in audit_lake(home).breaches} == {SILVER.name}


def test_candles_may_be_a_batch_behind_gold(home, publish):
    """They are published after it; once they carry the batch they must be of it."""
    publish_batch(publish, 0, until=GOLD_TRADES)
    publish(GOLD_CANDLES, candle_row(), "k2:fused-binance:0=0")
    publish_batch(publish, 1, until=GOLD_TRADES)
    assert audit_lake(home).breaches == []

    publish(GOLD_CANDLES, None, "k2:fused-binance:0=1")
    (breach,) = audit_lake(home).breaches
    assert breach.table == GOLD_CANDLES.name


def test_what_is_published_later_is_not_seen(home, publish):
    """One reading of the catalog for all questions."""
    publish_batch(publish, 0, until=GOLD_TRADES)
    with FrozenLake(home) as lake:
        publish_batch(publish, 1, until=GOLD_TRADES)
        for spec in (BRONZE, SILVER, GOLD_TRADES):
            assert lake.ask(f"SELECT count(*) AS n FROM {spec.name}") == [{"n": 1}]
        assert lake.count_rows()[BRONZE.name] == 1


def test_sql_that_fails_is_an_error_of_ours(home, publish):
    """Whoever audits need not know DuckDB."""
    with FrozenLake(home) as lake, pytest.raises(QueryError, match="no_such_table"):
        lake.ask("SELECT * FROM no_such_table")
