from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_validation import (
    ColumnTypeError,
    MissingColumnError,
    Row,
    RuleDefinitionError,
    RuleSet,
    Term,
    rule,
)


@rule(error_type="consistency")
def spread_is_narrow(row: Row) -> Term:
    """The ask is at most one percent above the bid."""
    return (row.ask - row.bid) * 100 <= row.bid


@rule(severity="flag")
def value_agrees(row: Row) -> Term:
    """Price times quantity is the value, to a millionth."""
    return abs(row.price * row.quantity - row.value) <= abs(row.value) * 1e-6


@rule()
def maker_or_seller(row: Row) -> Term:
    """It was a maker's, or a sale, or nobody knows."""
    return row.maker | (row.side == "SELL") | row.maker.is_null() & ~row.side.is_null()


@rule(error_type="timeliness")
def settled_in_time(row: Row) -> Term:
    """Settled within a day, and not before the trade."""
    return (row.settled <= row.traded + timedelta(days=1)) & (row.settled >= row.traded)


@rule()
def notional_is_enough(row: Row) -> Term:
    """Bid times count, as floats, is at least five."""
    return row.bid.as_float() * row["count"].as_float() >= 5


RULES = RuleSet(
    "custom",
    [spread_is_narrow, value_agrees, maker_or_seller, settled_in_time, notional_is_enough],
)

EXACT = st.none() | st.integers(-(10**8), 10**8).map(lambda n: Decimal(n).scaleb(-8))
WIDE = st.none() | st.integers(-(10**18) + 1, 10**18 - 1).map(lambda n: Decimal(n).scaleb(-8))
FLOATS = st.none() | st.floats() | st.sampled_from([0.0, -0.0, 1.0, 1e200])
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TIMES = st.none() | st.sampled_from(
    [NOON, NOON + timedelta(days=1), NOON + timedelta(days=1, microseconds=1)]
)
SCHEMA = pa.schema(
    {
        "row": pa.int64(),
        "ask": pa.decimal128(18, 8),
        "bid": pa.decimal128(18, 8),
        "price": pa.float64(),
        "quantity": pa.float64(),
        "value": pa.float64(),
        "maker": pa.bool_(),
        "side": pa.string(),
        "settled": pa.timestamp("us", "UTC"),
        "traded": pa.timestamp("us", "UTC"),
        "count": pa.int32(),
    }
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "ask": WIDE | EXACT,
            "bid": EXACT,
            "price": FLOATS,
            "quantity": FLOATS,
            "value": FLOATS,
            "maker": st.none() | st.booleans(),
            "side": st.sampled_from([None, "SELL", "BUY"]),
            "settled": TIMES,
            "traded": TIMES,
            "count": st.none() | st.integers(-9, 9),
        }
    ),
    max_size=6,
)


@settings(max_examples=80, deadline=None)
@given(rows=ROWS)
def test_one_function_judges_frames_and_records_alike(engines, rows):
    """Sums, products, conditions and times: the same verdict on all engines and in Python."""
    table = pa.Table.from_pylist([row | {"row": n} for n, row in enumerate(rows)], SCHEMA)
    expected = [
        (
            "; ".join(str(f) for f in RULES.check(row) if f.severity == "reject") or None,
            "; ".join(str(f) for f in RULES.check(row) if f.severity == "flag") or None,
        )
        for row in table.to_pylist()
    ]
    for name, engine in engines.items():
        found = sorted(engine.rows(RULES.tag(engine.load(table))), key=lambda row: row["row"])
        assert [(r["k2_error_reason"], r["k2_flag_reason"]) for r in found] == expected, name


def test_a_custom_rule_has_name_sentence_and_columns():
    """The function's name, its docstring's first line, and what it reads."""
    assert spread_is_narrow.name == "spread_is_narrow"
    assert spread_is_narrow.message == "The ask is at most one percent above the bid"
    assert spread_is_narrow.columns == ("ask", "bid")
    (failure,) = RuleSet("one", [spread_is_narrow]).check({"ask": Decimal(2), "bid": Decimal(1)})
    assert str(failure) == (
        "spread_is_narrow: The ask is at most one percent above the bid, found ask=2, bid=1"
    )


