import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_validation import RuleSet, gt, matches, not_before
from k2_validation.value_text import write_value

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)

EDGES = [0.0, -0.0, 5e-324, 0.1, 0.29, -1e-7, 5e-7, 999999999999.9999, 1e12, -1e12, math.inf]
FLOATS = st.none() | st.floats() | st.floats(-10, 10) | st.sampled_from([*EDGES, -math.inf])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NULL"),
        (math.nan, "NaN"),
        (Decimal("NaN"), "NaN"),
        (-math.inf, "-inf"),
        (-0.0, "0"),
        (0.29, "0.29"),
        (-1.5, "-1.5"),
        (1e300, "1e12 or more"),
        (Decimal("-1.50000000"), "-1.5"),
        (Decimal("1E-8"), "0.00000001"),
        (Decimal("1E+3"), "1000"),
        (2**63, "9223372036854775808"),
        (True, "true"),
        ("", "''"),
        ("a'; b", "'a'; b'"),
        ("x" * 65, f"'{'x' * 64}…'"),
        (NOON, "2026-11-23T12:00:00.000000Z"),
        (NOON.astimezone(timezone(timedelta(hours=9))), "2026-11-23T12:00:00.000000Z"),
        (NOON.replace(tzinfo=None), "2026-11-23T12:00:00.000000"),
        ([1], "a value"),
    ],
)
def test_values_have_one_text(value: object, text: str):
    """Plain digits, quoted and cut text, times in UTC."""
    assert write_value(value) == text


DECIMALS = {
    pa.decimal128(18, 8): 8,
    pa.decimal128(38, 18): 18,
    pa.decimal128(5, 0): 0,
}
LATE = datetime(9999, 1, 1, tzinfo=UTC)
RULES = RuleSet(
    "texts",
    [
        gt("f", 10**17),
        gt("d", 10**17),
        gt("i", 10**17),
        matches("s", "never", name="s_fits"),
        not_before("t", "u"),
        not_before("naive", "other"),
    ],
)


@settings(max_examples=120, deadline=None)
@given(data=st.data(), decimal_type=st.sampled_from(list(DECIMALS)))
def test_every_engine_writes_the_same_text(engines, data, decimal_type):
    """Floats, decimals of any scale, integers, text and times, in reasons of every engine."""
    scale = DECIMALS[decimal_type]
    units = st.integers(-(10**5) + 1, 10**5 - 1)
    times = st.none() | st.datetimes(datetime(1, 1, 2), datetime(9998, 1, 1))
    row = {
        "f": data.draw(FLOATS),
        "d": data.draw(st.none() | units.map(lambda n: Decimal(n).scaleb(-scale))),
        "i": data.draw(st.none() | st.integers(-(2**63), 10**17)),
        "s": data.draw(
            st.none()
            | st.text(max_size=3)
            | st.just("a\0b")
            | st.just("é" * 64)
            | st.just("😀" * 65)
        ),
        "t": data.draw(times.map(lambda time: time and time.replace(tzinfo=UTC))),
        "u": LATE,
        "naive": data.draw(times),
        "other": LATE.replace(tzinfo=None),
    }
    schema = pa.schema(
        {
            "f": pa.float64(),
            "d": decimal_type,
            "i": pa.int64(),
            "s": pa.string(),
            "t": pa.timestamp("us", "UTC"),
            "u": pa.timestamp("us", "UTC"),
            "naive": pa.timestamp("us"),
            "other": pa.timestamp("us"),
        }
    )
    table = pa.Table.from_pylist([row], schema)
    expected = "; ".join(map(str, RULES.check(row)))
    for name, engine in engines.items():
        assert engine.rows(RULES.tag(engine.load(table)))[0]["k2_error_reason"] == expected, name
        dead = engine.rows(RULES.split(engine.load(table)).dead)
        assert dead[0]["error_reason"] == expected, name
