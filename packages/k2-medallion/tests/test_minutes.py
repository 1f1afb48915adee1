"""Candles are read where they are stored and computed where they are not yet, each minute once."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

import k2_medallion
from k2_medallion import GOLD_CANDLES, GOLD_TRADES, QueryError
from k2_medallion.rollup import CANDLE_COLUMNS

START = datetime(2026, 11, 23, 22, 55, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def make_trade(minute, number, price=1, **others):
    """Return a Gold row of a minute after the start."""
    return {
        "trade_id": str(number),
        "symbol": "BTC/USDT",
        "exchange": "BINANCE",
        "timestamp": START + minute * MINUTE + timedelta(seconds=number % 60),
        "price": Decimal(price),
        "quantity": Decimal(1),
        "source_sequence": number,
    } | others


def make_candle(minute, price=7, version=1, **others):
    """Return a stored candle, by its price to be told from a computed one."""
    prices = dict.fromkeys(("open", "high", "low", "close", "vwap"), Decimal(price))
    return {
        "exchange": "BINANCE",
        "symbol": "BTC/USDT",
        "start": START + minute * MINUTE,
        **prices,
        "volume": Decimal(version),
        "quote_volume": Decimal(price * version),
        "trade_count": version,
        "first_trade_id": "1",
        "last_trade_id": str(version),
        "version": version,
    } | others


@pytest.fixture
def lake(home, write):
    """Open an empty lake."""
    write(GOLD_TRADES)
    with k2_medallion.open(home.path) as lake:
        yield lake


def list_candles(result):
    """Return (minute after the start, closing price) of each candle."""
    rows = result.to_arrow().to_pylist()
    return [((row["start"] - START) // MINUTE, int(row["close"])) for row in rows]


def test_before_any_is_stored_all_are_computed(lake, write):
    """A new lake has candles as soon as it has trades."""
    write(GOLD_TRADES, make_trade(0, 1, 3), make_trade(0, 2, 4), make_trade(2, 3, 5))

    assert list_candles(lake.candles("BTC/USDT")) == [(0, 4), (2, 5)]


def test_stored_candles_are_read_and_later_minutes_computed(lake, write):
    """The minute that is still open is not stored; a stored one is not computed again."""
    write(GOLD_TRADES, *(make_trade(minute, minute) for minute in range(4)))
    write(GOLD_CANDLES, make_candle(0), make_candle(1))

    assert list_candles(lake.candles("BTC/USDT")) == [(0, 7), (1, 7), (2, 1), (3, 1)]


def test_each_exchange_is_stored_as_far_as_it_is(lake, write):
    """One that lags behind does not hide the other's, and neither is counted twice."""
    write(GOLD_TRADES, *(make_trade(minute, minute) for minute in range(3)))
    write(GOLD_TRADES, *(make_trade(n, n, 2, exchange="KRAKEN") for n in range(3)))
    write(GOLD_CANDLES, make_candle(0), make_candle(1), make_candle(2))
    write(GOLD_CANDLES, make_candle(0, exchange="KRAKEN"))

    assert list_candles(lake.candles("BTC/USDT", exchange="binance")) == [(0, 7), (1, 7), (2, 7)]
    assert list_candles(lake.candles("BTC/USDT", exchange="kraken")) == [(0, 7), (1, 2), (2, 2)]
    assert len(list_candles(lake.candles("BTC/USDT"))) == 6


def test_a_symbols_minute_without_candle_is_not_computed_before_the_newest(lake, write):
    """A minute is stored for all symbols at once: where one has none, it had no trade."""
    write(GOLD_TRADES, make_trade(0, 1), make_trade(1, 2, symbol="ETH/USDT"))
    write(GOLD_CANDLES, make_candle(1, symbol="ETH/USDT"))

    assert list_candles(lake.candles("BTC/USDT")) == []


