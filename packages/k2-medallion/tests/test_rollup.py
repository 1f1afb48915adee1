"""Candles of any interval are those that whole numbers give, to the last digit."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_medallion.rollup import CANDLE_COLUMNS, of_trades_sql, pick_versions_sql, roll_up_sql
from k2_medallion.window import INTERVALS

START = datetime(2026, 11, 23, 23, tzinfo=UTC)
TRADES = pa.schema(
    [
        ("exchange", pa.string()),
        ("symbol", pa.string()),
        ("trade_id", pa.string()),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("price", pa.decimal128(18, 8)),
        ("quantity", pa.decimal128(18, 8)),
        ("source_sequence", pa.int64()),
    ]
)
UNITS = st.one_of(st.integers(1, 10**18 - 1), st.integers(1, 3), st.just(10**18 - 1))
PLACES = st.tuples(st.integers(0, 3 * 3600 * 10**6), st.sampled_from(["BTC/USDT", "ETH/USDT"]))


@pytest.fixture(scope="module")
def duck():
    """Give the module one connection, in a zone that is not UTC: nothing may depend on it."""
    with duckdb.connect(":memory:") as duck:
        duck.execute("SET TimeZone = 'Asia/Kolkata'")
        yield duck


def to_decimal(units, digits=8):
    """Return whole units as a decimal, whatever the context's precision."""
    return Decimal(f"{units}E-{digits}")


def recompute(trades, step):
    """Return the candles of (timestamp_us, symbol, price, quantity) by whole numbers alone."""
    groups = defaultdict(list)
    step_us = step // timedelta(microseconds=1)
    for number, ((offset_us, symbol), price, quantity) in enumerate(trades):
        micros = int(START.timestamp()) * 10**6 + offset_us
        groups[symbol, micros // step_us * step_us].append((micros, number, price, quantity))
    candles = []
    for (symbol, begin_us), group in sorted(groups.items()):
        group.sort()
        prices = [price for _, _, price, _ in group]
        units = sum(quantity for *_, quantity in group)
        turnover = sum(price * quantity for *_, price, quantity in group)
        candles.append(
            {
                "exchange": "BINANCE",
                "symbol": symbol,
                "start": datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=begin_us),
                "open": to_decimal(prices[0]),
                "high": to_decimal(max(prices)),
                "low": to_decimal(min(prices)),
                "close": to_decimal(prices[-1]),
                "volume": to_decimal(units),
                "quote_volume": to_decimal(turnover, 16),
                "vwap": to_decimal((2 * turnover + units) // (2 * units)),
                "trade_count": len(group),
                "first_trade_id": str(group[0][1]),
                "last_trade_id": str(group[-1][1]),
            }
        )
    return candles


def read_candles(duck, query):
    """Return the rows of a query, in order, with times in UTC."""
    table = duck.sql(f"SELECT * FROM ({query}) ORDER BY exchange, symbol, start").to_arrow_table()
    assert table.column_names == list(CANDLE_COLUMNS)
    place = table.column_names.index("start")
    times = table["start"].cast(pa.timestamp("us", "UTC"))
    return table.set_column(place, "start", times).to_pylist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(PLACES, UNITS, UNITS), max_size=40), st.sampled_from(list(INTERVALS)))
def test_candles_of_every_interval_are_exact(duck, trades, interval):
    """Rolled up from minutes they equal what the trades themselves give, VWAP half up included."""
    rows = [
        {
            "exchange": "BINANCE",
            "symbol": symbol,
            "trade_id": str(number),
            "timestamp": START + timedelta(microseconds=offset_us),
            "price": to_decimal(price),
            "quantity": to_decimal(quantity),
            "source_sequence": number,
        }
        for number, ((offset_us, symbol), price, quantity) in enumerate(trades)
    ]
    duck.register("trades", pa.Table.from_pylist(rows, TRADES))
    step = INTERVALS[interval]
    query = roll_up_sql(of_trades_sql("SELECT * FROM trades"), step)

    assert read_candles(duck, query) == recompute(trades, step)


def test_trades_of_one_instant_open_and_close_by_the_exchanges_number(duck):
    """As a number, not as text: 10 comes after 9."""
    row = {"exchange": "K", "symbol": "S", "timestamp": START, "quantity": Decimal(1)}
    rows = [
        row | {"trade_id": str(n), "source_sequence": n, "price": Decimal(n)} for n in (10, 11, 9)
    ]
    duck.register("trades", pa.Table.from_pylist(rows, TRADES))
    (candle,) = read_candles(duck, of_trades_sql("SELECT * FROM trades"))

    assert (candle["open"], candle["close"]) == (9, 11)
    assert (candle["first_trade_id"], candle["last_trade_id"]) == ("9", "11")


