"""Rule files: a rule set as TOML, read without evaluating anything."""

from __future__ import annotations

import difflib
import inspect
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from . import builders
from .errors import RuleDefinitionError, RuleFileError
from .operations import OPERATIONS, write_span
from .rule import Rule
from .value_text import write_number

_SPAN = re.compile(r"(\d+)(us|ms|s|min|h|d)", re.ASCII)
_UNITS = {
    "us": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_OPTIONS = {"name", "error_type", "severity"}
_NUMBERS = {"bound", "lower", "upper"}
_SPANS = {"tolerance", "age"}


def read_rules(text: str, custom: Iterable[Rule]) -> tuple[str, list[Rule]]:
    """Return name and rules of a TOML text; raise `RuleFileError` naming rule and key."""
    try:
        # Text for numbers: a float on the way would not be the number that is written.
        content = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise RuleFileError("rules", f"not TOML: {error}", "mend the syntax") from None
    _check_keys("the rule set", content, {"name", "rules"}, {"name", "rules"})
    name, tables = content["name"], content["rules"]
    if not isinstance(name, str) or not isinstance(tables, list):
        raise RuleFileError(
            "rules", "`name` is not a text or `rules` no list", "write [[rules]] before each rule"
        )
    customs = {rule.name: rule for rule in custom}
    return name, [_read_rule(number, table, customs) for number, table in enumerate(tables, 1)]


def _read_rule(number: int, table: object, customs: Mapping[str, Rule]) -> Rule:
    place = f"rule {number}"
    if not isinstance(table, dict):
        raise RuleFileError(place, f"{table!r} is not a table", "write [[rules]] before each rule")
    if "custom" in table:
        _check_keys(place, table, {"custom"}, {"custom"})
        if table["custom"] not in customs:
            raise RuleFileError(
                place,
                f"custom rule {table['custom']!r} is not among {', '.join(customs) or 'none'}",
                "pass it: from_toml(text, custom=[…])",
            )
        return customs[table["custom"]]
    operator = str(table.get("rule", ""))
    if operator not in OPERATIONS:
        found = f"unknown rule {operator!r}" if operator else "no `rule`"
        raise RuleFileError(place, found, _suggest(operator, OPERATIONS))
    place = f"{place} ({operator} of {table.get('column')!r})"
    build: Callable[..., Rule] = getattr(builders, operator)
    parameters = inspect.signature(build).parameters.values()
    known = {parameter.name for parameter in parameters}
    required = {
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty or parameter.kind is parameter.VAR_POSITIONAL
    }
    arguments = {key: value for key, value in table.items() if key != "rule"}
    _check_keys(place, arguments, known, required)
    values: dict[str, Any] = {
        key: _read_value(place, key, value) for key, value in arguments.items()
    }
    try:
        return build(values.pop("column"), *values.pop("values", ()), **values)
    except RuleFileError:
        raise
    except RuleDefinitionError as error:
        raise RuleFileError(f"{place} {error.name}", error.reason, error.remedy) from None


def _read_value(place: str, key: str, value: object) -> object:
    """Return the argument that a TOML value stands for."""
    wanted = "a text"
    if key in _NUMBERS:
        if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
            return value
        wanted = "a number"
    elif key in _SPANS:
        match = _SPAN.fullmatch(value) if isinstance(value, str) else None
        if match is not None and len(match[1]) < 15:
            return int(match[1]) * _UNITS[match[2]]
        wanted = "a time span such as '5s', '1500ms' or '365d'"
    elif key == "values":
        if isinstance(value, list) and all(_is_value(item) for item in value):
            return value
        wanted = "a list of texts or of whole numbers"
    elif isinstance(value, str) or (key == "value" and _is_value(value)):
        return value
    found = f"{type(value).__name__} {value!s}"
    raise RuleFileError(place, f"`{key}` wants {wanted} and found {found}", "mend the value")


def _is_value(value: object) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _check_keys(
    place: str, table: Mapping[str, Any], known: Iterable[str], required: Iterable[str]
) -> None:
    for key in table:
        if key not in known:
            raise RuleFileError(place, f"unknown key {key!r}", _suggest(key, sorted(known)))
    missing = sorted(set(required) - set(table))
    if missing:
        raise RuleFileError(place, f"lacks {', '.join(missing)}", "add it")


def _suggest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(known)}"


def write_rules(name: str, rules: Sequence[Rule]) -> str:
    """Return rules as TOML, options only where they are not the default."""
    tables = [f"name = {_quote(name)}\n"]
    for rule in rules:
        if rule.operator == "custom":
            tables.append(f"[[rules]]\ncustom = {_quote(rule.name)}\n")
            continue
        lines = [f"rule = {_quote(rule.operator)}", f"column = {_quote(rule.column)}"]
        lines += [f"{key} = {value}" for key, value in _write_operands(rule).items()]
        plain = _read_rule(1, tomllib.loads("\n".join(lines), parse_float=Decimal), {})
        lines += [
            f"{option} = {_quote(getattr(rule, option))}"
            for option in ("name", "error_type", "severity")
            if getattr(rule, option) != getattr(plain, option)
        ]
        tables.append("\n".join(["[[rules]]", *lines, ""]))
    return "\n".join(tables)


def _write_operands(rule: Rule) -> dict[str, str]:
    operands: dict[str, str] = {}
    if rule.bound is not None:
        operands["lower" if rule.upper is not None else "bound"] = write_number(rule.bound)
    if rule.upper is not None:
        operands["upper"] = write_number(rule.upper)
    if rule.operator == "equals":
        operands["value"] = _quote(rule.values[0])
    elif rule.values:
        operands["values"] = f"[{', '.join(map(_quote, rule.values))}]"
    if rule.pattern is not None:
        operands["pattern"] = _quote(rule.pattern)
    if rule.other is not None:
        operands["other"] = _quote(rule.other)
    if rule.tolerance:
        key = "age" if rule.operator == "not_before" else "tolerance"
        operands[key] = _quote(write_span(rule.tolerance))
    return operands


def _quote(value: str | int) -> str:
    """Write a TOML value: JSON's strings are TOML's, except for one character."""
    return json.dumps(value).replace("\x7f", "\\u007f")
