from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import narwhals.stable.v2 as nw
import polars as pl
import pyarrow as pa
import pytest

from k2_validation import (
    ColumnTypeError,
    MissingColumnError,
    Rule,
    RuleDefinitionError,
    RuleSet,
    equals,
    gt,
    not_after,
    not_before,
    one_of,
    present,
)

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "name", "message"),
    [
        (present("symbol"), "symbol_present", "symbol must be present"),
        (gt("price", 0), "price_gt_0", "price must be > 0"),
        (gt("price", Decimal("0.500")), "price_gt_0.5", "price must be > 0.5"),
        (gt("price", Decimal("1E+3")), "price_gt_1000", "price must be > 1000"),
        (gt("price", -0.0), "price_gt_0", "price must be > 0"),
        (
            one_of("side", "BUY", "SELL"),
            "side_one_of_BUY_SELL",
            "side must be one of BUY, SELL",
        ),
        (equals("schema_id", 2), "schema_id_equals_2", "schema_id must equal 2"),
        (
            not_after("t", "seen", timedelta(seconds=5)),
            "t_not_after_seen_plus_5s",
            "t must not be after seen + 5s",
        ),
        (not_after("t", "seen"), "t_not_after_seen", "t must not be after seen + 0s"),
        (
            not_before("t", "seen", timedelta(milliseconds=1500)),
            "t_not_before_seen_minus_1500ms",
            "t must not be before seen - 1500ms",
        ),
    ],
)
def test_names_and_messages_are_stable(rule: Rule, name: str, message: str):
    """A rule's name and message are the same text for the same meaning."""
    assert (rule.name, rule.message) == (name, message)


@pytest.mark.parametrize("missing", [None, float("nan"), Decimal("NaN"), Decimal("sNaN"), ""])
def test_present_refuses_null_nan_and_empty_text(missing: object):
    """NULL, NaN and empty text are absent values."""
    assert not present("x").holds({"x": missing})


@pytest.mark.parametrize("value", [0, " ", False, [], float("inf")])
def test_present_accepts_every_other_value(value: object):
    """Zero, blank text, False and empty lists are values."""
    assert present("x").holds({"x": value})


@pytest.mark.parametrize("value", [None, float("nan"), Decimal("NaN"), 0, Decimal("0E-8"), -1.5])
def test_gt_refuses_null_nan_and_the_bound_itself(value: object):
    """What is not above the bound, or not comparable with it, fails."""
    assert not gt("x", 0).holds({"x": value})


@pytest.mark.parametrize("value", [5e-324, Decimal("0.00000001"), 1, float("inf")])
def test_gt_accepts_the_smallest_step_above_the_bound(value: object):
    """The smallest float and the smallest decimal above zero pass, and infinity does."""
    assert gt("x", 0).holds({"x": value})


def test_float_bound_means_the_decimal_it_prints_as(engines):
    """gt(0.1) refuses a float 0.1 and a decimal 0.1 alike, in frames and in records."""
    rules = RuleSet("bound", [gt("f", 0.1), gt("d", 0.1)])
    table = pa.table({"f": [0.1, 0.2], "d": pa.array([Decimal("0.1"), Decimal("0.2")])})
    for engine in engines.values():
        rows = engine.rows(rules.tag(engine.load(table)))
        assert [row["k2_valid"] for row in rows] == [False, True]
    assert [bool(rules.check(row)) for row in table.to_pylist()] == [True, False]


@pytest.mark.parametrize(
    "dtype", [pa.int8(), pa.uint32(), pa.int64(), pa.float32(), pa.decimal128(21, 2)]
)
@pytest.mark.parametrize("bound", [0, Decimal("0.5"), 10**17, Decimal("-0.5")])
def test_gt_compares_every_width_with_every_bound(engines, dtype: pa.DataType, bound: Decimal):
    """Neither a narrow column nor a bound beyond it changes the verdict or stops the engine."""
    rules = RuleSet("width", [gt("x", bound)])
    table = pa.table({"x": pa.array([0, 1, None, 100]).cast(dtype)})
    expected = [not rules.check(row) for row in table.to_pylist()]
    for engine in engines.values():
        rows = engine.rows(rules.tag(engine.load(table)))
        assert [row["k2_valid"] for row in rows] == expected


