import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_schemas import Trade
from k2_validation import (
    SILVER_TRADES,
    BindError,
    Row,
    RuleSet,
    Term,
    UnsupportedRecordError,
    between,
    equals,
    ge,
    gt,
    le,
    lt,
    matches,
    not_after,
    not_before,
    one_of,
    present,
    rule,
)
from k2_validation.record import read_trade
from k2_validation.testing import make_trade_record

ZONES = [UTC, ZoneInfo("Europe/Berlin"), None]
TIMES = st.datetimes(datetime(1971, 1, 1), datetime(9998, 1, 1), timezones=st.sampled_from(ZONES))
NUMBERS = st.integers(-3, 3) | st.floats() | st.decimals(allow_nan=True) | st.booleans()
VALUES = st.none() | NUMBERS | TIMES | st.sampled_from(["", "a", "b", "ab", [], [1]])


@rule()
def price_is_no_text(row: Row) -> Term:
    """The price is a number near zero."""
    return abs(row.price) <= 5


@rule()
def pair_is_known(row: Row) -> Term:
    """The side is neither empty nor that of a test."""
    return ~row.side.is_in("", "TEST")


RULES = [
    present("a"),
    gt("a", 0),
    ge("a", Decimal("0.5")),
    lt("a", 2),
    le("a", -1),
    between("a", -1, 1.5),
    one_of("a", 1, 2),
    one_of("a", "a", "b"),
    equals("a", "ab"),
    matches("a", "[ab]{1,2}"),
    not_after("a", "b", timedelta(seconds=5)),
    not_before("a", "b", timedelta(days=1)),
]


def judge(rules: RuleSet, record: object) -> object:
    """Return the failed rules, or the error that says why there is no verdict."""
    try:
        return [failure.rule for failure in rules.check(record)]
    except BindError as error:
        return type(error), str(error)


@settings(max_examples=600, deadline=None)
@given(a=VALUES, b=VALUES, chosen=st.sampled_from(RULES))
def test_the_quick_way_gives_the_exact_verdict(a: object, b: object, chosen):
    """For values of any type, check says what the rule itself says: verdict or error."""
    record = {"a": a, "b": b}
    try:
        expected: object = [] if chosen.holds(record) else [chosen.name]
    except BindError as error:
        expected = type(error), str(error)
    assert judge(RuleSet("one", [chosen]), record) == expected
    # A custom mapping goes the same way as a dict.
    assert judge(RuleSet("one", [chosen]), MappingProxyType(record)) == expected


@given(base=TIMES, shift=st.timedeltas(timedelta(days=-2), timedelta(days=2)))
def test_two_time_rules_on_one_pair_are_both_judged(base: datetime, shift: timedelta):
    """Rules on the same two columns are tested at once and fail each by itself."""
    rules = [
        not_after("a", "b", timedelta(seconds=5)),
        not_before("a", "b", timedelta(days=1)),
        not_after("a", "b", timedelta(hours=1)),
    ]
    record = {"a": base + shift, "b": base}
    expected = [rule.name for rule in rules if not rule.holds(record)]
    assert judge(RuleSet("times", rules), record) == expected


UNITS = st.integers(-(10**18), 10**18) | st.sampled_from([0, 1, -1])
MICROS = st.integers(-(2**62), 2**62) | st.integers(
    1_795_435_200_000_000 - 10**7, 1_795_435_200_000_000 + 10**7
)


@settings(max_examples=300, deadline=None)
@given(
    price=UNITS,
    quantity=UNITS,
    time=MICROS,
    arrival=MICROS,
    side=st.sampled_from(["BUY", "SELL", "buy", ""]),
    symbol=st.sampled_from(["BTC/USDT", ""]),
    sequence=st.none() | st.integers(0, 9),
)
def test_a_trade_gets_the_verdict_of_its_record(
    price, quantity, time, arrival, side, symbol, sequence
):
    """A Trade's scaled integers are judged as the decimals and times that they stand for."""
    trade = Trade(
        trade_id="1",
        symbol=symbol,
        exchange="BINANCE",
        timestamp_us=time,
        ingestion_us=arrival,
        price_units=price,
        quantity_units=quantity,
        currency="USDT",
        side=side,
        vendor_data={"pair": "BTCUSDT"},
        source_sequence=sequence,
    )
    more = [
        between("price", Decimal("-0.000000015"), 3, severity="flag"),
        le("quantity", Decimal("0.5")),
        ge("source_sequence", 3),
        present("trade_id"),
        price_is_no_text,
        pair_is_known,
    ]
    rules = RuleSet("trades", [*SILVER_TRADES.rules, *more])
    record = read_trade(trade)
    found = rules.check(trade)
    assert found == tuple(rules.check(record))
    assert [failure.rule for failure in found] == [
        rule.name for rule in rules.rules if not rule.holds(record)
    ]


def test_a_trade_has_the_fields_of_the_contract():
    """What check reads of a Trade is what a frame of trades holds."""
    trade = Trade(
        trade_id="3735683259",
        symbol="BTC/USDT",
        exchange="BINANCE",
        timestamp_us=1_795_435_199_999_000,
        ingestion_us=1_795_435_200_000_000,
        price_units=6_183_763_000_000,
        quantity_units=2_000_000,
        currency="USDT",
        side="SELL",
        vendor_data={"pair": "BTCUSDT"},
    )
    record = read_trade(trade)
    assert record.keys() == make_trade_record().keys()
    assert record["price"] == Decimal("61837.63")
    assert record["timestamp"] == make_trade_record()["timestamp"]
    assert SILVER_TRADES.check(trade) == ()


def test_a_failure_repeats_the_value():
    """The message says what was demanded and what was found."""
    (failure,) = SILVER_TRADES.check(make_trade_record(price=Decimal("-1.50")))
    assert failure.message == "price must be > 0, found -1.5"


@pytest.mark.parametrize("record", [None, 1, "text", [("price", 1)]])
def test_what_is_no_record_is_refused(record: object):
    """Neither a mapping nor a Trade: an error naming its type."""
    with pytest.raises(UnsupportedRecordError, match=type(record).__name__):
        SILVER_TRADES.check(record)


def test_the_package_needs_no_trades_to_be_imported():
    """k2_schemas is only looked for when something that may be a Trade is checked."""
    code = "import sys, k2_validation; assert 'k2_schemas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
