"""Rule: what a valid row looks like, for frames and for single records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import get_args

import narwhals.stable.v2 as nw
from narwhals.stable.v2.dtypes import DType

from .column_kind import ANYTHING, ColumnKind
from .condition import Term
from .condition_frame import Compiler
from .condition_record import Evaluator
from .errors import ColumnTypeError, MissingColumnError, RuleDefinitionError
from .operations import OPERATIONS, Operator, tolerance_us
from .pattern import check_pattern
from .readers import is_missing
from .value_text import write_number
from .verdict import ErrorType, Severity

LONGEST_TOLERANCE = timedelta(days=36_500)
"""Engines add a tolerance to a 64-bit count of microseconds; a century cannot overflow it."""

LARGEST_BOUND = 10**18
"""Bounds stay below this, with at most 18 fraction digits: what decimal(38,18) holds."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a valid row looks like. Build one with `gt`, `present` and the others, or with `rule`.

    `bound` belongs to the comparisons, `bound` and `upper` to between, `values` to one_of and
    equals, `pattern` to matches, `other` and `tolerance` to the time rules, `condition` and
    `sentence` to custom rules. Raises `RuleDefinitionError` for an operand that is missing,
    superfluous or out of bounds.
    """

    name: str
    column: str
    operator: Operator
    error_type: ErrorType
    bound: Decimal | None = None
    values: tuple[str | int, ...] = ()
    other: str | None = None
    tolerance: timedelta = timedelta(0)
    upper: Decimal | None = None
    pattern: str | None = None
    condition: Term | None = None
    sentence: str = ""
    severity: Severity = "reject"

    def __post_init__(self) -> None:
        _check_names(self)
        _check_operands(self)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns the rule reads, the judged one first."""
        if self.condition is not None:
            return tuple(dict.fromkeys(self.condition.columns()))
        return (self.column,) if self.other is None else (self.column, self.other)

    @property
    def kind(self) -> ColumnKind:
        """What each of its columns must hold."""
        return ANYTHING if self.operator == "custom" else OPERATIONS[self.operator].kind(self)

    @property
    def message(self) -> str:
        """What a valid row looks like, e.g. `price must be > 0`."""
        if self.operator == "custom":
            return self.sentence
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
        if self.condition is not None:
            self._compile(schema)

    def verdict(self, schema: Mapping[str, DType]) -> nw.Expr:
        """Return an expression that is true for a valid row, and false or NULL for any other.

        `schema` is that of the frame it will run on, and must have passed `bind`.
        """
        if self.condition is not None:
            return self._compile(schema)
        return OPERATIONS[self.operator].expression(self, schema)

    def expression(self, schema: Mapping[str, DType]) -> nw.Expr:
        """Return `verdict`, never NULL."""
        return self.verdict(schema).fill_null(False)

    def holds(self, record: Mapping[str, object]) -> bool:
        """Return whether the record is valid by this rule, as `expression` would say.

        Raises `MissingColumnError` and `ColumnTypeError` as `bind` does.
        """
        if self.condition is not None:
            verdict = Evaluator(self.name, record).evaluate(self.condition)
            if verdict is None or isinstance(verdict, bool):
                return verdict is True
            raise ColumnTypeError(
                self.name, ", ".join(self.columns), type(verdict).__name__, "a condition"
            )
        values = [self._read(record, column) for column in self.columns]
        if any(value is None for value in values):
            return False
        if self.other is not None:
            naive = [isinstance(time, datetime) and time.utcoffset() is None for time in values]
            self._refuse_half_zoned(*naive)
        return OPERATIONS[self.operator].predicate(self, *values)

    def canonical(self) -> dict[str, object]:
        """Return all that the rule means, in JSON types: equal rules, equal content."""
        content: dict[str, object] = {
            "name": self.name,
            "column": self.column,
            "operator": self.operator,
            "error_type": self.error_type,
            "bound": None if self.bound is None else write_number(self.bound),
            "values": list(self.values),
            "other": self.other,
            "tolerance_us": tolerance_us(self),
        }
        # Only where given: fingerprints of rules that knew no such field stay what they were.
        if self.upper is not None:
            content["upper"] = write_number(self.upper)
        if self.pattern is not None:
            content["pattern"] = self.pattern
        if self.condition is not None:
            content["condition"] = self.condition.canonical()
            content["sentence"] = self.sentence
        if self.severity != "reject":
            content["severity"] = self.severity
        return content

    def _compile(self, schema: Mapping[str, DType]) -> nw.Expr:
        assert self.condition is not None
        return Compiler(self.name, schema).compile_condition(self.condition)

    def _read(self, record: Mapping[str, object], column: str) -> object:
        """Return the value, or None for what counts as NULL."""
        if column not in record:
            raise MissingColumnError(self.name, column, tuple(record))
        value = record[column]
        if value is None:
            return None
        if not self.kind.fits_value(value):
            raise ColumnTypeError(self.name, column, type(value).__name__, self.kind.title)
        return None if is_missing(value) else value

    def _refuse_half_zoned(self, first_is_naive: bool, second_is_naive: bool) -> None:
        if first_is_naive == second_is_naive or self.other is None:
            return
        naive = self.column if first_is_naive else self.other
        raise ColumnTypeError(
            self.name, naive, "a time without zone", "a time with zone, as in its other column"
        )


def _check_names(rule: Rule) -> None:
    for what, value, known in (
        ("operator", rule.operator, (*OPERATIONS, "custom")),
        ("error type", rule.error_type, get_args(ErrorType)),
        ("severity", rule.severity, get_args(Severity)),
    ):
        if value not in known:
            raise RuleDefinitionError(
                rule.name, f"unknown {what} {value!r}", f"use one of {', '.join(known)}"
            )
    if not rule.column or not rule.name or "; " in rule.name or ": " in rule.name:
        raise RuleDefinitionError(
            rule.name,
            "name and column must not be empty, and the name must not hold '; ' or ': '",
            "reasons are joined with these; rename the rule",
        )


def _check_operands(rule: Rule) -> None:
    wanted = {"condition"} if rule.operator == "custom" else OPERATIONS[rule.operator].operands
    given = {
        "bound": rule.bound is not None,
        "upper": rule.upper is not None,
        "values": bool(rule.values),
        "pattern": rule.pattern is not None,
        "other": bool(rule.other),
        "condition": rule.condition is not None,
    }
    if {operand for operand, is_given in given.items() if is_given} != wanted:
        operands = " and ".join(sorted(wanted)) or "no operand"
        raise RuleDefinitionError(
            rule.name, f"operator {rule.operator} takes {operands}", "give that and nothing else"
        )
    for bound in (rule.bound, rule.upper):
        _check_bound(rule, bound)
    if rule.bound is not None and rule.upper is not None and rule.bound > rule.upper:
        raise RuleDefinitionError(
            rule.name, f"{rule.bound} is above {rule.upper}", "give the lower bound first"
        )
    _check_values(rule)
    if rule.pattern is not None:
        check_pattern(rule.name, rule.pattern)
    _check_tolerance(rule)


def _check_bound(rule: Rule, bound: Decimal | None) -> None:
    if bound is None:
        return
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
