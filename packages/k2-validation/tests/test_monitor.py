import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_schemas import Trade
from k2_validation import (
    ColumnTypeError,
    IdRange,
    Incident,
    MarketLimits,
    MissingColumnError,
    Monitor,
    MonitorStateError,
    UnsupportedRecordError,
)

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
START_US = 1_795_435_200_000_000
SECOND_US = 1_000_000
SCHEMA = pa.schema(
    {
        "exchange": pa.string(),
        "symbol": pa.string(),
        "source_sequence": pa.int64(),
        "timestamp": pa.timestamp("us", "UTC"),
        "ingestion_timestamp": pa.timestamp("us", "UTC"),
        "price": pa.decimal128(18, 8),
        "quantity": pa.decimal128(18, 8),
    }
)
QUICK = MarketLimits(window=6, warm_up=3, time_gap_us=5 * SECOND_US, time_gap_factor=3)


def make_row(number: int, **changes: Any) -> dict[str, Any]:
    """Return the trade of one second: prices and quantities stand almost still."""
    time = START + timedelta(seconds=number)
    row = {
        "exchange": "BINANCE",
        "symbol": "BTC/USDT",
        "source_sequence": number,
        "timestamp": time,
        "ingestion_timestamp": time + timedelta(milliseconds=20),
        "price": Decimal("61837.63") + Decimal(number % 3) / 100,
        "quantity": Decimal("0.02"),
    }
    return row | changes


def find_kinds(incidents: list[Incident]) -> list[str]:
    """Return what the incidents are about."""
    return [incident.kind for incident in incidents]


def test_an_ordinary_stream_is_silent():
    """A hundred trades with nothing odd give no incident."""
    assert Monitor().observe([make_row(number) for number in range(100)]) == []


def test_an_id_gap_has_the_range_to_backfill():
    """The incident carries the first and the last missing id, and says when they have come."""
    monitor = Monitor(QUICK)
    (gap,) = monitor.observe([make_row(1), make_row(5)])
    assert (gap.kind, gap.first_missing_id, gap.last_missing_id) == ("id_gap", 2, 4)
    assert monitor.list_missing_ids() == {("BINANCE", "BTC/USDT"): [IdRange(2, 4)]}
    (filled,) = monitor.observe([make_row(3), make_row(2), make_row(4), make_row(4)])
    assert (filled.kind, filled.first_missing_id, filled.last_missing_id) == ("gap_filled", 2, 4)
    assert monitor.list_missing_ids() == {}


def test_backfilled_trades_are_not_judged_against_the_present():
    """A late trade fills its gap and is neither out of order nor skewed."""
    monitor = Monitor(QUICK)
    monitor.observe([make_row(number) for number in (*range(10), 11)])
    late = make_row(10, ingestion_timestamp=START + timedelta(hours=2), price=Decimal(1))
    assert find_kinds(monitor.observe([late])) == ["gap_filled"]


def test_time_gap_needs_an_unusual_and_a_long_silence():
    """Ids without a hole can hide lost hours; four seconds are no gap, six are."""
    monitor = Monitor(QUICK)
    monitor.observe([make_row(number) for number in range(5)])
    later = START + timedelta(seconds=8)
    moved = {"timestamp": later, "ingestion_timestamp": later}
    assert monitor.observe([make_row(5, **moved)]) == []
    much_later = later + timedelta(seconds=600)
    moved = {"timestamp": much_later, "ingestion_timestamp": much_later}
    (gap,) = monitor.observe([make_row(6, **moved)])
    assert (gap.kind, gap.measured) == ("time_gap", 600 * SECOND_US)


def test_a_time_that_runs_back_is_out_of_order():
    """Ids may go up while times go down: an incident, with how far."""
    (incident,) = Monitor(QUICK).observe([make_row(5), make_row(6, timestamp=START)])
    assert (incident.kind, incident.measured) == ("out_of_order", 5 * SECOND_US)


def test_a_price_jump_is_measured_against_median_and_mad():
    """Median 100, MAD 1: 110 is ten deviations away and passes, the next unit does not."""
    limits = MarketLimits(window=5, warm_up=5, jump_mads=10, jump_basis_points=0)
    prices = [Decimal(price) for price in ("98", "99", "100", "101", "102")]
    rows = [make_row(number, price=price) for number, price in enumerate(prices)]
    for price, kinds in ((Decimal("110"), []), (Decimal("110.00000001"), ["price_jump"])):
        monitor = Monitor(limits)
        monitor.observe(rows)
        found = monitor.observe([make_row(5, price=price)])
        assert find_kinds(found) == kinds
    assert (found[0].measured, found[0].limit) == (1_000_000_001, 1_000_000_000)


def test_a_market_that_stands_still_may_move_a_little():
    """With a deviation of zero the least jump counts, in basis points of the median."""
    monitor = Monitor(MarketLimits(window=5, warm_up=5, jump_basis_points=50))
    monitor.observe([make_row(number, price=Decimal(100)) for number in range(5)])
    assert monitor.observe([make_row(5, price=Decimal("100.49"))]) == []
    assert find_kinds(monitor.observe([make_row(6, price=Decimal("99"))])) == ["price_jump"]


