"""Judges: how the frames of one engine get a verdict, and its reasons, from the same rules.

The verdict is narwhals everywhere. Reasons hold values, which engines write in different letters:
SQL engines word them in their own SQL, Polars in expressions, Arrow in Python; and the eager ones
only for rows that failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
from narwhals.stable.v2.dtypes import DType

from .rule import Rule
from .value_text import DUCKDB, SPARK, Dialect, polars_text, write_value
from .verdict import SEPARATOR, TAG_COLUMNS

ROW_COLUMN = "k2_row"
"""Numbers the rows of an eager frame while its tag is put together."""

VERDICT_PREFIX = "k2_rule_"
"""Begins the name of each rule's verdict column."""

TEXT_PREFIX = "k2_text_"
"""Begins the names of columns that hold the words for values."""

_VALID, _FAILED, _REASON, _TYPE, _FLAGGED, _FLAG_REASON = TAG_COLUMNS
_KEY_PREFIX = "k2_rule_key_"
_RULES_PER_KEY = 60
"""Rules whose verdicts are the bits of one 64-bit integer."""

_EMPTY_TEXT = nw.lit(None, nw.String)


@dataclass(frozen=True, slots=True)
class Judge:
    """Rules bound to one schema. `verdicts` are the names of one boolean column per rule."""

    rules: Sequence[Rule]
    schema: Mapping[str, DType]
    verdicts: Sequence[str]

    @property
    def rejecting(self) -> list[tuple[str, Rule]]:
        """Verdict columns and rules that make a row dead."""
        return self._of_severity("reject")

    @property
    def flagging(self) -> list[tuple[str, Rule]]:
        """Verdict columns and rules that a valid row may fail."""
        return self._of_severity("flag")

    def all_hold(self, rules: Sequence[Rule]) -> nw.Expr:
        """Return whether every rule holds; never NULL."""
        if not rules:
            return nw.lit(True)
        verdicts = [rule.verdict(self.schema) for rule in rules]
        # One guard for all: NULL and false is false, NULL and true is NULL.
        return nw.all_horizontal(*verdicts, ignore_nulls=False).fill_null(False)

    def add_verdicts(self, frame: Any) -> Any:
        """Add one column per rule, never NULL."""
        return frame.with_columns(
            rule.expression(self.schema).alias(name)
            for name, rule in zip(self.verdicts, self.rules, strict=True)
        )

    def _of_severity(self, severity: str) -> list[tuple[str, Rule]]:
        pairs = zip(self.verdicts, self.rules, strict=True)
        return [(name, rule) for name, rule in pairs if rule.severity == severity]


def tag_frame(frame: Any, judge: Judge) -> Any:
    """Return the native frame with the tag columns; `frame` is a narwhals frame."""
    dialect = _dialect(frame)
    if dialect is not None:
        columns = [dialect.quote_name(column) for column in judge.schema]
        return _select_sql(
            judge.add_verdicts(frame).to_native(), [*columns, *_word(dialect, judge)]
        )
    if isinstance(frame, nw.LazyFrame):
        tagged = judge.add_verdicts(frame).select(*judge.schema, *_word_lazily(judge))
        return tagged.to_native()
    return _tag_eager(frame, judge).to_native()


def split_frame(frame: Any, judge: Judge, fingerprint: str) -> tuple[Any, Any]:
    """Return the native valid and dead rows of a narwhals frame."""
    dialect = _dialect(frame)
    if dialect is not None:
        return _split_sql(frame, judge, fingerprint, dialect)
    holds = judge.all_hold([rule for _, rule in judge.rejecting])
    if isinstance(frame, nw.LazyFrame):
        judged = frame.with_columns(holds.alias(_VALID))
        valid = judged.filter(nw.col(_VALID)).select(*judge.schema)
        dead = judged.filter(~nw.col(_VALID)).select(*judge.schema)
        worded = judge.add_verdicts(dead).with_columns(_word_lazily(judge))
    else:
        mask = _mask(frame, holds)
        valid, dead = frame.filter(mask), frame.filter(~mask)
        worded = nw.concat([dead, _word_eagerly(dead, judge)], how="horizontal")
    named = worded.select(
        *judge.schema,
        nw.col(_FAILED).alias("failed_rules"),
        nw.col(_REASON).alias("error_reason"),
        nw.col(_TYPE).alias("error_type"),
        nw.lit(fingerprint).alias("rules_fingerprint"),
    )
    return valid.to_native(), named.to_native()


def _tag_eager(frame: Any, judge: Judge) -> Any:
    """Word the rows that fail something, and put them back where they stood."""
    mask = _mask(frame, judge.all_hold(judge.rules))
    rows = frame.with_row_index(ROW_COLUMN).select(ROW_COLUMN)
    failing = [rows.filter(~mask), _word_eagerly(frame.filter(~mask), judge)]
    clean = rows.filter(mask).select(ROW_COLUMN, *_tag_of_pattern((), _written_nowhere))
    tags = nw.concat([clean, nw.concat(failing, how="horizontal")]).sort(ROW_COLUMN)
    return nw.concat([frame, tags.drop(ROW_COLUMN)], how="horizontal")


