"""RuleSet: rules with a name, applied to frames of any engine or to single records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, Generic, NamedTuple, TypeVar, cast

import narwhals.stable.v2 as nw
from narwhals.stable.v2.dtypes import DType

from .errors import ColumnCollisionError, RuleDefinitionError, UnsupportedFrameError
from .rule import ErrorType, Rule

TAG_COLUMNS = ("k2_valid", "k2_error_reason", "k2_error_type")
"""What `RuleSet.tag` adds."""

DEAD_COLUMNS = ("error_reason", "error_type", "rules_fingerprint")
"""What `RuleSet.split` adds to dead rows, named as in the dead-letter table."""

REASON_SEPARATOR = "; "

ENGINES = ("polars", "pyarrow", "duckdb", "pyspark", "pyspark[connect]")
"""Engines on which equal data gives equal verdicts. NumPy-backed pandas does not: NULL is NaN."""

FrameT = TypeVar("FrameT")


class Split(NamedTuple, Generic[FrameT]):
    """Both halves of a frame; every input row is in exactly one of them."""

    valid: FrameT
    dead: FrameT


@dataclass(frozen=True, slots=True)
class Failure:
    """One rule that one record failed; as text it is the rule's part of the error reason."""

    rule: str
    column: str
    error_type: ErrorType
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


@dataclass(frozen=True, init=False)
class RuleSet:
    """Rules in a declared order, under one name.

    Raises `RuleDefinitionError` for no rules at all or two rules of one name.
    """

    name: str
    rules: tuple[Rule, ...]

    def __init__(self, name: str, rules: Iterable[Rule]) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "rules", tuple(rules))
        if not name or not self.rules:
            raise RuleDefinitionError(
                name, "a rule set without name or rules", "without rules every row would be valid"
            )
        names = [rule.name for rule in self.rules]
        for rule_name in names:
            if names.count(rule_name) > 1:
                raise RuleDefinitionError(
                    name, f"two rules are named {rule_name}", "drop or rename one of them"
                )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the name and of what each rule says, in order.

        Equal in every process and on every machine; another after any change of meaning.
        """
        content = {
            "format": 1,
            "name": self.name,
            "rules": [rule.canonical() for rule in self.rules],
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return sha256(text.encode()).hexdigest()

    def bind(self, frame: object) -> None:
        """Raise a `BindError` if any rule could not judge this frame; read no row of it.

        Checked are the engine, the presence and type of each column, and that no column has a name
        that `tag` adds. `tag` and `split` do this themselves.
        """
        self._bind(_lift(frame).collect_schema(), TAG_COLUMNS)

    def tag(self, frame: FrameT) -> FrameT:
        """Return the frame, of the same type, with the verdict in three more columns.

        `k2_valid` is a bool and never NULL. `k2_error_reason` joins every failed rule in declared
        order with "; ", e.g. `price_gt_0: price must be > 0`. `k2_error_type` is that of the first
        failed rule. Both are NULL on a valid row. Lazy and streaming frames stay so.
        """
        lifted = _lift(frame)
        schema = lifted.collect_schema()
        self._bind(schema, TAG_COLUMNS)
        return cast(FrameT, self._tag(lifted, schema).to_native())

    def split(self, frame: FrameT) -> Split[FrameT]:
        """Return the valid rows and the dead rows, both of the frame's own type.

        Valid rows keep the input columns; dead rows have `error_reason`, `error_type` and
        `rules_fingerprint` besides. On a lazy engine each half is a plan: whoever runs both
        evaluates the input twice, so persist it, or use `tag`, if it is expensive.
        """
        lifted = _lift(frame)
        schema = lifted.collect_schema()
        self._bind(schema, TAG_COLUMNS + DEAD_COLUMNS)
        inputs = list(schema)
        valid_name, reason_name, type_name = TAG_COLUMNS
        tagged = self._tag(lifted, schema)
        valid = tagged.filter(nw.col(valid_name)).select(inputs)
        dead = tagged.filter(~nw.col(valid_name)).select(
            *inputs,
            nw.col(reason_name).alias("error_reason"),
            nw.col(type_name).alias("error_type"),
            nw.lit(self.fingerprint).alias("rules_fingerprint"),
        )
        return Split(cast(FrameT, valid.to_native()), cast(FrameT, dead.to_native()))

    def check(self, record: Mapping[str, object]) -> tuple[Failure, ...]:
        """Return every failed rule in declared order; empty means valid.

        The verdict is the one a frame holding this record would get. Raises `MissingColumnError`
        for an absent key and `ColumnTypeError` for a value of another type.
        """
        return tuple(
            failure
            for rule, failure in zip(self.rules, self._failures, strict=True)
            if not rule.holds(record)
        )

    @cached_property
    def _failures(self) -> tuple[Failure, ...]:
        return tuple(Failure(r.name, r.column, r.error_type, r.message) for r in self.rules)

    def _bind(self, schema: Mapping[str, DType], added: Sequence[str]) -> None:
        taken = (*added, *self._verdict_columns)
        for column in schema:
            # DuckDB and Spark compare names without case.
            if column.lower() in taken:
                raise ColumnCollisionError(column, added)
        for rule in self.rules:
            rule.bind(schema)

    @cached_property
    def _verdict_columns(self) -> tuple[str, ...]:
        """One name per rule, for the columns that `_tag` computes on its way."""
        return tuple(f"k2_rule_{number}" for number in range(len(self.rules)))

    def _tag(self, frame: nw.LazyFrame[Any], schema: Mapping[str, DType]) -> nw.LazyFrame[Any]:
        valid_name, reason_name, type_name = TAG_COLUMNS
        # One column per rule first, so that no engine computes a verdict three times.
        judged = frame.with_columns(
            rule.expression(schema).alias(name)
            for rule, name in zip(self.rules, self._verdict_columns, strict=True)
        )
        verdicts = [nw.col(name) for name in self._verdict_columns]
        reasons = _texts_of_failed(verdicts, [str(failure) for failure in self._failures])
        types = _texts_of_failed(verdicts, [failure.error_type for failure in self._failures])
        valid = nw.all_horizontal(*verdicts, ignore_nulls=False)
        reason = nw.concat_str(reasons, separator=REASON_SEPARATOR, ignore_nulls=True)
        return judged.select(
            *schema,
            valid.alias(valid_name),
            # Joined NULLs are empty text, not NULL.
            nw.when(~valid).then(reason).alias(reason_name),
            nw.coalesce(*types).alias(type_name),
        )


def _texts_of_failed(verdicts: Sequence[nw.Expr], texts: Sequence[str]) -> list[nw.Expr]:
    """Return one expression per rule: its text where the rule failed, else NULL."""
    return [
        nw.when(~verdict).then(nw.lit(text)) for verdict, text in zip(verdicts, texts, strict=True)
    ]


def _lift(frame: object) -> nw.LazyFrame[Any]:
    """Wrap a native frame. Eager frames are typed as lazy here: we use only what both can do."""
    try:
        lifted: Any = nw.from_native(cast(Any, frame))
    except TypeError:
        raise UnsupportedFrameError(type(frame).__name__, ENGINES) from None
    if lifted.implementation.value not in ENGINES:
        raise UnsupportedFrameError(f"a {lifted.implementation.value} frame", ENGINES)
    return cast("nw.LazyFrame[Any]", lifted)