def test_a_volume_spike_is_measured_against_the_mean():
    """A hundred times the mean passes, the next unit does not."""
    for quantity, kinds in ((Decimal(2), []), (Decimal("2.00000001"), ["volume_spike"])):
        monitor = Monitor(QUICK)
        monitor.observe([make_row(number) for number in range(6)])
        assert find_kinds(monitor.observe([make_row(6, quantity=quantity)])) == kinds


def test_clock_skew_begins_and_ends():
    """One incident when clocks part and one when they agree again, not one a trade."""
    behind = timedelta(seconds=61)
    rows = [make_row(number) for number in range(6)]
    for row in rows[2:4]:
        row["ingestion_timestamp"] = row["timestamp"] + behind
    assert find_kinds(Monitor(QUICK).observe(rows)) == ["clock_skew", "clock_skew_ended"]
    ahead = make_row(1, ingestion_timestamp=START - timedelta(seconds=1))
    (incident,) = Monitor(QUICK).observe([ahead])
    assert (incident.measured, incident.limit) == (-2 * SECOND_US, -SECOND_US)


def test_a_stale_feed_is_told_once_by_a_tick_and_ends_with_a_trade():
    """Silence has no row: only the tick can say it."""
    monitor = Monitor(MarketLimits(stale_us=10 * SECOND_US))
    monitor.observe([make_row(0), make_row(0, symbol="ETH/USDT")])
    monitor.observe([make_row(5, source_sequence=1)])
    assert monitor.tick(START_US + 9 * SECOND_US) == []
    assert [i.symbol for i in monitor.tick(START_US + 11 * SECOND_US)] == ["ETH/USDT"]
    assert monitor.tick(START_US + 12 * SECOND_US) == []
    back = make_row(14, source_sequence=1, symbol="ETH/USDT")
    assert "stale_feed_ended" in find_kinds(monitor.observe([back]))


@pytest.mark.parametrize("column", ["exchange", "symbol", "timestamp", "price", "quantity"])
def test_a_row_that_lacks_a_value_is_an_incident(column: str):
    """It cannot be watched, which is said, and the rows around it are."""
    monitor = Monitor(QUICK)
    (incident,) = monitor.observe([make_row(1), make_row(2, **{column: None}), make_row(2)])
    assert incident.kind == "unreadable"
    assert f"{column} is missing" in incident.message


def test_prices_finer_than_a_unit_are_not_rounded():
    """More than 8 fraction digits are said to be so."""
    (incident,) = Monitor(QUICK).observe([make_row(1, price=Decimal("0.000000001"))])
    assert (incident.kind, "price=0.000000001" in incident.message) == ("unreadable", True)


TIME_STEPS = st.sampled_from([-3, 0, 1, 1, 1, 2, 40, 400])


