"""Conditions on records: a custom rule's term computed in Python, three-valued as in SQL."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Context, Decimal
from typing import Any

from .condition import OPERATORS, Term
from .errors import ColumnTypeError, MissingColumnError
from .readers import is_missing, to_micros

_EXACT = Context(prec=120)
"""Python's default would round a sum of two 38-digit decimals to 28 digits."""

_EXACTLY = {"+": _EXACT.add, "-": _EXACT.subtract, "*": _EXACT.multiply}


class _Instant(int):
    """Microseconds since 1970 of a time with zone."""


class _ClockTime(int):
    """Microseconds since 1970 on the clock face of a time without zone."""


def _kind_of(value: object) -> str:
    for types, kind in (
        (bool, "truth"),
        (_Instant, "instant"),
        (_ClockTime, "clock"),
        ((int, Decimal), "exact"),
        (float, "float"),
    ):
        if isinstance(value, types):
            return kind
    return "text"


class Evaluator:
    """Computes a term for one record: None is what an expression calls NULL."""

    def __init__(self, rule: str, record: Mapping[str, object]) -> None:
        self._rule = rule
        self._record = record

    def evaluate(self, term: Term) -> Any:
        """Return the value; raise `BindError` where `Compiler` would."""
        operation = term.operation
        if operation == "column":
            return self._read(term.operands[0])
        if operation == "literal":
            value = term.operands[0]
            return value // timedelta(microseconds=1) if isinstance(value, timedelta) else value
        values = [self.evaluate(operand) for operand in term.operands]
        if operation == "null":
            return values[0] is None
        if operation in ("&", "|"):
            return self._connect(term, values)
        if any(value is None for value in values):
            return None
        if operation in OPERATORS:
            return self._operate(term, values[0], values[1])
        return self._transform(term, values[0])

    def _read(self, name: str) -> Any:
        if name not in self._record:
            raise MissingColumnError(self._rule, name, tuple(self._record))
        value = self._record[name]
        if is_missing(value):
            return None
        if isinstance(value, datetime):
            return (_Instant if value.utcoffset() is not None else _ClockTime)(to_micros(value))
        if not isinstance(value, (bool, int, float, Decimal, str)):
            raise ColumnTypeError(
                self._rule,
                name,
                type(value).__name__,
                "a number, text, a bool or a date with time",
            )
        return value

    def _connect(self, term: Term, values: list[Any]) -> bool | None:
        for value in values:
            if value is not None and not isinstance(value, bool):
                raise self._refuse(term, type(value).__name__, "a condition")
        decisive = term.operation == "|"
        if decisive in values:
            return decisive
        return None if None in values else not decisive

    def _transform(self, term: Term, value: Any) -> Any:
        operation, kind = term.operation, _kind_of(value)
        if operation == "not" and kind == "truth":
            return not value
        if operation == "length" and kind == "text":
            return len(value)
        if operation in ("abs", "float") and kind in ("exact", "float"):
            return abs(value) if operation == "abs" else float(value)
        raise self._refuse(term, type(value).__name__, "a value of another type")

    def _operate(self, term: Term, left: Any, right: Any) -> Any:
        kind, other = _kind_of(left), _kind_of(right)
        if (
            term.operation in ("+", "-")
            and kind in ("instant", "clock")
            and term.operands[1].is_span
        ):
            return type(left)(OPERATORS[term.operation](int(left), right))
        if {kind, other} == {"float", "exact"}:
            # Only a literal follows the column's type; in frames two columns are refused as well.
            if not any(side.operation == "literal" for side in term.operands):
                raise self._refuse(term, f"{kind} and {other} numbers", "two of one kind")
            left, right, kind, other = float(left), float(right), "float", "float"
        ordered = term.operation not in ("==", "!=")
        if kind != other or (ordered and kind in ("truth", "text")):
            raise self._refuse(term, f"{kind} {term.operation} {other}", "two of one kind")
        if term.operation in ("+", "-", "*") and kind in ("instant", "clock"):
            raise self._refuse(term, f"two times under {term.operation}", "a time and a timedelta")
        if kind == "exact":
            left, right = Decimal(left), Decimal(right)
        exactly = _EXACTLY.get(term.operation) if kind == "exact" else None
        result = (exactly or OPERATORS[term.operation])(left, right)
        return None if is_missing(result) else result

    def _refuse(self, term: Term, found: str, wanted: str) -> ColumnTypeError:
        return ColumnTypeError(self._rule, ", ".join(dict.fromkeys(term.columns())), found, wanted)