@pytest.mark.parametrize(
    "column",
    [
        pl.Series(["BUY", "x", None, ""], dtype=pl.Categorical),
        pl.Series(["BUY", "x", None, ""], dtype=pl.Enum(["BUY", "x", ""])),
        pa.array(["BUY", "x", None, ""]).dictionary_encode(),
        pa.array(["BUY", "x", None, ""], pa.large_string()),
    ],
)
def test_text_rules_read_categories(column: object):
    """Categories, enums and dictionary columns are text."""
    rules = RuleSet("text", [one_of("side", "BUY", "SELL"), present("side")])
    frame = (
        pl.DataFrame({"side": column})
        if isinstance(column, pl.Series)
        else pa.table({"side": column})
    )
    tagged = nw.from_native(rules.tag(frame))
    assert tagged["k2_error_type"].to_list() == [None, "consistency", "consistency", "consistency"]


def test_one_of_compares_with_case():
    """buy is not BUY."""
    rule = one_of("side", "BUY", "SELL")
    assert rule.holds({"side": "BUY"})
    assert not rule.holds({"side": "buy"})


def test_integers_are_matched_as_integers(engines):
    """one_of and equals take integers, and a NULL is none of them."""
    rules = RuleSet("ids", [one_of("id", 1, 2), equals("id", 2)])
    table = pa.table({"id": pa.array([1, 2, None, 3], pa.int16())})
    for engine in engines.values():
        rows = engine.rows(rules.tag(engine.load(table)))
        assert [row["k2_valid"] for row in rows] == [False, True, False, False]


@pytest.mark.parametrize(
    ("offset", "is_valid"),
    [
        (timedelta(seconds=5), True),
        (timedelta(seconds=5, microseconds=1), False),
        (timedelta(days=-365), True),
        (timedelta(days=-365, microseconds=-1), False),
    ],
)
def test_time_limits_are_inclusive(offset: timedelta, is_valid: bool):
    """Exactly at the tolerance is valid, one microsecond beyond is not."""
    rules = [
        not_after("t", "seen", timedelta(seconds=5)),
        not_before("t", "seen", timedelta(days=365)),
    ]
    record = {"t": NOON + offset, "seen": NOON}
    assert all(rule.holds(record) for rule in rules) is is_valid


@pytest.mark.parametrize("missing", ["t", "seen"])
def test_time_rules_refuse_a_missing_time_on_either_side(missing: str):
    """A NULL in either column fails both time rules."""
    record = {"t": NOON, "seen": NOON, missing: None}
    assert not not_after("t", "seen").holds(record)
    assert not not_before("t", "seen").holds(record)


def test_time_rules_count_real_time_across_a_clock_change():
    """Two hours between clock faces in one zone can be three hours of time."""
    berlin = ZoneInfo("Europe/Berlin")
    before = datetime(2026, 10, 25, 1, 30, tzinfo=berlin)
    after = datetime(2026, 10, 25, 3, 30, tzinfo=berlin)
    record = {"t": after, "seen": before}
    assert not not_after("t", "seen", timedelta(hours=2)).holds(record)
    assert not_after("t", "seen", timedelta(hours=3)).holds(record)


