"""Contract: what may change between two versions of a schema, meaning included.

Avro's own checkers and the registries compare bytes, not meanings: scale 8 → 4, microseconds →
milliseconds and a dropped logicalType all pass as compatible there, with an identical canonical
form, and multiply or divide every value in silence (measured: Apicurio 3.3.3, apache avro 1.12).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .avro import SchemaSource, parse_source


class Severity(StrEnum):
    """How bad a change is for what was written before it, or by those who lag behind."""

    BREAKING = "breaking"
    """Old records are misread or not read, or old readers misread new ones."""
    RISKY = "risky"
    """Every record is read; some reader may still be surprised."""
    SAFE = "safe"
    """Nothing is read differently."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One change, at a path such as `price` or `legs[].quantity`."""

    severity: Severity
    path: str
    change: str
    consequence: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.path}: {self.change}; {self.consequence}"


def check(old: SchemaSource, new: SchemaSource) -> tuple[Finding, ...]:
    """Return every change from `old` to `new`, the worst first; equal schemas have none.

    Raises `SchemaParseError` when either is no schema.
    """
    before, after = parse_source(old), parse_source(new)
    findings = _Comparison(before, after).compare(before, after, "")
    order = list(Severity)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))


_PROMOTIONS = {
    ("int", "long"),
    ("int", "float"),
    ("int", "double"),
    ("long", "float"),
    ("long", "double"),
    ("float", "double"),
    ("string", "bytes"),
    ("bytes", "string"),
}
_ROUNDING = {("int", "float"), ("long", "float"), ("long", "double")}
_UNITS = {"millis": 10**3, "micros": 10**6, "nanos": 10**9}


class _Comparison:
    """Walks two parsed schemas side by side; a pair of named types is walked once."""

    def __init__(self, old: Any, new: Any) -> None:
        # All of them first: a name may stand where its definition is not walked on this side.
        self._old_named = dict(_list_named(old))
        self._new_named = dict(_list_named(new))
        self._walked: set[tuple[str, str]] = set()

    def compare(self, old: Any, new: Any, path: str) -> Iterator[Finding]:
        if isinstance(old, list) or isinstance(new, list):
            yield from self._compare_unions(old, new, path)
            return
        old, new = _resolve(old, self._old_named), _resolve(new, self._new_named)
        if old["type"] != new["type"]:
            yield from _compare_types(old["type"], new["type"], path)
            return
        yield from _compare_logical(old, new, path)
        if "name" in old:
            pair = (old["name"], new["name"])
            if pair in self._walked:
                return
            self._walked.add(pair)
            yield from _compare_names(old, new, path)
        match old["type"]:
            case "record":
                yield from self._compare_records(old, new, path)
            case "enum":
                yield from _compare_enums(old, new, path)
            case "fixed" if old["size"] != new["size"]:
                yield _breaking(path, f"size {old['size']} → {new['size']}", "bytes shift")
            case "array":
                yield from self.compare(old["items"], new["items"], f"{path}[]")
            case "map":
                yield from self.compare(old["values"], new["values"], f"{path}{{}}")

    def _compare_records(self, old: Any, new: Any, path: str) -> Iterator[Finding]:
        old_fields = {field["name"]: field for field in old["fields"]}
        new_fields = {field["name"]: field for field in new["fields"]}
        renamed = {
            alias: name for name, field in new_fields.items() for alias in field.get("aliases", ())
        }
        for name, field in old_fields.items():
            place = _join(path, name)
            if name in new_fields:
                yield from self._compare_fields(field, new_fields[name], place)
            elif name in renamed:
                what = f"renamed to {renamed[name]}"
                if renamed[name] in old_fields:
                    yield _breaking(place, what, "its values take the place of that field's own")
                else:
                    yield _risky(place, what, "readers by the old name find nothing")
                yield from self._compare_fields(field, new_fields[renamed[name]], place)
            elif "default" in field:
                yield _risky(place, "removed", "old readers see its default instead of a value")
            else:
                yield _breaking(place, "removed, without default", "old readers fail")
        for name, field in new_fields.items():
            if name in old_fields or set(field.get("aliases", ())) & set(old_fields):
                continue
            if "default" in field:
                yield Finding(
                    Severity.SAFE, _join(path, name), "added", "old records have its default"
                )
            else:
                yield _breaking(_join(path, name), "added without default", "old records fail")
        common = [name for name in old_fields if name in new_fields]
        if common != [name for name in new_fields if name in old_fields]:
            what = "fields in another order"
            yield _risky(
                path or "record", what, "whoever decodes without the writer's schema fails"
            )

    def _compare_fields(self, old: Any, new: Any, path: str) -> Iterator[Finding]:
        yield from self.compare(old["type"], new["type"], path)
        if ("default" in old) != ("default" in new):
            what = "default removed" if "default" in old else "default added"
            yield _risky(path, what, "readers of records that lack the field behave differently")
        elif old.get("default") != new.get("default"):
            what = f"default {old.get('default')!r} → {new.get('default')!r}"
            yield _risky(path, what, "records that lack the field change their meaning")

    def _compare_unions(self, old: Any, new: Any, path: str) -> Iterator[Finding]:
        old_branches = old if isinstance(old, list) else [old]
        new_branches = new if isinstance(new, list) else [new]
        old_by_name = {_branch_name(branch): branch for branch in old_branches}
        new_by_name = {_branch_name(branch): branch for branch in new_branches}
        shared = old_by_name.keys() & new_by_name.keys()
        for name in sorted(shared):
            yield from self.compare(old_by_name[name], new_by_name[name], path)
        if len(old_by_name) == len(new_by_name) == 2 and "null" in shared:
            (before,) = old_by_name.keys() - {"null"}
            (after,) = new_by_name.keys() - {"null"}
            if before != after:
                yield from self.compare(old_by_name[before], new_by_name[after], path)
                if list(old_by_name).index("null") != list(new_by_name).index("null"):
                    what = "union branches in another order"
                    yield _risky(path, what, "readers need the writer's schema")
                return
        yield from _compare_branches(list(old_by_name), list(new_by_name), path)
        if isinstance(old, list) != isinstance(new, list):
            what = "became a union" if isinstance(new, list) else "is no union any more"
            yield _risky(path, what, "the bytes differ: readers need the writer's schema")


