"""Contract: what a change of schema does to every price ever written."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from k2_schemas import FileRegistry, SchemaParseError, contract
from k2_schemas.contract import Severity, check
from k2_schemas.topics import SUBJECT

TRADE: dict[str, Any] = json.loads(FileRegistry.packaged().latest(SUBJECT).text)


def field(schema: Any, name: str) -> Any:
    """Return a field of a schema."""
    return next(field for field in schema["fields"] if field["name"] == name)


def change(edit: Callable[[Any], None]) -> Any:
    """Return the trade contract after an edit."""
    schema = copy.deepcopy(TRADE)
    edit(schema)
    return schema


def set_price(**parts: object) -> Callable[[Any], None]:
    """Return an edit of the price's type."""
    return lambda schema: field(schema, "price")["type"].update(parts)


def set_type(name: str, kind: Any) -> Callable[[Any], None]:
    """Return an edit of a field's type."""
    return lambda schema: field(schema, name).update(type=kind)


def drop_logical(name: str) -> Callable[[Any], None]:
    """Return an edit that drops a logicalType."""
    return lambda schema: field(schema, name)["type"].pop("logicalType")


def symbols(*names: str) -> Callable[[Any], None]:
    """Return an edit of the sides."""
    return lambda schema: field(schema, "side")["type"].update(symbols=list(names))


MILLIS = {"type": "long", "logicalType": "timestamp-millis"}


@pytest.mark.parametrize(
    ("edit", "severity", "path", "text"),
    [
        (set_price(scale=4), "breaking", "price", "misread by a factor of 10,000"),
        (set_price(precision=12), "breaking", "price", "may not fit"),
        (set_price(precision=30), "risky", "price", "old readers put them"),
        (set_type("timestamp", MILLIS), "breaking", "timestamp", "misread by a factor of 1,000"),
        (drop_logical("price"), "breaking", "price", "logicalType decimal dropped"),
        (drop_logical("timestamp"), "breaking", "timestamp", "timestamp-micros dropped"),
        (drop_logical("message_id"), "breaking", "message_id", "logicalType uuid dropped"),
        (symbols("SELL", "BUY"), "breaking", "side", "BUY becomes SELL"),
        (symbols("BUY"), "breaking", "side", "symbols removed: SELL"),
        (symbols("BUY", "SELL", "CROSS"), "breaking", "side", "symbols added: CROSS"),
        (symbols("CROSS", "BUY", "SELL"), "breaking", "side", "in another order"),
        (set_type("trade_id", "long"), "breaking", "trade_id", "string → long"),
        (set_type("source_sequence", ["long", "null"]), "risky", "source_sequence", "order"),
        (
            lambda s: field(s, "source_sequence").update(type="long", default=0),
            "breaking",
            "source_sequence",
            "no longer null",
        ),
        (set_type("source_sequence", ["null", "int"]), "breaking", "source_sequence", "long → int"),
        (set_type("currency", ["null", "string"]), "breaking", "currency", "may now be null"),
        (
            set_type("trade_conditions", {"type": "array", "items": "int"}),
            "breaking",
            "trade_conditions[]",
            "string → int",
        ),
        (
            lambda s: s["fields"].append({"name": "fee", "type": "long"}),
            "breaking",
            "fee",
            "added without default",
        ),
        (
            lambda s: s["fields"].append({"name": "fee", "type": "long", "default": 0}),
            "safe",
            "fee",
            "added",
        ),
        (lambda s: s["fields"].pop(0), "breaking", "message_id", "removed, without default"),
        (lambda s: s["fields"].pop(), "risky", "vendor_data", "removed"),
        (lambda s: s["fields"].reverse(), "risky", "record", "fields in another order"),
        (
            lambda s: field(s, "currency").update(name="quote", aliases=["currency"]),
            "risky",
            "currency",
            "renamed to quote",
        ),
        (lambda s: field(s, "currency").update(default="USD"), "risky", "currency", "added"),
        (lambda s: field(s, "vendor_data").pop("default"), "risky", "vendor_data", "removed"),
        (lambda s: s.update(name="TradeV3"), "risky", "record", "TradeV3"),
        (
            lambda s: s.update(name="TradeV3", aliases=["k2.market.crypto.TradeV2"]),
            "safe",
            "record",
            "the old name is an alias",
        ),
    ],
)
def test_a_change_is_found_with_its_severity(
    edit: Callable[[Any], None], severity: str, path: str, text: str
):
    """Also those that Avro's own checkers and the registries pass as compatible."""
    findings = check(TRADE, change(edit))

    assert any(
        (found.severity, found.path) == (severity, path) and text in str(found)
        for found in findings
    ), [str(found) for found in findings]