def test_of_several_versions_the_highest_holds(duck):
    """A late trade made a candle anew; the old row stays in the table and is not read."""
    names = [name for name in CANDLE_COLUMNS if name not in ("exchange", "symbol", "start")]
    columns = ", ".join(f"version AS {name}" for name in names)
    versions = (
        "SELECT 'K' AS exchange, symbol, TIMESTAMPTZ '2026-11-23 23:00:00Z' AS start, "
        f"{columns}, version "
        "FROM (VALUES ('A', 2), ('A', 10), ('A', 9), ('B', 1)) v(symbol, version)"
    )
    rows = read_candles(duck, pick_versions_sql(versions))

    assert [(row["symbol"], row["trade_count"]) for row in rows] == [("A", 10), ("B", 1)]


def test_a_turnover_that_fits_no_decimal_stays_unknown(duck):
    """The writer stores NULL for it: a sum of the rest would be a wrong number."""
    minute = (
        "SELECT 'K' AS exchange, 'S' AS symbol, TIMESTAMPTZ '2026-11-23 23:0{}:00Z' AS start, "
        "1::DECIMAL(18, 8) AS open, 1::DECIMAL(18, 8) AS high, 1::DECIMAL(18, 8) AS low, "
        "1::DECIMAL(18, 8) AS close, 1::DECIMAL(38, 8) AS volume, "
        "{}::DECIMAL(38, 16) AS quote_volume, NULL::DECIMAL(18, 8) AS vwap, "
        "1::BIGINT AS trade_count, '1' AS first_trade_id, '1' AS last_trade_id"
    )
    minutes = f"{minute.format(0, 1)} UNION ALL {minute.format(1, 'NULL')}"
    (candle,) = read_candles(duck, roll_up_sql(minutes, INTERVALS["5m"]))

    assert (candle["quote_volume"], candle["vwap"]) == (None, None)
    assert (candle["volume"], candle["trade_count"]) == (2, 2)


@pytest.mark.parametrize("interval", ["1m", "5m"])
def test_absurd_trades_stop_nobody(duck, interval):
    """Turnover is known up to the last trade that fits, and unknown from the next one on."""
    most = Decimal("9999999999.99999999")
    row = {"exchange": "K", "symbol": "S", "price": most, "quantity": most, "source_sequence": 1}
    fitting, turnover = 100, 100 * (10**18 - 1) ** 2
    for count in (fitting, fitting + 1, 1000):
        rows = [row | {"trade_id": "1", "timestamp": START} for _ in range(count)]
        duck.register("trades", pa.Table.from_pylist(rows, TRADES))
        query = roll_up_sql(of_trades_sql("SELECT * FROM trades"), INTERVALS[interval])
        (candle,) = read_candles(duck, query)

        fits = count == fitting
        assert candle["quote_volume"] == (to_decimal(turnover, 16) if fits else None)
        assert candle["vwap"] == (most if fits else None)
        assert candle["volume"] == to_decimal(count * (10**18 - 1))


def test_a_day_of_absurd_minutes_is_unknown(duck):
    """Each minute's turnover fits, their sum does not."""
    row = {"exchange": "K", "symbol": "S", "trade_id": "1", "source_sequence": 1}
    most = Decimal("9999999999.99999999")
    rows = [
        row | {"timestamp": START + timedelta(seconds=second), "price": most, "quantity": most}
        for second in range(300)
    ]
    duck.register("trades", pa.Table.from_pylist(rows, TRADES))
    minutes = of_trades_sql("SELECT * FROM trades")

    assert None not in [row["vwap"] for row in read_candles(duck, minutes)]
    (candle,) = read_candles(duck, roll_up_sql(minutes, INTERVALS["5m"]))
    assert (candle["quote_volume"], candle["vwap"], candle["trade_count"]) == (None, None, 300)


def test_trades_without_a_number_make_one_candle_in_whatever_order(duck):
    """At one instant of a venue that numbers nothing, the text of the ids decides."""
    row = {"exchange": "K", "symbol": "S", "timestamp": START, "quantity": Decimal(1)}
    rows = [row | {"trade_id": name, "price": Decimal(ord(name))} for name in "bca"]
    found = []
    for order in (rows, rows[::-1], rows[1:] + rows[:1]):
        duck.register("trades", pa.Table.from_pylist(order, TRADES))
        found += read_candles(duck, of_trades_sql("SELECT * FROM trades"))

    assert [(c["first_trade_id"], c["last_trade_id"]) for c in found] == [("a", "c")] * 3
    assert [(int(c["open"]), int(c["close"])) for c in found] == [(ord("a"), ord("c"))] * 3