def test_a_later_version_takes_its_minutes_place(lake, write):
    """A late trade is in the candle from the next question on, in every interval."""
    write(GOLD_CANDLES, make_candle(0), make_candle(1))
    before = lake.candles("BTC/USDT", "5m").to_arrow().to_pylist()
    write(GOLD_CANDLES, make_candle(0, 9, version=2), make_candle(6))
    after = lake.candles("BTC/USDT", "5m").to_arrow().to_pylist()

    assert [row["trade_count"] for row in before] == [2]
    assert [row["trade_count"] for row in after] == [3, 1]
    assert (after[0]["open"], after[0]["close"], after[0]["high"]) == (9, 7, 9)
    # (9 * 2 + 7) / 3, half up.
    assert after[0]["vwap"] == Decimal("8.33333333")


def test_candles_move_on_with_the_table(lake, write):
    """A reader that stays open finds each newly stored minute, and does not compute it too."""
    write(GOLD_TRADES, *(make_trade(minute, minute) for minute in range(3)))
    for stored in range(3):
        write(GOLD_CANDLES, make_candle(stored))
        found = list_candles(lake.candles("BTC/USDT"))
        assert found == [(n, 7 if n <= stored else 1) for n in range(3)]


def test_a_part_of_a_candle_is_no_candle(lake, write):
    """One that began before the start is left out; one that begins before the end is whole."""
    write(GOLD_CANDLES, *(make_candle(minute) for minute in range(15)))

    found = lake.candles("BTC/USDT", "5m", START + MINUTE, START + 6 * MINUTE).to_arrow()
    assert list_candles(lake.candles("BTC/USDT", "5m", START + MINUTE, START + 6 * MINUTE)) == [
        (5, 7)
    ]
    assert found["trade_count"].to_pylist() == [5]


def test_candles_are_as_they_were(lake, write):
    """As of an earlier state the stored end earlier, and Gold's rows of that time take over."""
    write(GOLD_TRADES, make_trade(0, 1), make_trade(1, 2))
    table = write(GOLD_CANDLES, make_candle(0))
    then = table.metadata.current_snapshot_id
    write(GOLD_TRADES, make_trade(1, 3, 5), make_trade(2, 4, 5))
    write(GOLD_CANDLES, make_candle(1), make_candle(2))

    assert list_candles(lake.candles("BTC/USDT", as_of=then)) == [(0, 7), (1, 1)]
    assert list_candles(lake.candles("BTC/USDT")) == [(0, 7), (1, 7), (2, 7)]


def test_an_unknown_symbol_has_no_candles_but_all_columns(lake, write):
    """The types are the same with and without rows, in every interval."""
    empty = lake.candles("DOGE/USDT", "1h").to_arrow()
    write(GOLD_TRADES, make_trade(0, 1))
    write(GOLD_CANDLES, make_candle(0, exchange="KRAKEN"))

    assert (empty.num_rows, tuple(empty.column_names)) == (0, CANDLE_COLUMNS)
    for interval in ("1m", "5m", "1d"):
        assert lake.candles("BTC/USDT", interval).to_arrow().schema == empty.schema


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"interval": "2m"}, "choose one of: 1m, 5m"),
        ({"start": datetime(2026, 11, 23)}, "has no time zone"),
        ({"start": START, "end": START - MINUTE}, "is after end"),
        ({"as_of": 1}, "no table keeps a snapshot 1"),
    ],
)
def test_a_question_that_cannot_be_meant_is_one_sentence(lake, arguments, complaint):
    """As with trades."""
    with pytest.raises(QueryError, match=complaint):
        lake.candles("BTC/USDT", **arguments)


def test_a_lake_from_before_there_was_the_table_has_candles(home, write, lake):
    """They are computed until the writer of this version has made it."""
    write(GOLD_TRADES, make_trade(0, 1))
    catalog = k2_medallion.open_catalog(home)
    catalog.drop_table(GOLD_CANDLES.identifier)
    catalog.close()

    assert list_candles(lake.candles("BTC/USDT")) == [(0, 1)]
