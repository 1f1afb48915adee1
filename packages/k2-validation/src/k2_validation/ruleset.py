"""RuleSet: rules with a name, applied to frames of any engine or to single records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import narwhals.stable.v2 as nw
from narwhals.stable.v2.dtypes import DType

from .errors import ColumnCollisionError, RuleDefinitionError, UnsupportedFrameError
from .judge import ROW_COLUMN, TEXT_PREFIX, VERDICT_PREFIX, Judge, split_frame, tag_frame
from .record import RecordChecker
from .report import RuleReport, count_patterns
from .rule import Rule
from .rule_file import read_rules, write_rules
from .self_test import SelfTest, run_self_test
from .value_text import SPARK
from .verdict import DEAD_COLUMNS, SEPARATOR, TAG_COLUMNS, Failure, FrameT, Split

if TYPE_CHECKING:
    from k2_schemas import Trade

ENGINES = ("polars", "pyarrow", "duckdb", "pyspark", "pyspark[connect]")
"""Engines on which equal data gives equal verdicts. NumPy-backed pandas does not: NULL is NaN."""


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

    @classmethod
    def from_toml(cls, text: str, custom: Iterable[Rule] = ()) -> RuleSet:
        """Return the rule set that a TOML text says; it has the fingerprint of the same in code.

        `custom` are rules made with `rule`, which the text names but cannot define. Raises
        `RuleFileError` for anything the text says that is not a rule set.
        """
        return cls(*read_rules(text, custom))

    @classmethod
    def load(cls, path: Path | str, custom: Iterable[Rule] = ()) -> RuleSet:
        """Return the rule set of a TOML file, as `from_toml` does."""
        return cls.from_toml(Path(path).read_text(encoding="utf-8"), custom)

    def to_toml(self) -> str:
        """Return the rule set as TOML that `from_toml` reads back, custom rules by name."""
        return write_rules(self.name, self.rules)

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
        self._bind(lift(frame).collect_schema(), TAG_COLUMNS)

    def tag(self, frame: FrameT) -> FrameT:
        """Return the frame, of the same type, with the verdict in six more columns.

        `k2_valid` is a bool and never NULL. `k2_failed_rules` joins the names of all failed rules
        in declared order with "; ", `k2_error_reason` what each demanded and found, e.g.
        `price_gt_0: price must be > 0, found -1.5`. `k2_error_type` is that of the first. All
        three are NULL on a valid row. `k2_flagged_rules` and `k2_flag_reason` say the same of
        failed rules of severity `flag`. Lazy and streaming frames stay so.
        """
        lifted = lift(frame)
        return cast(FrameT, tag_frame(lifted, self._judge(lifted, TAG_COLUMNS)))

    def split(self, frame: FrameT) -> Split[FrameT]:
        """Return the valid rows and the dead rows, both of the frame's own type.

        Valid rows keep the input columns; dead rows have `failed_rules`, `error_reason`,
        `error_type` and `rules_fingerprint` besides. On a lazy engine each half is a plan: whoever
        runs both evaluates the input twice, so persist it, or use `tag`, if it is expensive.
        """
        lifted = lift(frame)
        judge = self._judge(lifted, TAG_COLUMNS + DEAD_COLUMNS)
        valid, dead = split_frame(lifted, judge, self.fingerprint)
        return Split(cast(FrameT, valid), cast(FrameT, dead))

    def check(self, record: Mapping[str, object] | Trade) -> tuple[Failure, ...]:
        """Return every failed rule in declared order; nothing of severity `reject` means valid.

        The verdict is the one a frame holding this record would get. Raises `MissingColumnError`
        for an absent key, `ColumnTypeError` for a value of another type and
        `UnsupportedRecordError` for what is neither a mapping nor a Trade.
        """
        return self._checker.check(record)

    def report(self, frame: object) -> RuleReport:
        """Return counts, samples and co-occurrence of failures, from one pass over the frame.

        Takes a frame, or one that `tag` returned. Printed, it is a text for people.
        """
        tagged = frame if _is_tagged(frame) else self.tag(frame)
        return count_patterns(lift(tagged), self.name, self.fingerprint, self.rules)

    @cached_property
    def counters(self) -> Mapping[str, str]:
        """Spark SQL aggregates over a tagged frame, by name: `input`, `valid`, `dead`, each rule.

        For counting in the pass that writes the frame: with Spark
        `tagged.observe("k2", *(F.expr(f"{sql} AS `{name}`") for name, sql in counters.items()))`.
        """
        counters = {
            "input": "count(1)",
            "valid": "count(CASE WHEN k2_valid THEN 1 END)",
            "dead": "count(CASE WHEN NOT k2_valid THEN 1 END)",
        }
        for rule in self.rules:
            column = "k2_failed_rules" if rule.severity == "reject" else "k2_flagged_rules"
            # Each name between separators, so that no name is found inside another.
            name = SPARK.quote_text(SEPARATOR + rule.name + SEPARATOR)
            joined = f"concat('{SEPARATOR}', {column}, '{SEPARATOR}')"
            counters[rule.name] = f"count(CASE WHEN position({name} IN {joined}) > 0 THEN 1 END)"
        return counters

    def self_test(self, examples: Sequence[Mapping[str, object]] = ()) -> SelfTest:
        """Prove that each rule can pass and can fail; return valid records and one breaker a rule.

        Records are generated from the rules' own bounds; `examples` are tried besides, for custom
        rules that no generated record reaches. Raises `SelfTestError` naming the rules that
        nothing passes or nothing but a missing value fails.
        """
        return run_self_test(self.name, self.rules, examples)

    @cached_property
    def _checker(self) -> RecordChecker:
        return RecordChecker(self.rules)

    @cached_property
    def _verdict_columns(self) -> tuple[str, ...]:
        """One name per rule, for the columns that are computed on the way."""
        return tuple(f"{VERDICT_PREFIX}{number}" for number in range(len(self.rules)))

    def _judge(self, frame: nw.LazyFrame[Any], added: Sequence[str]) -> Judge:
        schema = frame.collect_schema()
        self._bind(schema, added)
        return Judge(self.rules, schema, self._verdict_columns)

    def _bind(self, schema: Mapping[str, DType], added: Sequence[str]) -> None:
        taken = (*added, ROW_COLUMN)
        for column in schema:
            # DuckDB and Spark compare names without case.
            if column.lower() in taken or column.lower().startswith((VERDICT_PREFIX, TEXT_PREFIX)):
                raise ColumnCollisionError(column, added)
        for rule in self.rules:
            rule.bind(schema)


def redrive(dead: FrameT, rules: RuleSet) -> Split[FrameT]:
    """Judge the dead rows of `RuleSet.split` again, with today's rules.

    What the first verdict added is taken off; rows that are dead again carry today's reasons and
    fingerprint. Every row comes out once.
    """
    lifted = lift(dead)
    added = [column for column in lifted.collect_schema() if column in DEAD_COLUMNS]
    return rules.split(cast(FrameT, lifted.drop(added).to_native()))


def lift(frame: object) -> nw.LazyFrame[Any]:
    """Wrap a native frame. Eager frames are typed as lazy here: we use only what both can do."""
    try:
        lifted: Any = nw.from_native(cast(Any, frame))
    except TypeError:
        raise UnsupportedFrameError(type(frame).__name__, ENGINES) from None
    if lifted.implementation.value not in ENGINES:
        raise UnsupportedFrameError(f"a {lifted.implementation.value} frame", ENGINES)
    return cast("nw.LazyFrame[Any]", lifted)


def _is_tagged(frame: object) -> bool:
    return set(TAG_COLUMNS) <= set(lift(frame).collect_schema())
