"""Operations: every built-in rule as one row, the same test as an expression and in Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import narwhals.stable.v2 as nw
from narwhals.stable.v2.dtypes import DType

from .column_kind import ANYTHING, INTEGER, NUMBER, TEXT, TIME, ColumnKind
from .condition import OPERATORS
from .pattern import anchor, check_pattern
from .readers import move_time, read_column, read_zone, to_micros
from .value_text import write_number

if TYPE_CHECKING:
    from .rule import Rule

Operator = Literal[
    "present",
    "gt",
    "ge",
    "lt",
    "le",
    "between",
    "one_of",
    "equals",
    "matches",
    "not_after",
    "not_before",
    "custom",
]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator: the same test as an expression, as Python and as text.

    `operands` are the rule's fields that must be given. `expression` may be NULL where `predicate`
    would not be asked: it never sees a NULL or NaN.
    """

    operands: frozenset[str]
    kind: Callable[[Rule], ColumnKind]
    expression: Callable[[Rule, Mapping[str, DType]], nw.Expr]
    predicate: Callable[..., bool]
    demand: Callable[[Rule], str]


def compare_column(name: str, dtype: DType, symbol: str, bound: Decimal) -> nw.Expr:
    """Return `column symbol bound`, compared as the column's own type: floats as 64-bit floats."""
    compare, column = OPERATORS[symbol], read_column(name, dtype)
    if dtype.is_float():
        return compare(column, float(bound))  # type: ignore[no-any-return]
    if dtype.is_decimal():
        return compare(column, nw.lit(bound))  # type: ignore[no-any-return]
    # For a whole number, above 0.5 is above 0; so integers compare with integers.
    rounding = ROUND_FLOOR if symbol in (">", "<=") else ROUND_CEILING
    return compare(column, int(bound.to_integral_value(rounding)))  # type: ignore[no-any-return]


def compare_number(value: int | float | Decimal, symbol: str, bound: Decimal) -> bool:
    """Return `value symbol bound` as `compare_column` would."""
    other = float(bound) if isinstance(value, float) else bound
    return bool(OPERATORS[symbol](value, other))


@lru_cache(maxsize=256)
def _compile_pattern(pattern: str) -> Callable[[str], object]:
    return check_pattern("matches", pattern).fullmatch


def _is_present(rule: Rule, schema: Mapping[str, DType]) -> nw.Expr:
    dtype = schema[rule.column]
    column = read_column(rule.column, dtype)
    return column != "" if TEXT.fits_type(dtype) else ~column.is_null()


def _is_between(rule: Rule, schema: Mapping[str, DType]) -> nw.Expr:
    dtype = schema[rule.column]
    return compare_column(rule.column, dtype, ">=", bound_of(rule)) & compare_column(
        rule.column, dtype, "<=", upper_of(rule)
    )


def _is_among(rule: Rule, schema: Mapping[str, DType]) -> nw.Expr:
    column = read_column(rule.column, schema[rule.column])
    if len(rule.values) > 4:
        return column.is_in(rule.values)
    # Two comparisons cost Polars half of what a set of two does.
    found = column == rule.values[0]
    for value in rule.values[1:]:
        found = found | (column == value)
    return found


def _matches(rule: Rule, schema: Mapping[str, DType]) -> nw.Expr:
    return read_column(rule.column, schema[rule.column]).str.contains(anchor(rule.pattern or ""))


def _compare_times(symbol: str, sign: int) -> Callable[[Rule, Mapping[str, DType]], nw.Expr]:
    def expression(rule: Rule, schema: Mapping[str, DType]) -> nw.Expr:
        zone, other_zone = (read_zone(schema, column) for column in rule.columns)
        other = read_column(rule.columns[1], schema[rule.columns[1]])
        limit = move_time(other, sign * rule.tolerance, other_zone, zone)
        judged = read_column(rule.column, schema[rule.column])
        return OPERATORS[symbol](judged, limit)  # type: ignore[no-any-return]

    return expression


