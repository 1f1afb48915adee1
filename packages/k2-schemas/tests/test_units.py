"""Units: exact numbers from text, or a FieldError."""

import time
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from k2_schemas import FieldError, format_units, parse_units
from k2_schemas.units import MAX_UNITS, check_units, decimal_to_units, units_to_decimal

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


@given(decimal_texts(), st.integers(0, 18), st.integers(1, 40))
@settings(deadline=None, max_examples=400)
def test_any_scale_and_precision_is_as_exact(text: str, scale: int, precision: int):
    """The same holds for every decimal(precision, scale) that Avro allows."""
    precision = max(precision, scale)
    units = Decimal(text).scaleb(scale)
    if units == units.to_integral_value() and abs(units) < 10**precision:
        assert parse_units("f", text, scale, precision) == int(units)
        assert Decimal(format_units(int(units), scale)) == Decimal(text)
        if units:
            assert decimal_to_units("f", Decimal(text), scale, precision) == int(units)
    else:
        with pytest.raises(FieldError):
            parse_units("f", text, scale, precision)
        with pytest.raises(FieldError):
            decimal_to_units("f", Decimal(text), scale, precision)


@pytest.mark.parametrize(
    "value", [Decimal("1E+999999999"), Decimal("-1E+999999999"), Decimal("1E-999999999")]
)
def test_a_decimal_of_a_billion_zeros_is_refused_at_once(value: Decimal):
    """It takes a few bytes to say, and must not be written out to be refused."""
    with pytest.raises(FieldError):
        decimal_to_units("price", value)


def test_zero_is_zero_at_any_exponent():
    """0E+999999 is nothing, exactly."""
    assert decimal_to_units("price", Decimal("0E+999999")) == 0
    assert decimal_to_units("price", Decimal("-0.0")) == 0


@given(st.integers(-MAX_UNITS, MAX_UNITS))
@settings(deadline=None, max_examples=200)
def test_text_of_units_is_the_decimals(units: int):
    """format_units writes what the Decimal is, with 8 fraction digits and no exponent."""
    assert format_units(units) == format(units_to_decimal(units), "f")
    assert parse_units("price", format_units(units)) == units


def test_units_beyond_the_precision_are_refused():
    """The bound is the contract's."""
    assert check_units("price", "x", MAX_UNITS) == MAX_UNITS
    with pytest.raises(FieldError, match="at most 10 whole and 8 fraction digits"):
        check_units("price", "x", MAX_UNITS + 1)