@st.composite
def streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Streams of two symbols with gaps, repeats, late ids, jumps, spikes and odd clocks."""
    rows, second = [], 0
    for _ in range(draw(st.integers(0, 40))):
        second += draw(TIME_STEPS)
        time = START + timedelta(seconds=second)
        lag = draw(st.sampled_from([0, 0, 0, 1, 61, -2]))
        rows.append(
            make_row(
                0,
                symbol=draw(st.sampled_from(["BTC/USDT", "ETH/USDT"])),
                source_sequence=draw(st.none() | st.integers(0, 60)),
                timestamp=time,
                ingestion_timestamp=time + timedelta(seconds=lag),
                price=Decimal(draw(st.sampled_from([100, 100, 101, 99, 150, 1]))),
                quantity=draw(st.sampled_from([Decimal(1), Decimal(2), Decimal(5000)])),
            )
        )
    return rows


@settings(max_examples=150, deadline=None)
@given(rows=streams(), cuts=st.sets(st.integers(0, 40)), ticks=st.sets(st.integers(0, 40)))
def test_no_cut_of_the_batches_changes_an_incident(rows, cuts: set[int], ticks: set[int]):
    """One batch, or any others, stored and restored in between: the same incidents."""
    whole, cut = Monitor(QUICK), Monitor(QUICK)
    expected: list[Incident] = []
    found: list[Incident] = []
    batch: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        expected += whole.observe([row])
        batch.append(row)
        if number in cuts or number in ticks:
            found += cut.observe(batch)
            batch = []
            cut = Monitor.from_json(cut.to_json())
        if number in ticks:
            now_us = START_US + number * 100 * SECOND_US
            expected += whole.tick(now_us)
            found += cut.tick(now_us)
    found += cut.observe(batch)
    assert found == expected
    assert cut.to_json() == whole.to_json()
    if not ticks:
        assert Monitor(QUICK).observe(rows) == expected


def to_trade(row: dict[str, Any]) -> Trade:
    """Return the row as the record the feed has."""

    def micros(time: datetime) -> int:
        return (time - START) // timedelta(microseconds=1) + START_US

    return Trade(
        trade_id=str(row["source_sequence"]),
        symbol=row["symbol"],
        exchange=row["exchange"],
        timestamp_us=micros(row["timestamp"]),
        ingestion_us=micros(row["ingestion_timestamp"]),
        price_units=int(row["price"] * 10**8),
        quantity_units=int(row["quantity"] * 10**8),
        currency="USDT",
        side="BUY",
        vendor_data={"pair": "BTCUSDT"},
        source_sequence=row["source_sequence"],
    )


READERS: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "trades": lambda rows: [to_trade(row) for row in rows],
    "generator": lambda rows: (row for row in rows),
    "polars": lambda rows: pl.from_arrow(pa.Table.from_pylist(rows, SCHEMA)),
    "polars lazy": lambda rows: pl.from_arrow(pa.Table.from_pylist(rows, SCHEMA)).lazy(),
    "pyarrow": lambda rows: pa.Table.from_pylist(rows, SCHEMA),
}


@settings(max_examples=40, deadline=None)
@given(rows=streams())
def test_frames_records_and_trades_give_the_same_incidents(engines, rows):
    """Whatever holds the trades, the incidents are equal."""
    expected = Monitor(QUICK).observe(rows)
    for name, read in READERS.items():
        assert Monitor(QUICK).observe(read(rows)) == expected, name
    table = pa.Table.from_pylist(rows, SCHEMA)
    assert Monitor(QUICK).observe(engines["duckdb"].load(table)) == expected


ODD_TABLES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "a part of a table": lambda table: table.slice(3, 20),
    "many chunks": lambda table: pa.concat_tables([table.slice(0, 7), table.slice(7, 0), table]),
    "none": lambda table: table.slice(0, 0),
    "no id": lambda table: set_column(table, "source_sequence", [None] * len(table), pa.int64()),
    "a missing price": lambda table: set_column(
        table, "price", [None, *table["price"][1:].to_pylist()], pa.decimal128(18, 8)
    ),
    "a finer price": lambda table: set_column(
        table, "price", [Decimal("1.000000001")] * len(table), pa.decimal128(18, 9)
    ),
    "a price beyond 64 bits": lambda table: set_column(
        table, "price", [Decimal(10) ** 15] * len(table), pa.decimal128(38, 8)
    ),
    "whole prices": lambda table: set_column(
        table, "price", list(range(1, len(table) + 1)), pa.int64()
    ),
    "times to the second": lambda table: table.set_column(
        3, "timestamp", table["timestamp"].cast(pa.timestamp("s", "UTC"), safe=False)
    ),
}


def set_column(table: pa.Table, name: str, values: list[Any], kind: pa.DataType) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, pa.array(values, kind))


@pytest.mark.parametrize("name", ODD_TABLES)
def test_an_arrow_table_is_read_as_its_rows_are(name: str):
    """By columns where that is exact, and by rows where it is not: the incidents are the same."""
    rows = [make_row(number * (1 + number % 3)) for number in range(40)]
    table = ODD_TABLES[name](pa.Table.from_pylist(rows, SCHEMA))

    assert Monitor(QUICK).observe(table) == Monitor(QUICK).observe(table.to_pylist())


def test_state_is_small():
    """Ten thousand trades leave a window of them, not more."""
    monitor = Monitor()
    monitor.observe([make_row(number) for number in range(10_000)])
    assert len(monitor.to_json()) < 4_000


def test_float_prices_are_refused():
    """A float has lost digits before we see it: in a frame and in a record."""
    row = make_row(1)
    with pytest.raises(ColumnTypeError, match="decimal or an integer"):
        Monitor().observe([row | {"price": 1.5}])
    frame = pa.Table.from_pylist([row], SCHEMA).to_pylist()
    with pytest.raises(ColumnTypeError) as caught:
        Monitor().observe(pl.DataFrame(frame).with_columns(pl.col("price").cast(pl.Float64)))
    assert (caught.value.rule, caught.value.column) == ("monitor", "price")


def test_a_missing_column_is_named():
    """In a frame and in a record."""
    row = make_row(1)
    del row["symbol"]
    for trades in ([row], pl.DataFrame([row])):
        with pytest.raises(MissingColumnError, match="symbol"):
            Monitor().observe(trades)


def test_what_is_no_trade_is_refused():
    """A number among the trades is named by its type."""
    with pytest.raises(UnsupportedRecordError, match="int"):
        Monitor().observe([1])


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"format": 2}), '{"format": 1}'])
def test_a_state_of_another_format_is_refused(text: str):
    """Neither a wrong format nor half a state is taken up."""
    with pytest.raises(MonitorStateError, match="start a new Monitor"):
        Monitor.from_json(text)


@pytest.mark.parametrize("limits", [{"warm_up": 1}, {"warm_up": 99}, {"stale_us": -1}])
def test_limits_that_mean_nothing_are_refused(limits: dict[str, int]):
    """A window shorter than its warm-up would never speak."""
    with pytest.raises(ValueError, match=r"warm_up|below zero"):
        MarketLimits(**limits)
