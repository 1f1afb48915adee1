"""Rules: each states what a valid row looks like, for frames and for single records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Literal, get_args

import narwhals.stable.v2 as nw
from narwhals.stable.v2.dtypes import DType

from .column_kind import ANYTHING, INTEGER, NUMBER, TEXT, TIME, ColumnKind
from .errors import ColumnTypeError, MissingColumnError, RuleDefinitionError

ErrorType = Literal["schema", "completeness", "range", "consistency", "timeliness"]
"""What kind of fault a failed rule is, as the dead-letter table counts it."""

Operator = Literal["present", "gt", "one_of", "equals", "not_after", "not_before"]

LONGEST_TOLERANCE = timedelta(days=36_500)
"""Engines add a tolerance to a 64-bit count of microseconds; a century cannot overflow it."""

LARGEST_BOUND = 10**18
"""Bounds stay below this, with at most 18 fraction digits: what decimal(38,18) holds."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a valid row looks like in one column. Build one with `present`, `gt` and the others.

    `bound` belongs to gt, `values` to one_of and equals, `other` and `tolerance` to the time rules.
    Raises `RuleDefinitionError` for an operand that is missing, superfluous or out of bounds.
    """

    name: str
    column: str
    operator: Operator
    error_type: ErrorType
    bound: Decimal | None = None
    values: tuple[str | int, ...] = ()
    other: str | None = None
    tolerance: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        _check_names(self)
        _check_operands(self)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns the rule reads, the judged one first."""
        return (self.column,) if self.other is None else (self.column, self.other)

    @property
    def kind(self) -> ColumnKind:
        """What each of its columns must hold."""
        return OPERATIONS[self.operator].kind(self)

    @property
    def message(self) -> str:
        """What a valid row looks like, e.g. `price must be > 0`."""
        return f"{self.column} must {OPERATIONS[self.operator].demand(self)}"

    def bind(self, schema: Mapping[str, DType]) -> None:
        """Raise `MissingColumnError` or `ColumnTypeError` if the rule cannot judge such a frame."""
        kind = self.kind
        for column in self.columns:
            if column not in schema:
                raise MissingColumnError(self.name, column, tuple(schema))
            if not kind.fits_type(schema[column]):
                raise ColumnTypeError(self.name, column, str(schema[column]), kind.title)
        if self.other is not None:
            naive = [getattr(schema[column], "time_zone", None) is None for column in self.columns]
            self._refuse_half_zoned(*naive)

    def expression(self, schema: Mapping[str, DType]) -> nw.Expr:
        """Return a boolean expression that is true for a valid row and never NULL.

        `schema` is that of the frame it will run on, and must have passed `bind`.
        """
        verdict = OPERATIONS[self.operator].expression(self, schema)
        return verdict.fill_null(False)

    def holds(self, record: Mapping[str, object]) -> bool:
        """Return whether the record is valid by this rule, as `expression` would say.

        Raises `MissingColumnError` and `ColumnTypeError` as `bind` does.
        """
        values = [self._read(record, column) for column in self.columns]
        if any(value is None for value in values):
            return False
        if self.other is not None:
            naive = [isinstance(time, datetime) and time.utcoffset() is None for time in values]
            self._refuse_half_zoned(*naive)
        return OPERATIONS[self.operator].predicate(self, *values)

    def canonical(self) -> dict[str, object]:
        """Return all that the rule means, in JSON types: equal rules, equal content."""
        return {
            "name": self.name,
            "column": self.column,
            "operator": self.operator,
            "error_type": self.error_type,
            "bound": None if self.bound is None else _plain(self.bound),
            "values": list(self.values),
            "other": self.other,
            "tolerance_us": self.tolerance // timedelta(microseconds=1),
        }

    def _read(self, record: Mapping[str, object], column: str) -> object:
        """Return the value, or None for what counts as NULL: None itself and every NaN."""
        if column not in record:
            raise MissingColumnError(self.name, column, tuple(record))
        value = record[column]
        if value is None:
            return None
        if not self.kind.fits_value(value):
            raise ColumnTypeError(self.name, column, type(value).__name__, self.kind.title)
        is_nan = value != value if isinstance(value, float) else _is_decimal_nan(value)
        return None if is_nan else value

    def _refuse_half_zoned(self, first_is_naive: bool, second_is_naive: bool) -> None:
        if first_is_naive == second_is_naive or self.other is None:
            return
        naive = self.column if first_is_naive else self.other
        raise ColumnTypeError(
            self.name, naive, "a time without zone", "a time with zone, as in its other column"
        )


