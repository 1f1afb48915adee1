"""Conditions: what a custom rule's function returns, one term for frames and for records.

The function runs once, when it is decorated, on a `Row` that writes down what is done with it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from .errors import RuleDefinitionError

OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
"""What joins two values, on expressions and on Python values alike."""


class Term:
    """One value of a row, or what is computed from it; comparing it gives a condition.

    Numbers take `+ - *`, `abs()` and comparisons; text `==`, `is_in`, `length`; times comparisons
    and `+`/`-` a timedelta; conditions `& | ~`. Whatever reads a NULL or a NaN is neither true nor
    false, and a rule that is not true has failed.
    """

    __slots__ = ("operands", "operation")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, operation: str, *operands: Any) -> None:
        self.operation = operation
        self.operands = operands

    def __add__(self, other: object) -> Term:
        return self._join("+", other)

    def __sub__(self, other: object) -> Term:
        return self._join("-", other)

    def __mul__(self, other: object) -> Term:
        return self._join("*", other)

    def __radd__(self, other: object) -> Term:
        return _literal(other)._join("+", self)

    def __rsub__(self, other: object) -> Term:
        return _literal(other)._join("-", self)

    def __rmul__(self, other: object) -> Term:
        return self._join("*", other)

    def __lt__(self, other: object) -> Term:
        return self._join("<", other)

    def __le__(self, other: object) -> Term:
        return self._join("<=", other)

    def __gt__(self, other: object) -> Term:
        return self._join(">", other)

    def __ge__(self, other: object) -> Term:
        return self._join(">=", other)

    def __eq__(self, other: object) -> Term:  # type: ignore[override]
        return self._join("==", other)

    def __ne__(self, other: object) -> Term:  # type: ignore[override]
        return self._join("!=", other)

    def __and__(self, other: object) -> Term:
        return self._join("&", other)

    def __or__(self, other: object) -> Term:
        return self._join("|", other)

    def __invert__(self) -> Term:
        return Term("not", self)

    def __neg__(self) -> Term:
        return _literal(0)._join("-", self)

    def __abs__(self) -> Term:
        return Term("abs", self)

    def __bool__(self) -> bool:
        raise RuleDefinitionError(
            "a custom rule",
            "a condition is not known when the rule is defined, so `if`, `and`, `or`, `not`, "
            "`in` and chained comparisons cannot use it",
            "write & | ~, is_in and two comparisons instead",
        )

    def abs(self) -> Term:
        """Return the number without its sign."""
        return abs(self)

    def as_float(self) -> Term:
        """Return an exact number as 64-bit float, for products.

        Equal on all engines up to 2^53 units of the column; beyond, the last bit may differ.
        """
        return Term("float", self)

    def is_null(self) -> Term:
        """Return whether there is no value; the only condition that is true for a NULL or a NaN."""
        return Term("null", self)

    def is_in(self, *values: str | int) -> Term:
        """Return whether it equals one of the values."""
        if not values:
            raise RuleDefinitionError("a custom rule", "is_in() without values", "name some")
        found = self == values[0]
        for value in values[1:]:
            found = found | (self == value)
        return found

    def length(self) -> Term:
        """Return the number of characters of a text."""
        return Term("length", self)

    @property
    def is_span(self) -> bool:
        """Whether it is a fixed length of time."""
        return self.operation == "literal" and isinstance(self.operands[0], timedelta)

    def columns(self) -> Iterator[str]:
        """Yield the columns it reads, in order, maybe more than once."""
        if self.operation == "column":
            yield self.operands[0]
        elif self.operation != "literal":
            for operand in self.operands:
                yield from operand.columns()

    def canonical(self) -> list[object]:
        """Return what it means in JSON types: equal terms, equal content."""
        if self.operation == "column":
            return ["column", self.operands[0]]
        if self.operation == "literal":
            value = self.operands[0]
            return ["literal", _LITERALS[type(value)][0], _LITERALS[type(value)][1](value)]
        return [self.operation, *(operand.canonical() for operand in self.operands)]

    def _join(self, operation: str, other: object) -> Term:
        return Term(operation, self, other if isinstance(other, Term) else _literal(other))


class Row:
    """What a custom rule's function is given: `row.price` is the column `price`."""

    def __getattr__(self, column: str) -> Term:
        if column.startswith("__"):
            raise AttributeError(column)
        return Term("column", column)

    def __getitem__(self, column: str) -> Term:
        return Term("column", column)


def _plain_number(value: int | float | Decimal) -> str:
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    text = format(exact if exact else Decimal(0), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


# A number is what it prints as, however it was written.
_LITERALS: Mapping[type, tuple[str, Callable[[Any], object]]] = {
    bool: ("truth", bool),
    int: ("number", _plain_number),
    float: ("number", _plain_number),
    Decimal: ("number", _plain_number),
    str: ("text", str),
    timedelta: ("span_us", lambda value: value // timedelta(microseconds=1)),
}


def _literal(value: object) -> Term:
    if type(value) not in _LITERALS:
        raise RuleDefinitionError(
            "a custom rule",
            f"{value!r} is a {type(value).__name__}, which no column is compared with",
            "use a number, a text, a timedelta or another column (rules know no fixed time)",
        )
    if isinstance(value, (float, Decimal)) and not Decimal(value).is_finite():
        raise RuleDefinitionError("a custom rule", f"{value} is no number", "use a finite one")
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        exact = Decimal(_plain_number(value))
        exponent = exact.as_tuple().exponent
        if abs(exact) >= 10**18 or (isinstance(exponent, int) and exponent < -18):
            raise RuleDefinitionError(
                "a custom rule", f"{value} has more than 18 whole or 18 fraction digits", "round it"
            )
        return Term("literal", exact)
    return Term("literal", value)
