"""Self-tests: records made from a rule set's own bounds, to prove that each rule decides something.

A column's candidates are the values at and around the bounds of the rules that read it. A rule
that no candidate passes contradicts itself; one that only a missing value fails says nothing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from .condition import Term
from .errors import BindError, SelfTestError
from .rule import Rule

MOST_COMBINATIONS = 20_000
"""Records tried before a rule counts as one that nothing passes or fails."""

_ARRIVAL = datetime(2026, 11, 23, 12, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_STEP = Decimal("0.00000001")

Record = dict[str, object]


@dataclass(frozen=True, slots=True)
class SelfTest:
    """`valid` records pass every rule; `breakers` holds for each rule's name one that fails it.

    A breaker passes all other rules where such a record was found.
    """

    valid: tuple[Mapping[str, object], ...]
    breakers: Mapping[str, Mapping[str, object]]


def run_self_test(
    name: str, rules: Sequence[Rule], examples: Sequence[Mapping[str, object]]
) -> SelfTest:
    """Return what was found, or raise `SelfTestError` with the rules for which nothing was."""
    valid = [dict(example) for example in examples if _passes(rules, example)]
    made = _find_valid(rules, _candidates(rules, present=True))
    if made is not None:
        valid.append(made)
    if not valid:
        alone = [rule for rule in rules if _find_valid([rule], _candidates([rule], True)) is None]
        raise SelfTestError(name, [rule.name for rule in alone or rules], [])
    breakers = {rule.name: _find_breaker(rule, rules, valid, examples) for rule in rules}
    cannot_fail = [rule for rule, breaker in breakers.items() if breaker is None]
    if cannot_fail:
        raise SelfTestError(name, [], cannot_fail)
    return SelfTest(
        tuple(valid), {rule: breaker for rule, breaker in breakers.items() if breaker is not None}
    )


def _find_valid(rules: Sequence[Rule], candidates: Mapping[str, Sequence[object]]) -> Record | None:
    """Return a record of candidates that passes: single columns first, then those read together."""
    chosen: dict[str, list[object]] = {}
    single = [rule for rule in rules if len(rule.columns) == 1]
    for column, values in candidates.items():
        here = [rule for rule in single if rule.columns == (column,)]
        chosen[column] = [value for value in values if _passes(here, {column: value})]
    record: Record = {column: values[0] for column, values in chosen.items() if values}
    if len(record) < len(chosen):
        return None
    together = [rule for rule in rules if len(rule.columns) > 1]
    columns = list(dict.fromkeys(column for rule in together for column in rule.columns))
    for values in itertools.islice(
        itertools.product(*(chosen[column] for column in columns)), MOST_COMBINATIONS
    ):
        record.update(zip(columns, values, strict=True))
        if _passes(together, record):
            return record
    return None


def _find_breaker(
    rule: Rule, rules: Sequence[Rule], valid: Sequence[Record], examples: Sequence[Any]
) -> Record | None:
    """Return a record that fails the rule, and no other if there is one; only present has NULLs."""
    candidates = _candidates(rules, present=rule.operator != "present")
    found: Record | None = None
    changes = itertools.product(*(candidates[column] for column in rule.columns))
    changed = (
        base | dict(zip(rule.columns, values, strict=True))
        for values in itertools.islice(changes, MOST_COMBINATIONS)
        for base in valid[:3]
    )
    others = [other for other in rules if other is not rule]
    for record in itertools.chain(map(dict, examples), changed):
        if _fails(rule, record):
            if _passes(others, record):
                return record
            found = found or record
    return found


def _passes(rules: Iterable[Rule], record: Mapping[str, object]) -> bool:
    try:
        return all(rule.holds(record) for rule in rules)
    except BindError:  # a candidate of a type that another rule of the column gave
        return False


def _fails(rule: Rule, record: Mapping[str, object]) -> bool:
    try:
        return not rule.holds(record)
    except BindError:
        return False


def _candidates(rules: Sequence[Rule], present: bool) -> dict[str, list[object]]:
    """Return each column's values: what rules of that column ask for, and what is beside it."""
    found: dict[str, list[object]] = {}
    for rule in rules:
        for column in rule.columns:
            found.setdefault(column, [])
        for column, value in _suggest(rule):
            if value not in found[column]:
                found[column].append(value)
    for values in found.values():
        # A column that only present reads may be anything.
        values += [] if values else ["x"]
        values += [] if present else [None]
    return found


