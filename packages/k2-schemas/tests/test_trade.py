"""Trade: exact numbers from text, and the identity of a trade."""

import time
import uuid
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from k2_schemas import FieldError, derive_message_id, parse_units
from k2_schemas.testing import make_trade
from k2_schemas.trade import (
    MAX_UNITS,
    MESSAGE_ID_NAMESPACE,
    decimal_to_units,
    units_to_decimal,
)

DIGITS = st.text("0123456789", max_size=14)


@st.composite
def decimal_texts(draw: st.DrawFn) -> str:
    """Signs, leading and trailing zeros, with and without point and exponent."""
    whole = draw(DIGITS)
    fraction = draw(DIGITS)
    point = "." if fraction else draw(st.sampled_from(["", "."]))
    digits = f"{whole}{point}{fraction}" if whole or fraction else "0"
    exponent = draw(st.one_of(st.just(""), st.integers(-25, 25).map("e{}".format)))
    return draw(st.sampled_from(["", "+", "-"])) + digits + exponent


@given(decimal_texts())
@settings(deadline=None, max_examples=400)
def test_decimal_texts_are_exact_or_refused(text: str):
    """A text becomes its own value in units of 1e-8, and is refused exactly when V2 cannot."""
    units = Decimal(text).scaleb(8)
    holds = units == units.to_integral_value() and abs(units) <= MAX_UNITS
    if holds:
        assert int(units) == parse_units("price", text)
    else:
        with pytest.raises(FieldError):
            parse_units("price", text)


@given(st.text(max_size=30))
@example("\ud800")
@settings(deadline=None, max_examples=300)
def test_any_text_is_a_number_or_a_field_error(text: str):
    """Whatever an exchange sends, nothing but a field error escapes."""
    try:
        units = parse_units("quantity", text)
    except FieldError:
        return
    assert units_to_decimal(units) == Decimal(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("-0", 0),
        ("0.00000001", 1),
        ("61837.63000000", 6_183_763_000_000),
        ("9999999999.99999999", MAX_UNITS),
        ("-9999999999.99999999", -MAX_UNITS),
        ("0000000001.5", 150_000_000),
        ("1.", 100_000_000),
        (".5", 50_000_000),
        ("0.123456780000", 12_345_678),
        ("1e-8", 1),
        ("1E+2", 10_000_000_000),
        ("0e999", 0),
        ("9.99999999999999999e9", MAX_UNITS),
    ],
)
def test_what_v2_can_hold_is_taken(text: str, expected: int):
    """Every edge of decimal(18,8) belongs to it."""
    assert parse_units("price", text) == expected


@pytest.mark.parametrize(
    "text",
    ["10000000000", "95000000000", "1e10", "-10000000000", "1e11", "1e999", "9999999999.999999995"],
)
def test_more_than_ten_whole_digits_are_refused(text: str):
    """A value beyond decimal(18,8) is never wrapped or cut."""
    with pytest.raises(FieldError):
        parse_units("price", text)


@pytest.mark.parametrize("text", ["0.123456789", "1e-9", "-0.000000001", "12e-10"])
def test_a_ninth_fraction_digit_is_refused(text: str):
    """Nothing is rounded."""
    with pytest.raises(FieldError, match="more than 8 fraction digits"):
        parse_units("price", text)


@pytest.mark.parametrize(
    "text",
    [
        *["", ".", "-", "+", "e5", "nan", "inf", "-Infinity", "1_0", "1e999999", "1e", "0x10"],
        *["1,5", "1 ", " 1", "1\n", "1.2.3", "--1", "١٢", "\uff11", "²", "1.²", "null", "1e1.5"],
    ],
)
def test_what_is_no_decimal_number_is_refused(text: str):
    """Python's own Decimal and int take some of these; the contract does not."""
    with pytest.raises(FieldError, match="not a decimal number"):
        parse_units("price", text)


@pytest.mark.parametrize(
    "text",
    ["9" * 2_000_000, "-" + "9" * 2_000_000, "1." + "1" * 2_000_000, "1e" + "9" * 2_000_000],
    ids=["whole", "negative", "fraction", "exponent"],
)
def test_a_megabyte_of_digits_is_refused_at_once(text: str):
    """A hostile frame must not buy a bignum: converting these would take minutes."""
    began = time.process_time()
    with pytest.raises(FieldError) as caught:
        parse_units("price", text)

    assert time.process_time() - began < 1
    assert len(str(caught.value)) < 300


def test_a_megabyte_of_trailing_zeros_is_still_exact():
    """Zeros beyond the eighth digit say nothing."""
    assert parse_units("price", "1.5" + "0" * 1_000_000) == 150_000_000


@given(st.integers(-(10**30), 10**30))
@settings(deadline=None, max_examples=200)
def test_units_and_decimals_are_the_same_value(units: int):
    """units_to_decimal is exact at any size, beyond the decimal context's precision."""
    assert units_to_decimal(units) == Decimal(f"{units}e-8")
    assert units_to_decimal(units).as_tuple().exponent == -8


@given(st.integers(-MAX_UNITS, MAX_UNITS))
@settings(deadline=None, max_examples=200)
def test_decimals_come_back_as_the_units_they_were(units: int):
    """The way back loses nothing."""
    assert decimal_to_units("price", units_to_decimal(units)) == units


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), 1.5, "1.5", None])
def test_only_finite_decimals_become_units(value: object):
    """A float is never silently taken for a Decimal."""
    with pytest.raises(FieldError, match="not a finite Decimal"):
        decimal_to_units("price", value)  # type: ignore[arg-type]


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=30))
@settings(deadline=None, max_examples=200)
def test_message_ids_are_uuid5(exchange: str, pair: str, trade_id: str):
    """The hand-made id is the standard library's UUIDv5, letter for letter."""
    expected = uuid.uuid5(MESSAGE_ID_NAMESPACE, f"{exchange}|{pair}|{trade_id}")

    assert derive_message_id(exchange, pair, trade_id) == str(expected)


def test_equal_trades_have_equal_ids():
    """Who sends it, when it arrives and what else is known do not change a trade's identity."""
    first = make_trade(7)
    again = make_trade(7, price="1", quantity="2", side="BUY", timestamp_us=1)

    assert first.message_id == again.message_id


def test_different_trades_have_different_ids():
    """Exchange, pair and trade id each tell trades apart."""
    ids = {
        make_trade(7).message_id,
        make_trade(8).message_id,
        make_trade(7, exchange="KRAKEN").message_id,
        make_trade(7, pair="ETHUSDT").message_id,
    }

    assert len(ids) == 4


def test_the_id_of_a_known_trade_never_changes():
    """Another namespace or form would give every stored trade a second identity."""
    assert make_trade(3_735_683_259).message_id == "ea3f6f07-a4f9-50ef-a49e-dfd2af51e7fa"


def test_price_quantity_and_pair_are_read_from_the_fields():
    """The properties show what the integers hold, with 8 fraction digits."""
    trade = make_trade(price="61837.63", quantity="0.02")

    assert (str(trade.price), str(trade.quantity)) == ("61837.63000000", "0.02000000")
    assert trade.pair == "BTCUSDT"