def present(column: str, *, error_type: ErrorType = "completeness") -> Rule:
    """A valid row has a value here: not NULL, not NaN, not empty text."""
    return Rule(f"{column}_present", column, "present", error_type)


def gt(column: str, bound: int | float | Decimal, *, error_type: ErrorType = "range") -> Rule:
    """A valid row has a number above `bound`; infinity is above, NULL and NaN are not.

    A float bound means the decimal number it prints as. Float columns compare as 64-bit floats,
    integer and decimal columns exactly.
    """
    exact = _to_exact(f"{column}_gt", bound)
    return Rule(f"{column}_gt_{_plain(exact)}", column, "gt", error_type, bound=exact)


def one_of(column: str, *values: str | int, error_type: ErrorType = "consistency") -> Rule:
    """A valid row has one of `values`, all text (compared with case) or all integers."""
    name = "_".join([column, "one_of", *map(str, values)])
    return Rule(name, column, "one_of", error_type, values=values)


def equals(column: str, value: str | int, *, error_type: ErrorType = "consistency") -> Rule:
    """A valid row has exactly this text or integer."""
    name = f"{column}_equals_{value}"
    return Rule(name, column, "equals", error_type, values=(value,))


def not_after(
    column: str,
    other: str,
    tolerance: timedelta = timedelta(0),
    *,
    error_type: ErrorType = "timeliness",
) -> Rule:
    """A valid row's time is at most `tolerance` after the time in column `other` of that row."""
    name = f"{column}_not_after_{other}" + (f"_plus_{_duration(tolerance)}" if tolerance else "")
    return Rule(name, column, "not_after", error_type, other=other, tolerance=tolerance)