def _suggest(rule: Rule) -> Iterator[tuple[str, object]]:
    if rule.operator in ("not_after", "not_before"):
        sign = 1 if rule.operator == "not_after" else -1
        limit = _ARRIVAL + sign * rule.tolerance
        yield from ((str(rule.other), time) for time in [_ARRIVAL])
        yield from ((rule.column, time) for time in (_ARRIVAL, limit, limit + sign * _TICK))
    elif rule.condition is not None:
        yield from _suggest_for_condition(rule.condition)
    elif rule.pattern is not None:
        yield from ((rule.column, text) for text in (write_match(rule.pattern), "", "?", "\n"))
    elif rule.values:
        yield from ((rule.column, value) for value in rule.values)
        text = isinstance(rule.values[0], str)
        yield rule.column, ("".join(map(str, rule.values)) + "?" if text else _unlike(rule.values))
    else:
        for bound in (rule.bound, rule.upper):
            if bound is not None:
                yield from ((rule.column, bound + step) for step in (_STEP, -_STEP, 0, 1, -1))


def _unlike(values: Sequence[Any]) -> int:
    return int(max(values)) + 1


def _suggest_for_condition(condition: Term) -> Iterator[tuple[str, object]]:
    """Return values around every literal of a condition, for every column it reads."""
    literals = list(_literals(condition))
    numbers = [value for value in literals if isinstance(value, Decimal)] or [Decimal(0)]
    around = [number + step for number in numbers for step in (0, _STEP, -_STEP, 1, -1, 1000)]
    spans = [value for value in literals if isinstance(value, timedelta)]
    texts = [value for value in literals if isinstance(value, str)]
    for column in dict.fromkeys(condition.columns()):
        if texts:
            yield from ((column, text) for text in (*texts, "".join(texts) + "?"))
        elif spans:
            steps = [
                timedelta(0),
                *spans,
                *(-span for span in spans),
                *(2 * span for span in spans),
            ]
            yield from (
                (column, _ARRIVAL + step + tick) for step in steps for tick in (0 * _TICK, _TICK)
            )
        else:
            yield from ((column, number) for number in around)
            yield from ((column, float(number)) for number in numbers)
            yield from ((column, value) for value in (True, False, "x", _ARRIVAL))


def _literals(term: Term) -> Iterator[object]:
    if term.operation == "literal":
        yield term.operands[0]
    elif term.operation != "column":
        for operand in term.operands:
            yield from _literals(operand)


def write_match(pattern: str) -> str:
    """Return a short text that a pattern which `check_pattern` accepts matches."""
    # The first alternative of each group, each atom as often as it must be there.
    tree = re._parser.parse(pattern)  # type: ignore[attr-defined]
    return "".join(map(_match_node, tree))


def _match_node(node: tuple[Any, Any]) -> str:
    kind, value = str(node[0]), node[1]
    if kind == "LITERAL":
        return chr(int(value))
    if kind == "NOT_LITERAL":
        return "a" if value != ord("a") else "b"
    if kind == "IN":
        return _match_class(value)
    if kind == "MAX_REPEAT":
        return "".join(map(_match_node, value[2])) * int(value[0])
    if kind == "SUBPATTERN":
        return "".join(map(_match_node, value[-1]))
    return "".join(map(_match_node, value[1][0]))  # the first alternative


def _match_class(items: Sequence[tuple[Any, Any]]) -> str:
    first = items[0]
    if str(first[0]) != "NEGATE":
        return chr(int(first[1][0] if str(first[0]) == "RANGE" else first[1]))
    taken = {
        code
        for item in items[1:]
        for code in (range(item[1][0], item[1][1] + 1) if str(item[0]) == "RANGE" else [item[1]])
    }
    return chr(next(code for code in range(ord("a"), 0x10FFFF) if code not in taken))