def _compares_with(symbol: str) -> Operation:
    return Operation(
        operands=frozenset({"bound"}),
        kind=lambda rule: NUMBER,
        expression=lambda rule, schema: compare_column(
            rule.column, schema[rule.column], symbol, bound_of(rule)
        ),
        predicate=lambda rule, value: compare_number(value, symbol, bound_of(rule)),
        demand=lambda rule: f"be {symbol} {write_number(bound_of(rule))}",
    )


def _is_one_of(demand: Callable[[Rule], str]) -> Operation:
    return Operation(
        operands=frozenset({"values"}),
        kind=lambda rule: TEXT if isinstance(rule.values[0], str) else INTEGER,
        expression=_is_among,
        predicate=lambda rule, value: value in rule.values,
        demand=demand,
    )


OPERATIONS: Mapping[str, Operation] = {
    "present": Operation(
        operands=frozenset(),
        kind=lambda rule: ANYTHING,
        expression=_is_present,
        predicate=lambda rule, value: not (isinstance(value, str) and value == ""),
        demand=lambda rule: "be present",
    ),
    "gt": _compares_with(">"),
    "ge": _compares_with(">="),
    "lt": _compares_with("<"),
    "le": _compares_with("<="),
    "between": Operation(
        operands=frozenset({"bound", "upper"}),
        kind=lambda rule: NUMBER,
        expression=_is_between,
        predicate=lambda rule, value: (
            compare_number(value, ">=", bound_of(rule))
            and compare_number(value, "<=", upper_of(rule))
        ),
        demand=lambda rule: (
            f"be between {write_number(bound_of(rule))} and {write_number(upper_of(rule))}"
        ),
    ),
    "one_of": _is_one_of(lambda rule: f"be one of {', '.join(map(str, rule.values))}"),
    "equals": _is_one_of(lambda rule: f"equal {rule.values[0]}"),
    "matches": Operation(
        operands=frozenset({"pattern"}),
        kind=lambda rule: TEXT,
        expression=_matches,
        predicate=lambda rule, value: _compile_pattern(rule.pattern or "")(value) is not None,
        demand=lambda rule: f"match {rule.pattern}",
    ),
    "not_after": Operation(
        operands=frozenset({"other"}),
        kind=lambda rule: TIME,
        expression=_compare_times("<=", 1),
        predicate=lambda rule, value, other: _elapsed_us(other, value) <= tolerance_us(rule),
        demand=lambda rule: f"not be after {rule.other} + {write_span(rule.tolerance)}",
    ),
    "not_before": Operation(
        operands=frozenset({"other"}),
        kind=lambda rule: TIME,
        expression=_compare_times(">=", -1),
        predicate=lambda rule, value, other: _elapsed_us(value, other) <= tolerance_us(rule),
        demand=lambda rule: f"not be before {rule.other} - {write_span(rule.tolerance)}",
    ),
}
"""Every operator of the built-in rules, one row each."""


def bound_of(rule: Rule) -> Decimal:
    """Return the bound, or the lower bound of between."""
    return Decimal(0) if rule.bound is None else rule.bound


def upper_of(rule: Rule) -> Decimal:
    """Return the upper bound of between."""
    return Decimal(0) if rule.upper is None else rule.upper


def tolerance_us(rule: Rule) -> int:
    """Return a time rule's tolerance in microseconds."""
    return rule.tolerance // timedelta(microseconds=1)


def write_span(span: timedelta) -> str:
    """Write a time span in the largest unit that is exact: 365d, 5s, 1500ms."""
    units = {
        "d": timedelta(days=1),
        "h": timedelta(hours=1),
        "min": timedelta(minutes=1),
        "s": timedelta(seconds=1),
        "ms": timedelta(milliseconds=1),
    }
    for unit, length in units.items():
        if span and not span % length:
            return f"{span // length}{unit}"
    return f"{span // timedelta(microseconds=1)}us" if span else "0s"


def _elapsed_us(start: datetime, end: datetime) -> int:
    return to_micros(end) - to_micros(start)