def not_before(
    column: str,
    other: str,
    age: timedelta = timedelta(0),
    *,
    error_type: ErrorType = "timeliness",
) -> Rule:
    """A valid row's time is at most `age` before the time in column `other` of that row."""
    name = f"{column}_not_before_{other}" + (f"_minus_{_duration(age)}" if age else "")
    return Rule(name, column, "not_before", error_type, other=other, tolerance=age)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operator: the same test as an expression, as Python and as text.

    `expression` may be NULL where `predicate` would not be asked: it never sees a NULL or NaN.
    """

    operand: Literal["bound", "values", "other"] | None
    kind: Callable[[Rule], ColumnKind]
    expression: Callable[[Rule, Mapping[str, DType]], nw.Expr]
    predicate: Callable[..., bool]
    demand: Callable[[Rule], str]


def _is_present(rule: Rule, schema: Mapping[str, DType]) -> nw.Expr:
    dtype = schema[rule.column]
    column = _column(rule.column, dtype)
    return column != "" if TEXT.fits_type(dtype) else ~column.is_null()


def _is_above(rule: Rule, schema: Mapping[str, DType]) -> nw.Expr:
    dtype, bound = schema[rule.column], _bound(rule)
    column = _column(rule.column, dtype)
    if dtype.is_float():
        return column > float(bound)
    if dtype.is_decimal():
        return column > nw.lit(bound)
    # For a whole number, above 0.5 is above 0; so integers compare with integers.
    return column > int(bound.to_integral_value(ROUND_FLOOR))


def _is_number_above(rule: Rule, value: int | float | Decimal) -> bool:
    return value > float(_bound(rule)) if isinstance(value, float) else value > _bound(rule)


def _is_among(rule: Rule, schema: Mapping[str, DType]) -> nw.Expr:
    return _column(rule.column, schema[rule.column]).is_in(rule.values)


def _is_not_after(rule: Rule, schema: Mapping[str, DType]) -> nw.Expr:
    return _column(rule.column, schema[rule.column]) <= _shifted(rule, schema, 1)


def _is_not_before(rule: Rule, schema: Mapping[str, DType]) -> nw.Expr:
    return _column(rule.column, schema[rule.column]) >= _shifted(rule, schema, -1)


OPERATIONS: Mapping[str, Operation] = {
    "present": Operation(
        operand=None,
        kind=lambda rule: ANYTHING,
        expression=_is_present,
        predicate=lambda rule, value: not (isinstance(value, str) and value == ""),
        demand=lambda rule: "be present",
    ),
    "gt": Operation(
        operand="bound",
        kind=lambda rule: NUMBER,
        expression=_is_above,
        predicate=_is_number_above,
        demand=lambda rule: f"be > {_plain(_bound(rule))}",
    ),
    "one_of": Operation(
        operand="values",
        kind=lambda rule: _kind_of_values(rule),
        expression=_is_among,
        predicate=lambda rule, value: value in rule.values,
        demand=lambda rule: f"be one of {', '.join(map(str, rule.values))}",
    ),
    "equals": Operation(
        operand="values",
        kind=lambda rule: _kind_of_values(rule),
        expression=_is_among,
        predicate=lambda rule, value: value in rule.values,
        demand=lambda rule: f"equal {rule.values[0]}",
    ),
    "not_after": Operation(
        operand="other",
        kind=lambda rule: TIME,
        expression=_is_not_after,
        predicate=lambda rule, value, other: _elapsed(other, value) <= rule.tolerance,
        demand=lambda rule: f"not be after {rule.other} + {_duration(rule.tolerance)}",
    ),
    "not_before": Operation(
        operand="other",
        kind=lambda rule: TIME,
        expression=_is_not_before,
        predicate=lambda rule, value, other: _elapsed(value, other) <= rule.tolerance,
        demand=lambda rule: f"not be before {rule.other} - {_duration(rule.tolerance)}",
    ),
}
"""Every operator, one row each."""


def _column(name: str, dtype: DType) -> nw.Expr:
    """Read a column so that every engine compares it alike: NaN is NULL, widths are the widest."""
    column = nw.col(name)
    if dtype.is_float():
        # NaN > 0 is true on Polars, DuckDB and Spark, false on Arrow and in Python.
        wide = column if dtype == nw.Float64 else column.cast(nw.Float64)
        return nw.when(~wide.is_nan()).then(wide)
    if dtype.is_integer() and INTEGER.fits_type(dtype) and dtype != nw.Int64:
        return column.cast(nw.Int64)
    if TEXT.fits_type(dtype) and dtype != nw.String:
        return column.cast(nw.String)
    if isinstance(dtype, nw.Datetime) and dtype.time_unit in ("s", "ms"):
        # A tolerance finer than the column's unit would be rounded.
        return column.cast(nw.Datetime("us", dtype.time_zone))
    return column


def _shifted(rule: Rule, schema: Mapping[str, DType], sign: int) -> nw.Expr:
    """Return the other time, later or earlier by the tolerance, in the zone of the judged one."""
    zone, other_zone = (getattr(schema[name], "time_zone", None) for name in rule.columns)
    other = _column(rule.columns[1], schema[rule.columns[1]])
    if zone is not None and zone != other_zone:
        # The same instants; Polars compares only times of one zone.
        other = other.dt.convert_time_zone(zone)
    if not rule.tolerance:
        return other
    # Microseconds, not days: engines take a day in a time zone for 23 to 25 hours.
    return other.dt.offset_by(f"{sign * (rule.tolerance // timedelta(microseconds=1))}us")


def _elapsed(start: datetime, end: datetime) -> timedelta:
    """Return end - start as instants.

    Python subtracts two times of one zone object by their clock faces, wrong across a clock change.
    """
    start_offset, end_offset = start.utcoffset(), end.utcoffset()
    if start_offset is None or end_offset is None:
        return end - start
    faces = end.replace(tzinfo=None) - start.replace(tzinfo=None)
    return faces - (end_offset - start_offset)


def _is_decimal_nan(value: object) -> bool:
    return isinstance(value, Decimal) and value.is_nan()


def _bound(rule: Rule) -> Decimal:
    return Decimal(0) if rule.bound is None else rule.bound


def _kind_of_values(rule: Rule) -> ColumnKind:
    return TEXT if isinstance(rule.values[0], str) else INTEGER


def _to_exact(name: str, bound: int | float | Decimal) -> Decimal:
    if isinstance(bound, bool) or not isinstance(bound, (int, float, Decimal)):
        raise RuleDefinitionError(
            name, f"bound {bound!r} is not a number", "give an int, a Decimal or a float"
        )
    exact = Decimal(repr(bound)) if isinstance(bound, float) else Decimal(bound)
    return exact if exact else Decimal(0)


def _plain(number: Decimal) -> str:
    """Write a number without exponent and trailing zeros: equal numbers, equal text."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _duration(span: timedelta) -> str:
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


