"""Conditions on frames: a custom rule's term as one expression for a schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import narwhals.stable.v2 as nw
from narwhals.stable.v2.dtypes import DType

from .column_kind import INTEGER, TEXT
from .condition import OPERATORS, Term
from .errors import ColumnTypeError, MissingColumnError
from .readers import move_time, read_column

LARGEST_PRECISION = 37
"""Digits an exact result may need: every engine's widest decimal has 38."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a term is: `digits` and `scale` belong to exact numbers, `zone` to zoned times."""

    name: str
    digits: int = 0
    scale: int = 0
    zone: str | None = None


TRUTH = Kind("a condition")
TEXT_KIND = Kind("text")
FLOAT = Kind("a float")
EXACT = "an exact number"
TIME_KIND = "a time"


class Compiler:
    """Turns a term into an expression for one schema; errors name rule and columns."""

    def __init__(self, rule: str, schema: Mapping[str, DType]) -> None:
        self._rule = rule
        self._schema = schema

    def compile_condition(self, term: Term) -> nw.Expr:
        """Return the expression of a term that is a condition, which may be NULL."""
        return self._want(term, TRUTH)

    def compile(self, term: Term) -> tuple[nw.Expr, Kind]:
        """Return the expression, which may be NULL, and its kind; `BindError` if it has none."""
        operation = term.operation
        if operation == "column":
            return self._compile_column(term.operands[0])
        if operation == "literal":
            return self._compile_literal(term.operands[0])
        if operation in ("+", "-", "*"):
            return self._compile_arithmetic(term)
        if operation in ("<", "<=", ">", ">=", "==", "!="):
            return self._compile_comparison(term)
        if operation in ("&", "|"):
            left, right = (self._want(side, TRUTH) for side in term.operands)
            return (left & right if operation == "&" else left | right), TRUTH
        if operation == "not":
            return ~self._want(term.operands[0], TRUTH), TRUTH
        if operation == "length":
            text = self._want(term.operands[0], TEXT_KIND)
            return text.str.len_chars().cast(nw.Int64), Kind(EXACT, 19)
        value, kind = self.compile(term.operands[0])
        if operation == "null":
            return value.is_null(), TRUTH
        if kind != FLOAT and kind.name != EXACT:
            raise self._refuse(term, kind.name, "a number")
        if operation == "float":
            return (value if kind == FLOAT else value.cast(nw.Float64)), FLOAT
        return value.abs(), kind

    def _compile_column(self, name: str) -> tuple[nw.Expr, Kind]:
        if name not in self._schema:
            raise MissingColumnError(self._rule, name, tuple(self._schema))
        dtype = self._schema[name]
        column = read_column(name, dtype)
        if dtype.is_float():
            return column, FLOAT
        if dtype.is_decimal():
            sized: Any = dtype
            return column, Kind(EXACT, sized.precision, sized.scale)
        if INTEGER.fits_type(dtype):
            # As decimal, so that no sum overflows and every engine compares it with decimals.
            return column.cast(nw.Decimal(19, 0)), Kind(EXACT, 19)
        if TEXT.fits_type(dtype):
            return column, TEXT_KIND
        if isinstance(dtype, nw.Datetime):
            return column, Kind(TIME_KIND, zone=dtype.time_zone)
        if dtype == nw.Boolean:
            return column, TRUTH
        raise ColumnTypeError(
            self._rule, name, str(dtype), "a number, text, a bool or a date with time"
        )

    def _compile_literal(self, value: object) -> tuple[nw.Expr, Kind]:
        if isinstance(value, Decimal):
            _, digits, exponent = value.as_tuple()
            scale = max(0, -int(exponent))
            return nw.lit(value), Kind(
                EXACT, max(len(digits) + max(0, int(exponent)), scale), scale
            )
        if isinstance(value, bool):
            return nw.lit(value), TRUTH
        if isinstance(value, str):
            return nw.lit(value), TEXT_KIND
        return nw.lit(0), Kind("a time span")

    def _compile_arithmetic(self, term: Term) -> tuple[nw.Expr, Kind]:
        left, right = term.operands
        value, kind = self.compile(left)
        other, other_kind = self.compile(right)
        if kind.name == TIME_KIND and term.operation != "*" and right.is_span:
            span = right.operands[0] if term.operation == "+" else -right.operands[0]
            return move_time(value, span), kind
        if kind == FLOAT or other_kind == FLOAT:
            value, other = self._both_float(term, (value, kind), (other, other_kind))
            result = OPERATORS[term.operation](value, other)
            # Infinity minus infinity is NaN, and NaN is no value.
            return nw.when(~result.is_nan()).then(result), FLOAT
        if kind.name != EXACT or other_kind.name != EXACT:
            raise self._refuse(term, f"{kind.name} {term.operation} {other_kind.name}", "numbers")
        if term.operation == "*":
            return self._multiply(term, (value, kind), (other, other_kind))
        scale = max(kind.scale, other_kind.scale)
        whole = max(kind.digits - kind.scale, other_kind.digits - other_kind.scale) + 1
        result_kind = self._sized(term, whole + scale, scale)
        return OPERATORS[term.operation](value, other), result_kind

    def _multiply(
        self, term: Term, left: tuple[nw.Expr, Kind], right: tuple[nw.Expr, Kind]
    ) -> tuple[nw.Expr, Kind]:
        literals = [side.operation == "literal" for side in term.operands]
        if literals[0]:
            left, right = right, left
        if not any(literals) or right[1].scale:
            raise self._refuse(
                term,
                "a product of two decimals, which engines round differently",
                "a whole number as one factor, or .as_float() on both",
            )
        kind = self._sized(term, left[1].digits + right[1].digits + 1, left[1].scale)
        wide = left[0].cast(nw.Decimal(kind.digits - right[1].digits, kind.scale))
        return wide * right[0], kind

    def _compile_comparison(self, term: Term) -> tuple[nw.Expr, Kind]:
        left, right = term.operands
        value, kind = self.compile(left)
        other, other_kind = self.compile(right)
        if kind == FLOAT or other_kind == FLOAT:
            value, other = self._both_float(term, (value, kind), (other, other_kind))
        elif kind.name == other_kind.name == TIME_KIND:
            if (kind.zone is None) != (other_kind.zone is None):
                raise self._refuse(term, "a time with and one without zone", "both alike")
            other = move_time(other, timedelta(0), other_kind.zone, kind.zone)
        elif kind.name != other_kind.name:
            raise self._refuse(
                term, f"{kind.name} {term.operation} {other_kind.name}", "two of one kind"
            )
        elif kind.name != EXACT and term.operation not in ("==", "!="):
            raise self._refuse(term, f"{kind.name} {term.operation}", "== or !=")
        return OPERATORS[term.operation](value, other), TRUTH

    def _both_float(
        self, term: Term, left: tuple[nw.Expr, Kind], right: tuple[nw.Expr, Kind]
    ) -> tuple[nw.Expr, nw.Expr]:
        sides = []
        for operand, (value, kind) in zip(term.operands, (left, right), strict=True):
            if operand.operation == "literal" and isinstance(operand.operands[0], Decimal):
                sides.append(nw.lit(float(operand.operands[0])))
            elif kind == FLOAT:
                sides.append(value)
            else:
                raise self._refuse(term, f"{kind.name} beside a float", "floats; use .as_float()")
        return sides[0], sides[1]

    def _want(self, term: Term, kind: Kind) -> nw.Expr:
        value, found = self.compile(term)
        if found != kind:
            raise self._refuse(term, found.name, kind.name)
        return value

    def _sized(self, term: Term, digits: int, scale: int) -> Kind:
        if digits > LARGEST_PRECISION:
            raise self._refuse(
                term,
                f"a result of {digits} digits",
                f"at most {LARGEST_PRECISION}; use .as_float()",
            )
        return Kind(EXACT, digits, scale)

    def _refuse(self, term: Term, found: str, wanted: str) -> ColumnTypeError:
        return ColumnTypeError(self._rule, ", ".join(dict.fromkeys(term.columns())), found, wanted)