def leg(scale: int) -> Any:
    """Return a record with one decimal."""
    kind = {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": scale}
    return {"type": "record", "name": "Leg", "fields": [{"name": "price", "type": kind}]}


def record_of(*fields: Any) -> Any:
    """Return a record schema."""
    return {"type": "record", "name": "R", "fields": list(fields)}


def test_a_named_type_is_compared_wherever_its_definition_stands():
    """A name used here and defined in a field that came or went is no hiding place."""
    old = {"name": "p", "type": ["null", leg(8)], "default": None}
    new = {"name": "r", "type": ["null", leg(4)], "default": None}
    used = {"name": "q", "type": "Leg"}
    findings = check(record_of(old, used), record_of(new, used))

    assert ("breaking", "q.price") in {(found.severity, found.path) for found in findings}


SYMBOLS = {"type": "enum", "name": "E", "symbols": ["X", "Y"]}


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            [{"name": "a", "type": "long"}, {"name": "b", "type": "long"}],
            [{"name": "b", "type": "long", "aliases": ["a"]}],
            "take the place of that field's own",
        ),
        (
            [{"name": "a", "type": "long", "default": 1}],
            [{"name": "b", "type": "long", "aliases": ["a"], "default": 99}],
            "default 1 → 99",
        ),
        (
            [{"name": "a", "type": ["null", "long"]}],
            [{"name": "a", "type": ["int", "null"]}],
            "union branches in another order",
        ),
        (
            [{"name": "a", "type": SYMBOLS}],
            [{"name": "a", "type": {**SYMBOLS, "default": "X"}}],
            "enum default None → 'X'",
        ),
    ],
)
def test_changes_that_resolution_makes_dangerous_are_told(old: Any, new: Any, text: str):
    """Aliases, defaults and orders change what a reader makes of old records."""
    findings = check(record_of(*old), record_of(*new))

    assert any(text in str(found) for found in findings), [str(found) for found in findings]


def test_equal_schemas_have_no_findings():
    """Reformatted text and other docs change nothing."""
    assert check(json.dumps(TRADE, indent=7), TRADE) == ()
    assert check(TRADE, change(lambda s: s.update(doc="Another text."))) == ()


def test_the_worst_comes_first():
    """Who reads one line reads the one that matters."""
    both = change(lambda s: (set_price(scale=4)(s), s["fields"].reverse()))  # type: ignore[func-returns-value]
    severities = [found.severity for found in check(TRADE, both)]

    assert severities == sorted(severities, key=list(Severity).index)
    assert severities[0] is Severity.BREAKING


def test_types_that_name_themselves_are_walked_once():
    """A recursive schema ends."""
    node = {
        "type": "record",
        "name": "Node",
        "fields": [{"name": "v", "type": "long"}, {"name": "next", "type": ["null", "Node"]}],
    }
    other = copy.deepcopy(node)
    other["fields"][0]["type"] = "string"  # type: ignore[index]

    assert [found.path for found in contract.check(node, other)] == ["v"]


def test_what_is_no_schema_is_said():
    """Either side."""
    with pytest.raises(SchemaParseError):
        check("{", TRADE)
    with pytest.raises(SchemaParseError):
        check(TRADE, {"type": "record"})