def _check_names(rule: Rule) -> None:
    if rule.operator not in OPERATIONS:
        raise RuleDefinitionError(
            rule.name, f"unknown operator {rule.operator!r}", f"use one of {', '.join(OPERATIONS)}"
        )
    if rule.error_type not in get_args(ErrorType):
        raise RuleDefinitionError(
            rule.name,
            f"unknown error type {rule.error_type!r}",
            f"use one of {', '.join(get_args(ErrorType))}",
        )
    if not rule.column or not rule.name or "; " in rule.name or ": " in rule.name:
        raise RuleDefinitionError(
            rule.name,
            "name and column must not be empty, and the name must not hold '; ' or ': '",
            "reasons are joined with these; rename the rule",
        )


def _check_operands(rule: Rule) -> None:
    wanted = OPERATIONS[rule.operator].operand
    given = {"bound": rule.bound is not None, "values": bool(rule.values), "other": rule.other}
    if {operand for operand, is_given in given.items() if is_given} != {wanted} - {None}:
        raise RuleDefinitionError(
            rule.name,
            f"operator {rule.operator} takes {wanted or 'no operand'}",
            f"give {wanted or 'none'} and nothing else",
        )
    _check_bound(rule)
    _check_values(rule)
    _check_tolerance(rule)


def _check_bound(rule: Rule) -> None:
    bound = _bound(rule)
    exponent = bound.as_tuple().exponent  # text for NaN and infinity
    if isinstance(exponent, str) or abs(bound) >= LARGEST_BOUND or exponent < -18:
        raise RuleDefinitionError(
            rule.name,
            f"bound {bound} has more than 18 whole or 18 fraction digits",
            "give a bound that decimal(38,18) holds",
        )


def _check_values(rule: Rule) -> None:
    types = {type(value) for value in rule.values}
    if rule.values and types not in ({str}, {int}):
        raise RuleDefinitionError(
            rule.name, f"values {rule.values!r} are not all text or all integers", "use one type"
        )
    if len(set(rule.values)) != len(rule.values) or (
        rule.operator == "equals" and len(rule.values) != 1
    ):
        raise RuleDefinitionError(
            rule.name, f"values {rule.values!r} repeat or are too many", "name each value once"
        )


def _check_tolerance(rule: Rule) -> None:
    if not timedelta(0) <= rule.tolerance <= LONGEST_TOLERANCE:
        raise RuleDefinitionError(
            rule.name,
            f"tolerance {rule.tolerance} is negative or above {LONGEST_TOLERANCE.days} days",
            "give a span from zero to a century",
        )