def _mask(frame: Any, holds: nw.Expr) -> Any:
    # Added, not selected: without a rejecting rule the verdict is one literal.
    return frame.with_columns(holds.alias(_VALID))[_VALID]


def _word_eagerly(frame: Any, judge: Judge) -> Any:
    """Return the tag columns of an eager frame, for each set of rules that fail together at once.

    All but the values is the same for such rows; and there are few sets, however many rows.
    """
    judged, keys = _number_patterns(judge.add_verdicts(frame.with_row_index(ROW_COLUMN)), judge)
    # Polars runs all parts of one plan side by side.
    source = judged.lazy() if judged.implementation.is_polars() else judged
    parts = []
    # Grouped, not `unique`, for which Arrow tables would need NumPy.
    for numbers in judged.group_by(keys).agg(nw.len().alias(_VALID)).select(keys).iter_rows():
        chosen = nw.all_horizontal(
            *(nw.col(key) == number for key, number in zip(keys, numbers, strict=True)),
            ignore_nulls=False,
        )
        failed = [
            rule
            for place, rule in enumerate(judge.rules)
            if numbers[place // _RULES_PER_KEY] >> place % _RULES_PER_KEY & 1
        ]
        read = dict.fromkeys(column for rule in failed for column in rule.columns)
        part = source.select(ROW_COLUMN, *keys, *read).filter(chosen)
        parts.append(_word_pattern(part, judge, failed))
    if not parts:
        return frame.select(*_tag_of_pattern((), _written_nowhere)).head(0)
    tags = nw.concat(parts).sort(ROW_COLUMN).drop(ROW_COLUMN)
    return tags.collect() if isinstance(tags, nw.LazyFrame) else tags


def _number_patterns(judged: Any, judge: Judge) -> tuple[Any, list[str]]:
    """Add whole numbers whose bits say which rules failed."""
    keys = [f"{_KEY_PREFIX}{number}" for number in range(-(-len(judge.rules) // _RULES_PER_KEY))]
    numbers = []
    for start, key in zip(range(0, len(judge.rules), _RULES_PER_KEY), keys, strict=True):
        verdicts = judge.verdicts[start : start + _RULES_PER_KEY]
        bits = [(~nw.col(name)).cast(nw.Int64) * 2**bit for bit, name in enumerate(verdicts)]
        numbers.append(nw.sum_horizontal(*bits).alias(key))
    return judged.with_columns(*numbers), keys


def _word_pattern(part: Any, judge: Judge, failed: Sequence[Rule]) -> Any:
    """Return row number and tag columns of rows that all failed the same rules."""
    if not part.implementation.is_pyarrow():

        def text(column: str) -> nw.Expr:
            return polars_text(column, judge.schema[column])

        return part.select(ROW_COLUMN, *_tag_of_pattern(failed, text))
    # Arrow writes decimals with exponents, and has no other words for them: Python has.
    columns = list(dict.fromkeys(column for rule in failed for column in rule.columns))
    texts = {column: f"{TEXT_PREFIX}{number}" for number, column in enumerate(columns)}
    written = [
        nw.new_series(name, [write_value(v) for v in part[column]], nw.String, backend="pyarrow")
        for column, name in texts.items()
    ]
    words = _tag_of_pattern(failed, lambda column: nw.col(texts[column]))
    return part.with_columns(*written).select(ROW_COLUMN, *words)


def _written_nowhere(column: str) -> nw.Expr:
    raise AssertionError(f"nothing failed, yet {column} is written")


def _tag_of_pattern(failed: Sequence[Rule], text: Callable[[str], nw.Expr]) -> list[nw.Expr]:
    """Return the tag columns of rows that fail these rules and no other."""
    rejecting = [rule for rule in failed if rule.severity == "reject"]
    flagging = [rule for rule in failed if rule.severity == "flag"]

    def names(rules: Sequence[Rule]) -> nw.Expr:
        return nw.lit(SEPARATOR.join(rule.name for rule in rules)) if rules else _EMPTY_TEXT

    def reasons(rules: Sequence[Rule]) -> nw.Expr:
        if not rules:
            return _EMPTY_TEXT
        parts, between = [], ""
        for rule in rules:
            for before, column in _found(rule):
                parts += [nw.lit(between + before), nw.coalesce(text(column), nw.lit("NULL"))]
                between = ""
            between = SEPARATOR
        return nw.concat_str(*parts)

    return [
        nw.lit(not rejecting).alias(_VALID),
        names(rejecting).alias(_FAILED),
        reasons(rejecting).alias(_REASON),
        (nw.lit(rejecting[0].error_type) if rejecting else _EMPTY_TEXT).alias(_TYPE),
        names(flagging).alias(_FLAGGED),
        reasons(flagging).alias(_FLAG_REASON),
    ]


def _word_lazily(judge: Judge) -> list[nw.Expr]:
    """Return the tag columns as expressions over verdict columns, for a Polars plan."""

    def reason(rule: Rule) -> nw.Expr:
        parts: list[nw.Expr] = []
        for before, column in _found(rule):
            value = polars_text(column, judge.schema[column])
            parts += [nw.lit(before), nw.coalesce(value, nw.lit("NULL"))]
        return nw.concat_str(*parts)

    def join(pairs: Sequence[tuple[str, Rule]], word: Callable[[Rule], nw.Expr]) -> nw.Expr:
        if not pairs:
            return _EMPTY_TEXT
        words = [nw.when(~nw.col(name)).then(word(rule)) for name, rule in pairs]
        joined = nw.concat_str(*words, separator=SEPARATOR, ignore_nulls=True)
        # Joined NULLs are empty text, not NULL.
        failed = ~nw.all_horizontal(*(nw.col(name) for name, _ in pairs), ignore_nulls=False)
        return nw.when(failed).then(joined)

    rejecting, flagging = judge.rejecting, judge.flagging
    valid, first = nw.lit(True), _EMPTY_TEXT
    if rejecting:
        valid = nw.all_horizontal(*(nw.col(name) for name, _ in rejecting), ignore_nulls=False)
        first = nw.coalesce(
            *(nw.when(~nw.col(name)).then(nw.lit(rule.error_type)) for name, rule in rejecting)
        )
    return [
        valid.alias(_VALID),
        join(rejecting, lambda rule: nw.lit(rule.name)).alias(_FAILED),
        join(rejecting, reason).alias(_REASON),
        first.alias(_TYPE),
        join(flagging, lambda rule: nw.lit(rule.name)).alias(_FLAGGED),
        join(flagging, reason).alias(_FLAG_REASON),
    ]


def _found(rule: Rule) -> list[tuple[str, str]]:
    """Return what stands before each value of a reason, and the value's column."""
    columns = rule.columns
    start = f"{rule.name}: {rule.message}, found "
    if len(columns) == 1:
        return [(start, columns[0])]
    heads = [start, *[", "] * (len(columns) - 1)]
    return [(f"{head}{column}=", column) for head, column in zip(heads, columns, strict=True)]


def _dialect(frame: Any) -> Dialect | None:
    if frame.implementation.is_duckdb():
        return DUCKDB
    return SPARK if frame.implementation.is_spark_like() else None


def _select_sql(native: Any, columns: Sequence[str]) -> Any:
    # One call of the session for all columns: each expression built from Python costs several.
    if hasattr(native, "selectExpr"):
        return native.selectExpr(*columns)
    return native.project(", ".join(columns))


def _split_sql(frame: Any, judge: Judge, fingerprint: str, dialect: Dialect) -> tuple[Any, Any]:
    judged = judge.add_verdicts(frame).to_native()
    columns = [dialect.quote_name(column) for column in judge.schema]
    valid = _all_sql(judge.rejecting)
    _, failed, reason, error_type, _, _ = _word(dialect, judge)
    dead_columns = [
        f"{_before_as(failed)} AS failed_rules",
        f"{_before_as(reason)} AS error_reason",
        f"{_before_as(error_type)} AS error_type",
        f"'{fingerprint}' AS rules_fingerprint",
    ]
    return (
        _select_sql(judged.filter(valid), columns),
        _select_sql(judged.filter(f"NOT ({valid})"), [*columns, *dead_columns]),
    )


def _before_as(column: str) -> str:
    return column.rpartition(" AS ")[0]


def _word(dialect: Dialect, judge: Judge) -> list[str]:
    """Return the tag columns as SQL over verdict columns."""
    text = dialect.quote_text

    def reason(rule: Rule) -> str:
        parts = [
            f"{text(before)}, coalesce({dialect.text(column, judge.schema[column])}, 'NULL')"
            for before, column in _found(rule)
        ]
        return f"concat({', '.join(parts)})"

    def join(pairs: Sequence[tuple[str, Rule]], word: Callable[[Rule], str]) -> str:
        if not pairs:
            return f"CAST(NULL AS {dialect.text_type})"
        words = [f"CASE WHEN NOT {name} THEN {word(rule)} END" for name, rule in pairs]
        joined = f"concat_ws('{SEPARATOR}', {', '.join(words)})"
        return f"CASE WHEN NOT ({_all_sql(pairs)}) THEN {joined} END"

    rejecting, flagging = judge.rejecting, judge.flagging
    types = " ".join(f"WHEN NOT {name} THEN {text(rule.error_type)}" for name, rule in rejecting)
    return [
        f"{_all_sql(rejecting)} AS {_VALID}",
        f"{join(rejecting, lambda rule: text(rule.name))} AS {_FAILED}",
        f"{join(rejecting, reason)} AS {_REASON}",
        f"{f'CASE {types} END' if types else join((), reason)} AS {_TYPE}",
        f"{join(flagging, lambda rule: text(rule.name))} AS {_FLAGGED}",
        f"{join(flagging, reason)} AS {_FLAG_REASON}",
    ]


def _all_sql(pairs: Sequence[tuple[str, Rule]]) -> str:
    return f"({' AND '.join(name for name, _ in pairs)})" if pairs else "(1 = 1)"