def test_a_day_is_24_hours_on_every_engine(engines):
    """A tolerance in days does not stretch with the clock change of a column's zone."""
    rules = RuleSet("day", [not_after("t", "seen", timedelta(days=1))])
    seen = datetime(2026, 10, 24, 12, tzinfo=UTC)
    zoned = pa.timestamp("us", "Europe/Berlin")
    table = pa.table(
        {
            "t": pa.array([seen + timedelta(hours=24), seen + timedelta(hours=25)], zoned),
            "seen": pa.array([seen, seen], zoned),
        }
    )
    for engine in engines.values():
        rows = engine.rows(rules.tag(engine.load(table)))
        assert [row["k2_valid"] for row in rows] == [True, False]


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@pytest.mark.parametrize("other_unit", ["s", "ms", "us"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_columns_of_other_units_and_zones_compare(engines, unit: str, other_unit: str, zone: str):
    """Times are instants: neither unit nor zone of a column changes a verdict."""
    rules = RuleSet("units", [not_before("t", "seen", timedelta(microseconds=1_000_500))])
    table = pa.table(
        {
            "t": pa.array(
                [NOON - timedelta(seconds=1), NOON - timedelta(seconds=2)], pa.timestamp(unit, zone)
            ),
            "seen": pa.array([NOON, NOON], pa.timestamp(other_unit, "UTC")),
        }
    )
    for engine in engines.values():
        rows = engine.rows(rules.tag(engine.load(table)))
        assert [row["k2_valid"] for row in rows] == [True, False]


def test_a_tolerance_is_not_rounded_to_the_unit_of_the_column(engines):
    """In a column of milliseconds, 2 ms are more than 1.5 ms."""
    rules = RuleSet("round", [not_before("t", "seen", timedelta(microseconds=1_500))])
    milliseconds = pa.timestamp("ms", "UTC")
    times = [NOON - timedelta(milliseconds=1), NOON - timedelta(milliseconds=2)]
    table = pa.table(
        {"t": pa.array(times, milliseconds), "seen": pa.array([NOON, NOON], milliseconds)}
    )
    for engine in engines.values():
        rows = engine.rows(rules.tag(engine.load(table)))
        assert [row["k2_valid"] for row in rows] == [True, False]


def test_record_times_survive_the_ends_of_the_calendar():
    """The last instant of year 9999 is judged, not overflowed."""
    end = datetime.max.replace(tzinfo=UTC)
    start = datetime.min.replace(tzinfo=UTC)
    assert not_after("t", "seen", timedelta(seconds=5)).holds({"t": start, "seen": end})
    assert not not_before("t", "seen", timedelta(days=1)).holds({"t": start, "seen": end})


def test_a_missing_key_is_an_error_and_not_a_failed_row():
    """A record without the column stops with the rule, the column and what there is."""
    with pytest.raises(MissingColumnError, match="rename or add the column") as caught:
        gt("price", 0).holds({"prize": 1})
    error = caught.value
    assert (error.rule, error.column, error.found) == ("price_gt_0", "price", ("prize",))


@pytest.mark.parametrize(
    ("rule", "value"),
    [(gt("x", 0), "1.5"), (gt("x", 0), True), (one_of("x", "a"), 1), (equals("x", 1), "1")],
)
def test_a_value_of_another_type_is_an_error(rule: Rule, value: object):
    """Text is never read as a number, nor a number as text or a bool as either."""
    with pytest.raises(ColumnTypeError, match="convert the column") as caught:
        rule.holds({"x": value})
    assert caught.value.found == type(value).__name__


def test_times_with_and_without_zone_do_not_compare():
    """A naive time beside a zoned one is named as the wrong type."""
    with pytest.raises(ColumnTypeError, match="without zone") as caught:
        not_after("t", "seen").holds({"t": NOON, "seen": NOON.replace(tzinfo=None)})
    assert caught.value.column == "seen"


@pytest.mark.parametrize(
    "build",
    [
        lambda: gt("x", float("nan")),
        lambda: gt("x", float("inf")),
        lambda: gt("x", 10**18),
        lambda: gt("x", Decimal("1E-19")),
        lambda: gt("x", True),
        lambda: gt("x", "0"),
        lambda: one_of("x"),
        lambda: one_of("x", "a", 1),
        lambda: one_of("x", "a", "a"),
        lambda: equals("x", True),
        lambda: present(""),
        lambda: present("a; b"),
        lambda: present("x", error_type="typo"),
        lambda: not_after("x", "y", timedelta(seconds=-1)),
        lambda: not_before("x", "y", timedelta(days=40_000)),
        lambda: not_after("x", ""),
        lambda: Rule("x", "x", "approves", "range"),
        lambda: Rule("x", "x", "gt", "range"),
        lambda: Rule("x", "x", "present", "range", bound=Decimal(1)),
        lambda: Rule("x", "x", "equals", "range", values=("a", "b")),
    ],
)
def test_a_rule_that_means_nothing_cannot_be_built(build):
    """A wrong operand, name, operator or error type is refused when the rule is written."""
    with pytest.raises(RuleDefinitionError) as caught:
        build()
    assert caught.value.remedy in str(caught.value)
