"""Holes are those of the one rule, whatever the ids; only what arrived fills one."""

from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_medallion import DEAD_LETTERS, silver_trades
from k2_medallion.frozen import FrozenLake
from k2_medallion.id_holes import find_holes, find_holes_sql
from k2_schemas import TradeCodec
from k2_schemas.testing import make_trade
from k2_schemas.topics import DEADLETTER_TOPIC
from k2_validation import IdRange, find_missing_ids

SILVER = silver_trades("binance")
START = datetime(2026, 11, 23, 12, tzinfo=UTC)
BIGINTS = st.integers(-(2**63), 2**63 - 1)
IDS = st.lists(st.one_of(st.integers(0, 40), BIGINTS, st.none()), max_size=30)
SCHEMA = pa.schema([("symbol", pa.string()), ("id", pa.int64()), ("time", pa.int64())])


@pytest.fixture(scope="module")
def duck():
    """Give the module one connection."""
    with duckdb.connect(":memory:") as duck:
        yield duck


@given(IDS, IDS)
def test_the_sql_is_the_one_rule(duck, bitcoin, ether):
    """Per symbol, repeats and disorder and NULLs and the ends of a BIGINT included."""
    symbols = {"BTC/USDT": bitcoin, "ETH/USDT": ether}
    rows = [
        {"symbol": symbol, "id": number, "time": number}
        for symbol, ids in symbols.items()
        for number in ids
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    duck.register("ids", table)
    found = duck.sql(f"{find_holes_sql('SELECT * FROM ids')} ORDER BY ALL").fetchall()

    # A hole's neighbours are the ids beside it: here they are their own times.
    assert found == [
        (symbol, hole.first, hole.last, hole.first - 1, hole.last + 1)
        for symbol, ids in symbols.items()
        for hole in find_missing_ids(number for number in ids if number is not None)
    ]


def silver_row(number):
    """Return a Silver row, one a second."""
    return {
        "symbol": "BTC/USDT",
        "source_sequence": number,
        "timestamp": START + timedelta(seconds=number or 0),
    }


def dead_row(number, **others):
    """Return a dead letter of a trade that decodes."""
    row = {
        "raw_record": TradeCodec().encode(make_trade(number, price="0")),
        "bronze_source": "bronze_binance_trades",
    }
    return row | others


def ask(home):
    """Return Binance's holes as ranges."""
    with FrozenLake(home) as lake:
        return [hole.missing for hole in find_holes(lake, "binance")]


def test_a_dead_trade_that_arrived_is_not_missing(home, write):
    """It fills a hole, or part of one; what cannot be read, or is another exchange's, does not."""
    write(SILVER, *map(silver_row, (1, 2, 9)))
    write(
        DEAD_LETTERS,
        dead_row(4),
        dead_row(6, bronze_source="bronze_kraken_trades"),
        {"raw_record": b"\x07", "bronze_source": "bronze_binance_trades"},
        {"raw_record": None, "bronze_source": "bronze_binance_trades"},
    )

    assert ask(home) == [IdRange(3, 3), IdRange(5, 8)]


def test_a_number_that_no_trade_can_have_is_passed_over(home, write):
    """A broken frame may say any; it must not end the audit for as long as it is kept."""
    write(SILVER, *map(silver_row, (1, 3)))
    frame = {
        "raw_record": b"frame",
        "kafka_topic": DEADLETTER_TOPIC,
        "error_reason": "binance: broken",
    }
    write(DEAD_LETTERS, frame)
    ids = [("BTC/USDT", 10**30), ("BTC/USDT", 2)]
    with FrozenLake(home) as lake:
        assert find_holes(lake, "binance", lambda *_: ids) == []


def test_a_dead_trade_makes_no_hole(home, write):
    """What was refused may say any number: it proves nothing about those between."""
    write(SILVER, *map(silver_row, (1, 2, 4)))
    write(DEAD_LETTERS, dead_row(3), dead_row(4_000))

    assert ask(home) == []


def test_trades_without_a_number_prove_nothing(home, write):
    """A venue that does not number its trades has no holes."""
    write(SILVER, *(silver_row(number) for number in (1, None, 2)))

    assert ask(home) == []


def test_a_hole_says_what_to_fetch_and_when_it_was_traded(home, write):
    """In one line; a neighbour that is a dead letter has no time to be trusted."""
    write(SILVER, *map(silver_row, (1, 2, 9)))
    write(DEAD_LETTERS, dead_row(4))
    with FrozenLake(home) as lake:
        first, second = find_holes(lake, "binance")

    assert str(first) == (
        "BINANCE BTC/USDT: 1 missing, ids 3 to 3, traded 2026-11-23T12:00:02+00:00 to ?"
    )
    assert second.to_dict() == {
        "exchange": "BINANCE",
        "symbol": "BTC/USDT",
        "first": 5,
        "last": 8,
        "count": 4,
        "before": None,
        "after": "2026-11-23T12:00:09+00:00",
    }