def test_the_fingerprint_follows_the_condition_not_the_source():
    """Written in another way, the same; another bound, another."""

    def define(bound: object) -> RuleSet:
        @rule(name="near")
        def anything(row: Row) -> Term:
            """Near."""
            return abs(row.x) <= bound

        return RuleSet("a", [anything])

    assert define(1).fingerprint == define(1.0).fingerprint == define(Decimal("1.00")).fingerprint
    assert define(1).fingerprint != define(2).fingerprint


SIZED = {"ask": pl.Decimal(18, 8), "bid": pl.Decimal(18, 8)}
GOOD = {
    "ask": [Decimal(2)],
    "bid": [Decimal(1)],
    "price": [1.0],
    "quantity": [1.0],
    "value": [1.0],
    "maker": [True],
    "side": ["SELL"],
    "settled": [NOON],
    "traded": [NOON],
    "count": [1],
}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("ask", ["2"]),
        ("ask", [2.0]),
        ("maker", [1]),
        ("side", [1]),
        ("settled", [NOON.replace(tzinfo=None)]),
        ("price", [Decimal(1)]),
    ],
)
def test_a_wrong_type_is_an_error_at_bind_and_in_a_record(column: str, values: list[object]):
    """Before a row is read, naming the rule, its columns, what was found and what is wanted."""
    RULES.bind(pl.DataFrame(GOOD, schema_overrides=SIZED))
    bad = pl.DataFrame(
        GOOD | {column: values},
        schema_overrides={name: dtype for name, dtype in SIZED.items() if name != column},
    )
    with pytest.raises(ColumnTypeError) as caught:
        RULES.bind(bad)
    assert column in caught.value.column
    assert caught.value.rule in {rule.name for rule in RULES.rules}
    with pytest.raises(ColumnTypeError, match=caught.value.rule):
        RULES.check(bad.to_dicts()[0])


def test_a_missing_column_is_an_error_at_bind_and_in_a_record():
    """Never a rule that is skipped."""
    frame = pl.DataFrame(GOOD, schema_overrides=SIZED).drop("bid")
    with pytest.raises(MissingColumnError, match="bid"):
        RULES.bind(frame)
    with pytest.raises(MissingColumnError, match="bid"):
        RULES.check(frame.to_dicts()[0])


def test_products_of_decimals_are_refused_with_the_way_out():
    """Engines round them differently, so the rule must say that floats will do."""

    @rule()
    def notional(row: Row) -> Term:
        """The product is above five."""
        return row.ask * row.bid > 5

    with pytest.raises(ColumnTypeError, match="as_float"):
        RuleSet("product", [notional]).bind(pl.DataFrame(GOOD, schema_overrides=SIZED))


@pytest.mark.parametrize(
    "function",
    [
        lambda row: row.a if row.a > 0 else row.b > 0,
        lambda row: 0 < row.a < 5,
        lambda row: row.a > 0 and row.b > 0,
        lambda row: row.a > float("nan"),
        lambda row: row.a > 10**18,
        lambda row: row.a == None,  # noqa: E711
        lambda row: row.a > NOON,
        lambda row: row.a.is_in(),
        lambda row: True,
    ],
)
def test_a_function_that_is_no_condition_is_refused(function):
    """Python's own control flow cannot be written down, so it is an error where it stands."""
    function.__doc__ = "Says something."
    with pytest.raises(RuleDefinitionError) as caught:
        rule(name="broken")(function)
    assert caught.value.remedy in str(caught.value)


def test_a_rule_without_a_sentence_is_refused():
    """Whoever reads a dead letter needs words."""
    with pytest.raises(RuleDefinitionError, match="docstring"):
        rule(name="mute")(lambda row: row.a > 0)
