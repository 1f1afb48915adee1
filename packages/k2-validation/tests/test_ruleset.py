import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import narwhals.stable.v2 as nw
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_validation import (
    BindError,
    ColumnCollisionError,
    ColumnTypeError,
    MissingColumnError,
    Row,
    Rule,
    RuleDefinitionError,
    RuleSet,
    Split,
    Term,
    UnsupportedFrameError,
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
from k2_validation.judge import Judge
from k2_validation.verdict import TAG_COLUMNS


@rule(error_type="timeliness", severity="flag")
def not_after_arrival_twice(row: Row) -> Term:
    """The time is at most two seconds after the arrival, or there is no arrival."""
    return row.arrival.is_null() | (row.timestamp - timedelta(seconds=2) <= row.arrival)


@rule(severity="flag")
def sold_with_a_symbol(row: Row) -> Term:
    """A sale has a symbol that is neither empty nor long."""
    return ~(row.side == "SELL") | ((row.symbol.length() > 0) & (row.symbol != "xyz"))


@rule()
def count_is_small(row: Row) -> Term:
    """Three times the count, less five, is not far from zero."""
    return abs(3 * row["count"] - 5) <= Decimal("30.5") + row["count"]


RULES = RuleSet(
    "every_operator",
    [
        gt("price", 0),
        present("price"),
        present("symbol"),
        one_of("side", "BUY", "SELL"),
        not_after("timestamp", "arrival", timedelta(seconds=5)),
        not_before("timestamp", "arrival", timedelta(days=365)),
        equals("symbol", "BTC/USDT", severity="flag"),
        matches("symbol", "[A-Z0-9]{2,9}/[A-Z]+"),
        ge("price", Decimal("0.00000001"), severity="flag"),
        lt("price", 10**17, name="price_sane"),
        le("count", 10),
        between("count", Decimal("-0.5"), 2.5, severity="flag"),
        one_of("count", 1, 2, 3, 4, 5, severity="flag"),
        not_after_arrival_twice,
        sold_with_a_symbol,
        count_is_small,
    ],
)

ARRIVAL = datetime(2026, 11, 23, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
TIMES = st.none() | st.sampled_from(
    [
        ARRIVAL,
        ARRIVAL + timedelta(seconds=5),
        ARRIVAL + timedelta(seconds=5) + TICK,
        ARRIVAL - timedelta(days=365),
        ARRIVAL - timedelta(days=365) - TICK,
        datetime(1970, 1, 1, tzinfo=UTC) - TICK,
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ]
)
FLOATS = st.none() | st.floats() | st.sampled_from([0.0, -0.0, 5e-324, math.nan, math.inf])
DECIMALS = st.none() | st.integers(-(10**18) + 1, 10**18 - 1).map(
    lambda units: Decimal(units).scaleb(-8)
)
PRICES = {pa.float64(): FLOATS, pa.decimal128(18, 8): DECIMALS}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Tables of 0 to 8 rows in which every column may be NULL or at the edge of a rule."""
    price_type = draw(st.sampled_from(list(PRICES)))
    rows = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "price": PRICES[price_type],
                    "symbol": st.none() | st.sampled_from(["", "BTC/USDT"]) | st.text(max_size=3),
                    "count": st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-20, 20),
                    "side": st.sampled_from([None, "BUY", "SELL", "buy", ""]),
                    "timestamp": TIMES,
                    "arrival": st.just(ARRIVAL) | TIMES,
                }
            ),
            max_size=8,
        )
    )
    time_type = pa.timestamp("us", "UTC")
    schema = pa.schema(
        {
            "row": pa.int64(),
            "price": price_type,
            "symbol": pa.string(),
            "count": pa.int64(),
            "side": pa.string(),
            "timestamp": time_type,
            "arrival": time_type,
        }
    )
    return pa.Table.from_pylist([row | {"row": i} for i, row in enumerate(rows)], schema)


def verdicts_of_records(rules: RuleSet, table: pa.Table) -> list[tuple[object, ...]]:
    """What tag must say of each row, by way of check."""
    verdicts = []
    for record in table.to_pylist():
        found = rules.check(record)
        dead = [failure for failure in found if failure.severity == "reject"]
        flags = [failure for failure in found if failure.severity == "flag"]
        verdicts.append(
            (
                not dead,
                "; ".join(failure.rule for failure in dead) or None,
                "; ".join(map(str, dead)) or None,
                dead[0].error_type if dead else None,
                "; ".join(failure.rule for failure in flags) or None,
                "; ".join(map(str, flags)) or None,
            )
        )
    return verdicts


def assert_conserved(split: Split[pa.Table], table: pa.Table) -> None:
    """Every input row is in exactly one half."""
    rows = split.valid["row"].to_pylist() + split.dead["row"].to_pylist()
    assert sorted(rows) == table["row"].to_pylist()


@settings(max_examples=60, deadline=None)
@given(table=tables())
def test_every_engine_gives_the_verdict_of_the_records(engines, table: pa.Table):
    """Verdict, reasons and type are identical on all engines and on Python records."""
    expected = verdicts_of_records(RULES, table)
    for name, engine in engines.items():
        tagged = engine.rows(RULES.tag(engine.load(table)))
        tagged.sort(key=lambda row: row["row"])
        found = [tuple(row[column] for column in TAG_COLUMNS) for row in tagged]
        assert found == expected, name


@settings(max_examples=40, deadline=None)
@given(table=tables())
def test_split_loses_and_doubles_no_row(engines, table: pa.Table):
    """On every engine each input row is in exactly one half, and in the half that check says."""
    expected = [verdict[0] for verdict in verdicts_of_records(RULES, table)]
    for name, engine in engines.items():
        valid, dead = map(engine.rows, RULES.split(engine.load(table)))
        halves = {row["row"]: True for row in valid} | {row["row"]: False for row in dead}
        assert len(valid) + len(dead) == len(table), name
        assert [halves[row] for row in range(len(table))] == expected, name


NULLS = pa.table(
    {
        "row": [0, 1, 2, 3, 4],
        "price": [1.0, None, math.nan, 0.0, 2.0],
        "side": ["BUY", None, "SELL", "BUY", "x"],
    }
)
NULL_RULES = RuleSet("nulls", [gt("price", 0), one_of("side", "BUY", "SELL")])


def test_the_naive_split_loses_what_ours_keeps():
    """filter(rule) and filter(~rule) drop the NULL rows of a frame that split conserves."""
    frame = nw.from_native(NULLS)
    rule = nw.all_horizontal(
        nw.col("price") > 0, nw.col("side").is_in(["BUY", "SELL"]), ignore_nulls=False
    )
    naive = Split(frame.filter(rule).to_native(), frame.filter(~rule).to_native())
    assert len(naive.valid) + len(naive.dead) < len(NULLS)
    assert_conserved(NULL_RULES.split(NULLS), NULLS)


def test_conservation_fails_without_the_null_guard(monkeypatch: pytest.MonkeyPatch):
    """The conservation check is able to fail: unguarded verdicts lose rows."""

    def unguarded(judge: Judge, rules: Sequence[Rule]) -> nw.Expr:
        return nw.all_horizontal(*(r.verdict(judge.schema) for r in rules), ignore_nulls=False)

    monkeypatch.setattr(Judge, "all_hold", unguarded)
    with pytest.raises(AssertionError):
        assert_conserved(NULL_RULES.split(NULLS), NULLS)


def test_dead_rows_say_why(engines):
    """Dead rows carry all reasons in declared order, the first type, and the fingerprint."""
    for engine in engines.values():
        valid, dead = map(engine.rows, NULL_RULES.split(engine.load(NULLS)))
        assert valid == [{"row": 0, "price": 1.0, "side": "BUY"}]
        assert dead[0] == {
            "row": 1,
            "price": None,
            "side": None,
            "failed_rules": "price_gt_0; side_one_of_BUY_SELL",
            "error_reason": "price_gt_0: price must be > 0, found NULL; "
            "side_one_of_BUY_SELL: side must be one of BUY, SELL, found NULL",
            "error_type": "range",
            "rules_fingerprint": NULL_RULES.fingerprint,
        }
        assert [row["error_type"] for row in dead] == ["range", "range", "range", "consistency"]


def test_frames_keep_their_type(engines):
    """Whatever goes in comes out: eager stays eager, lazy stays lazy."""
    for engine in engines.values():
        frame = engine.load(NULLS)
        assert type(NULL_RULES.tag(frame)) is type(frame)
        assert {type(half) for half in NULL_RULES.split(frame)} == {type(frame)}


@pytest.mark.parametrize("rows", [0, 1])
def test_columns_and_types_do_not_depend_on_the_rows(engines, rows: int):
    """Empty and clean frames get the same columns, reasons as text."""
    table = NULLS.slice(0, rows)
    for engine in engines.values():
        schema = nw.from_native(NULL_RULES.tag(engine.load(table))).collect_schema()
        assert list(schema) == [*NULLS.column_names, *TAG_COLUMNS]
        assert list(schema.values())[3:] == [nw.Boolean, *[nw.String] * 5]


def test_input_columns_are_unchanged():
    """Reading NaN as NULL happens in the verdict only; the row keeps its NaN."""
    dead = NULL_RULES.split(pl.DataFrame(NULLS.to_pydict())).dead
    assert math.isnan(dead["price"][1])


def test_a_missing_column_is_named(engines):
    """bind, tag and split stop on a frame without the column, naming rule and column."""
    for engine in engines.values():
        frame = engine.load(NULLS.drop_columns("side"))
        for use in (NULL_RULES.bind, NULL_RULES.tag, NULL_RULES.split):
            with pytest.raises(MissingColumnError) as caught:
                use(frame)
            assert (caught.value.rule, caught.value.column) == ("side_one_of_BUY_SELL", "side")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("price", ["1.5"]),
        ("symbol", [1]),
        ("timestamp", [ARRIVAL.date()]),
        ("timestamp", [ARRIVAL.replace(tzinfo=None)]),
        ("price", pa.array([1], pa.uint64())),
    ],
)
def test_a_column_of_another_type_is_named(column: str, values: object):
    """Text prices, integer symbols, dates and naive times are refused before a row is read."""
    good = {
        "price": [1.5],
        "symbol": ["a"],
        "count": [1],
        "side": ["BUY"],
        "timestamp": [ARRIVAL],
        "arrival": [ARRIVAL],
    }
    RULES.bind(pa.table(good))
    with pytest.raises(ColumnTypeError) as caught:
        RULES.bind(pa.table(good | {column: values}))
    assert caught.value.column == column
    assert caught.value.found in str(caught.value)
    assert caught.value.wanted in str(caught.value)


@pytest.mark.parametrize("column", ["k2_valid", "K2_Error_Reason", "k2_error_type", "k2_rule_0"])
def test_tag_never_overwrites_a_column(column: str):
    """A column of a name that tag adds is refused, in any case."""
    with pytest.raises(ColumnCollisionError, match=column):
        NULL_RULES.tag(NULLS.append_column(column, pa.nulls(5)))


def test_split_never_overwrites_a_column():
    """Names of the dead-letter table are refused by split, and free for tag."""
    taken = NULLS.append_column("error_reason", pa.nulls(5, pa.string()))
    with pytest.raises(ColumnCollisionError, match="error_reason"):
        NULL_RULES.split(taken)
    assert NULL_RULES.tag(taken).num_rows == 5


@pytest.mark.parametrize("not_a_frame", [{"price": 1}, [1], pl.Series([1]), None])
def test_only_frames_are_bound(not_a_frame: object):
    """A record, list or series is refused with the engines that are supported."""
    with pytest.raises(UnsupportedFrameError, match="polars, pyarrow, duckdb") as caught:
        NULL_RULES.tag(not_a_frame)
    assert isinstance(caught.value, BindError)


def test_check_returns_failures_in_declared_order():
    """A record's failures are data: rule, column, type and message."""
    failures = NULL_RULES.check({"price": -1, "side": "x"})
    assert [failure.rule for failure in failures] == ["price_gt_0", "side_one_of_BUY_SELL"]
    assert failures[0].column == "price"
    assert failures[0].error_type == "range"
    assert str(failures[0]) == "price_gt_0: price must be > 0, found -1"
    assert NULL_RULES.check({"price": 1, "side": "BUY"}) == ()


def test_fingerprint_is_that_of_the_meaning():
    """Bounds that are equal numbers are the same rule set, written in any way."""
    written = [RuleSet("a", [gt("x", bound)]) for bound in (1, 1.0, Decimal("1.00"))]
    assert len({rules.fingerprint for rules in written}) == 1
    assert len(written[0].fingerprint) == 64


def test_fingerprint_changes_with_any_meaning():
    """Name, bound, order, tolerance, error type and values all count."""
    sets = [
        RuleSet("a", [gt("x", 1), present("y")]),
        RuleSet("b", [gt("x", 1), present("y")]),
        RuleSet("a", [present("y"), gt("x", 1)]),
        RuleSet("a", [gt("x", 2), present("y")]),
        RuleSet("a", [gt("x", 1, error_type="schema"), present("y")]),
        RuleSet("a", [one_of("x", "1")]),
        RuleSet("a", [one_of("x", 1)]),
        RuleSet("a", [not_after("x", "y", timedelta(seconds=1))]),
        RuleSet("a", [not_after("x", "y", timedelta(seconds=2))]),
    ]
    assert len({rules.fingerprint for rules in sets}) == len(sets)


@pytest.mark.parametrize(("name", "rules"), [("a", []), ("", [present("x")])])
def test_a_rule_set_has_a_name_and_rules(name: str, rules: list[Rule]):
    """Without rules every row would be valid, so that is refused."""
    with pytest.raises(RuleDefinitionError):
        RuleSet(name, rules)


def test_rule_names_are_unique():
    """Two rules of one name could not be told apart in a reason."""
    with pytest.raises(RuleDefinitionError, match="x_present"):
        RuleSet("a", [present("x"), present("x")])