def _compare_branches(old: list[str], new: list[str], path: str) -> Iterator[Finding]:
    for name in old:
        if name not in new:
            yield _breaking(path, f"no longer {name}", "old records that hold one fail")
    for name in new:
        if name not in old:
            yield _breaking(path, f"may now be {name}", "old readers fail on new records")
    if sorted(old) == sorted(new) and old != new:
        yield _risky(path, "union branches in another order", "readers need the writer's schema")


def _compare_types(old: str, new: str, path: str) -> Iterator[Finding]:
    change = f"{old} → {new}"
    if (old, new) in _ROUNDING:
        yield _breaking(path, change, "large numbers are rounded in silence")
    elif (old, new) in _PROMOTIONS:
        yield _breaking(path, change, "new readers take old records, old readers fail on new ones")
    else:
        yield _breaking(path, change, "old records fail")


def _compare_logical(old: Any, new: Any, path: str) -> Iterator[Finding]:
    before, after = old.get("logicalType"), new.get("logicalType")
    if before != after:
        yield _breaking(path, _name_logical(before, after), _logical_consequence(before, after))
    elif before == "decimal":
        scale = old.get("scale", 0), new.get("scale", 0)
        if scale[0] != scale[1]:
            factor = 10 ** abs(scale[0] - scale[1])
            what = f"decimal scale {scale[0]} → {scale[1]}"
            yield _breaking(path, what, f"old values are misread by a factor of {factor:,}")
        digits = old.get("precision", 0), new.get("precision", 0)
        what = f"decimal precision {digits[0]} → {digits[1]}"
        if digits[0] > digits[1]:
            yield _breaking(path, what, "old values may not fit")
        elif digits[0] < digits[1]:
            yield _risky(path, what, "new values may not fit where old readers put them")


def _name_logical(before: str | None, after: str | None) -> str:
    if after is None:
        return f"logicalType {before} dropped"
    return f"logicalType {after} added" if before is None else f"{before} → {after}"


def _logical_consequence(before: str | None, after: str | None) -> str:
    units = [
        _UNITS.get((name or "").rpartition("-")[2])
        for name in (before, after)
        if name and "time" in name
    ]
    if len(units) == 2 and None not in units:
        factor = max(units) // min(units)  # type: ignore[type-var, operator]
        if factor > 1:
            return f"old times are misread by a factor of {factor:,}"
    return "the same bytes mean something else, and no Avro checker says so"


def _compare_names(old: Any, new: Any, path: str) -> Iterator[Finding]:
    if old["name"] == new["name"]:
        return
    change = f"{old['type']} {old['name']} → {new['name']}"
    if old["name"] in new.get("aliases", ()):
        yield Finding(Severity.SAFE, path or "record", change, "the old name is an alias")
    else:
        yield _risky(path or "record", change, "strict readers match named types by name")


def _compare_enums(old: Any, new: Any, path: str) -> Iterator[Finding]:
    before, after = list(old["symbols"]), list(new["symbols"])
    if old.get("default") != new.get("default"):
        what = f"enum default {old.get('default')!r} → {new.get('default')!r}"
        yield _breaking(path, what, "symbols that a reader does not know become another one")
    removed = [symbol for symbol in before if symbol not in after]
    added = [symbol for symbol in after if symbol not in before]
    if removed:
        yield _breaking(path, f"symbols removed: {', '.join(removed)}", "old records fail")
    if added:
        what = f"symbols added: {', '.join(added)}"
        yield _breaking(path, what, "old readers fail on them, unless they have a default")
    if any(after.index(symbol) != before.index(symbol) for symbol in before if symbol in after):
        what = "symbols in another order"
        yield _breaking(path, what, "whoever decodes by number swaps them: BUY becomes SELL")


def _list_named(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield every named type of a schema with its definition."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _list_named(branch)
    elif isinstance(schema, dict):
        if "name" in schema:
            yield schema["name"], schema
        for field in schema.get("fields", ()):
            yield from _list_named(field["type"])
        for part in ("type", "items", "values"):
            yield from _list_named(schema.get(part))


def _resolve(schema: Any, named: Mapping[str, Any]) -> Mapping[str, Any]:
    while not isinstance(schema, str) and isinstance(schema["type"], dict):
        schema = schema["type"]
    if isinstance(schema, str):
        schema = named.get(schema, {"type": schema})
    resolved: Mapping[str, Any] = schema
    return resolved


def _branch_name(branch: Any) -> str:
    if isinstance(branch, str):
        return branch
    return str(branch.get("name") or branch["type"])


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _breaking(path: str, change: str, consequence: str) -> Finding:
    return Finding(Severity.BREAKING, path, change, consequence)


def _risky(path: str, change: str, consequence: str) -> Finding:
    return Finding(Severity.RISKY, path, change, consequence)
