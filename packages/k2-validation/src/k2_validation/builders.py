"""Builders: one function per built-in rule, and the decorator that makes a rule of yours."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from inspect import cleandoc

from .condition import Row, Term
from .errors import RuleDefinitionError
from .operations import Operator, write_span
from .rule import Rule
from .value_text import write_number
from .verdict import ErrorType, Severity

Number = int | float | Decimal


def present(
    column: str,
    *,
    error_type: ErrorType = "completeness",
    severity: Severity = "reject",
    name: str | None = None,
) -> Rule:
    """A valid row has a value here: not NULL, not NaN, not empty text."""
    return Rule(name or f"{column}_present", column, "present", error_type, severity=severity)


def gt(
    column: str,
    bound: Number,
    *,
    error_type: ErrorType = "range",
    severity: Severity = "reject",
    name: str | None = None,
) -> Rule:
    """A valid row has a number above `bound`; infinity is above, NULL and NaN are not.

    A float bound means the decimal number it prints as. Float columns compare as 64-bit floats,
    integer and decimal columns exactly.
    """
    return _compare("gt", column, bound, error_type, severity, name)


def ge(
    column: str,
    bound: Number,
    *,
    error_type: ErrorType = "range",
    severity: Severity = "reject",
    name: str | None = None,
) -> Rule:
    """A valid row has a number that is `bound` or above."""
    return _compare("ge", column, bound, error_type, severity, name)


def lt(
    column: str,
    bound: Number,
    *,
    error_type: ErrorType = "range",
    severity: Severity = "reject",
    name: str | None = None,
) -> Rule:
    """A valid row has a number below `bound`."""
    return _compare("lt", column, bound, error_type, severity, name)


def le(
    column: str,
    bound: Number,
    *,
    error_type: ErrorType = "range",
    severity: Severity = "reject",
    name: str | None = None,
) -> Rule:
    """A valid row has a number that is `bound` or below."""
    return _compare("le", column, bound, error_type, severity, name)


def between(
    column: str,
    lower: Number,
    upper: Number,
    *,
    error_type: ErrorType = "range",
    severity: Severity = "reject",
    name: str | None = None,
) -> Rule:
    """A valid row has a number from `lower` to `upper`, both included."""
    bounds = [_to_exact(f"{column}_between", bound) for bound in (lower, upper)]
    told = name or f"{column}_between_{write_number(bounds[0])}_and_{write_number(bounds[1])}"
    return Rule(
        told, column, "between", error_type, bound=bounds[0], upper=bounds[1], severity=severity
    )


def one_of(
    column: str,
    *values: str | int,
    error_type: ErrorType = "consistency",
    severity: Severity = "reject",
    name: str | None = None,
) -> Rule:
    """A valid row has one of `values`, all text (compared with case) or all integers."""
    told = name or "_".join([column, "one_of", *map(str, values)])
    return Rule(told, column, "one_of", error_type, values=values, severity=severity)


def equals(
    column: str,
    value: str | int,
    *,
    error_type: ErrorType = "consistency",
    severity: Severity = "reject",
    name: str | None = None,
) -> Rule:
    """A valid row has exactly this text or integer."""
    told = name or f"{column}_equals_{value}"
    return Rule(told, column, "equals", error_type, values=(value,), severity=severity)


def matches(
    column: str,
    pattern: str,
    *,
    error_type: ErrorType = "consistency",
    severity: Severity = "reject",
    name: str | None = None,
) -> Rule:
    """A valid row's text matches `pattern` from its first to its last character.

    The pattern keeps to what all engines read alike: literals, classes such as `[A-Z0-9]`, groups,
    `|` and the quantifiers `* + ? {n,m}`; anything else is a `RuleDefinitionError`.
    """
    told = name or f"{column}_matches_{pattern}"
    return Rule(told, column, "matches", error_type, pattern=pattern, severity=severity)


def not_after(
    column: str,
    other: str,
    tolerance: timedelta = timedelta(0),
    *,
    error_type: ErrorType = "timeliness",
    severity: Severity = "reject",
    name: str | None = None,
) -> Rule:
    """A valid row's time is at most `tolerance` after the time in column `other` of that row."""
    tail = f"_plus_{write_span(tolerance)}" if tolerance else ""
    told = name or f"{column}_not_after_{other}{tail}"
    return Rule(
        told, column, "not_after", error_type, other=other, tolerance=tolerance, severity=severity
    )


def not_before(
    column: str,
    other: str,
    age: timedelta = timedelta(0),
    *,
    error_type: ErrorType = "timeliness",
    severity: Severity = "reject",
    name: str | None = None,
) -> Rule:
    """A valid row's time is at most `age` before the time in column `other` of that row."""
    tail = f"_minus_{write_span(age)}" if age else ""
    told = name or f"{column}_not_before_{other}{tail}"
    return Rule(
        told, column, "not_before", error_type, other=other, tolerance=age, severity=severity
    )


def rule(
    *,
    error_type: ErrorType = "consistency",
    severity: Severity = "reject",
    name: str | None = None,
) -> Callable[[Callable[[Row], Term]], Rule]:
    """Make a rule of a function that says what a valid row looks like.

    The function takes a row and returns a condition on its columns; its docstring, which must not
    be empty, says the condition in words. It runs once, now: frames and records are judged by what
    it wrote down (`k2_validation.condition.Term` lists what that can be).
    """

    def make(function: Callable[[Row], Term]) -> Rule:
        told = name or function.__name__
        sentence = cleandoc(function.__doc__ or "").partition("\n")[0].rstrip(".")
        if not sentence:
            raise RuleDefinitionError(
                told, "it has no docstring", "say in one line what a valid row looks like"
            )
        condition = function(Row())
        if not isinstance(condition, Term) or not list(condition.columns()):
            raise RuleDefinitionError(
                told, "it returns no condition on a column", "compare something of the row"
            )
        return Rule(
            told,
            next(condition.columns()),
            "custom",
            error_type,
            condition=condition,
            sentence=sentence,
            severity=severity,
        )

    return make


def _compare(
    operator: Operator,
    column: str,
    bound: Number,
    error_type: ErrorType,
    severity: Severity,
    name: str | None,
) -> Rule:
    exact = _to_exact(f"{column}_{operator}", bound)
    told = name or f"{column}_{operator}_{write_number(exact)}"
    return Rule(told, column, operator, error_type, bound=exact, severity=severity)


def _to_exact(name: str, bound: Number) -> Decimal:
    if isinstance(bound, bool) or not isinstance(bound, (int, float, Decimal)):
        raise RuleDefinitionError(
            name, f"bound {bound!r} is not a number", "give an int, a Decimal or a float"
        )
    exact = Decimal(repr(bound)) if isinstance(bound, float) else Decimal(bound)
    return exact if exact or exact.is_nan() else Decimal(0)
