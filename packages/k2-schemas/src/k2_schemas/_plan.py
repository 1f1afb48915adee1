"""Plan: an Avro schema as the few node kinds that our own engines encode and decode.

What is not here (float, fixed, unions of more than null and one type, recursion, other logical
types) is fastavro's business: `plan_schema` returns None and `compile` falls back.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any
from uuid import UUID


class Kind(IntEnum):
    """What a node's bytes are. `_native.pyx` has the same numbers."""

    BOOLEAN = 1
    INT = 2
    LONG = 3
    DOUBLE = 4
    BYTES = 5
    STRING = 6
    UUID = 7
    ENUM = 8
    DECIMAL = 9
    TIMESTAMP_MILLIS = 10
    TIMESTAMP_MICROS = 11
    ARRAY = 12
    MAP = 13
    RECORD = 14


@dataclass(frozen=True, slots=True)
class Node:
    """One type of a schema. `null_index` is the null branch's place in a nullable union, or -1.

    `names` are a record's fields or an enum's symbols, `children` a record's fields or the items of
    an array or map. `defaults` are a record's encoded defaults, None where a field has none.
    """

    kind: Kind
    null_index: int = -1
    names: tuple[str, ...] = ()
    children: tuple[Node, ...] = ()
    defaults: tuple[bytes | None, ...] = ()
    precision: int = 0
    scale: int = 0
    size: int = 1
    """How many nodes there are, shared ones counted wherever they stand."""


_MAX_NODES = 5_000
"""Engines build a writer and a reader per node: named types within named types double them."""
_MAX_PRECISION = 150
"""Digits that fit into the 64 bytes that readers take."""


class _Unplannable(Exception):  # noqa: N818  # never leaves this module
    pass


_PRIMITIVES = {
    "boolean": Kind.BOOLEAN,
    "int": Kind.INT,
    "long": Kind.LONG,
    "double": Kind.DOUBLE,
    "bytes": Kind.BYTES,
    "string": Kind.STRING,
}
_LOGICAL = {
    ("string", "uuid"): Kind.UUID,
    ("bytes", "decimal"): Kind.DECIMAL,
    ("long", "timestamp-millis"): Kind.TIMESTAMP_MILLIS,
    ("long", "timestamp-micros"): Kind.TIMESTAMP_MICROS,
}


def plan_schema(schema: Any) -> Node | None:
    """Return the plan of a schema that fastavro has parsed, or None if a part needs fastavro."""
    try:
        node = _Planner().plan(schema)
    except _Unplannable:
        return None
    return node if node.kind is Kind.RECORD and node.null_index < 0 else None


class _Planner:
    """Walks a parsed schema once, remembering the named types it has finished."""

    def __init__(self) -> None:
        self._named: dict[str, Node] = {}

    def plan(self, schema: Any) -> Node:
        if isinstance(schema, list):
            return self._plan_union(schema)
        if isinstance(schema, str):
            schema = {"type": schema}
        name = schema["type"]
        if isinstance(name, (dict, list)):
            return self.plan(name)
        if name in self._named:
            return self._named[name]
        if name == "record":
            return self._plan_record(schema)
        if name == "enum":
            return self._name(schema, Node(Kind.ENUM, names=tuple(schema["symbols"])))
        if name == "array":
            return _join(Kind.ARRAY, (self._plan_item(schema["items"]),))
        if name == "map":
            return _join(Kind.MAP, (self._plan_item(schema["values"]),))
        return self._plan_primitive(name, schema)

    def _plan_primitive(self, name: str, schema: Mapping[str, Any]) -> Node:
        logical = schema.get("logicalType")
        if logical is not None and not isinstance(logical, str):
            raise _Unplannable
        kind = _LOGICAL.get((name, logical)) if logical else _PRIMITIVES.get(name)
        if kind is None:
            raise _Unplannable
        if kind is Kind.DECIMAL:
            if schema["precision"] > _MAX_PRECISION:
                raise _Unplannable
            return Node(kind, precision=schema["precision"], scale=schema.get("scale", 0))
        return Node(kind)

    def _plan_union(self, branches: list[Any]) -> Node:
        if len(branches) != 2 or branches.count("null") != 1:
            raise _Unplannable
        null_index = branches.index("null")
        node = self.plan(branches[1 - null_index])
        return replace(node, null_index=null_index)

    def _plan_item(self, schema: Any) -> Node:
        node = self.plan(schema)
        # Items of no bytes could be counted in billions by a frame of ten bytes.
        if not _takes_bytes(node):
            raise _Unplannable
        return node

    def _plan_record(self, schema: Mapping[str, Any]) -> Node:
        fields = schema["fields"]
        children = tuple(self.plan(field["type"]) for field in fields)
        defaults = tuple(
            encode_default(child, field["default"]) if "default" in field else None
            for child, field in zip(children, fields, strict=True)
        )
        names = tuple(field["name"] for field in fields)
        return self._name(schema, _join(Kind.RECORD, children, names, defaults))

    def _name(self, schema: Mapping[str, Any], node: Node) -> Node:
        self._named[schema["name"]] = node
        return node


def _join(
    kind: Kind,
    children: tuple[Node, ...],
    names: tuple[str, ...] = (),
    defaults: tuple[bytes | None, ...] = (),
) -> Node:
    """Return a node over others, unless that makes the plan too large."""
    size = 1 + sum(child.size for child in children)
    if size > _MAX_NODES:
        raise _Unplannable
    return Node(kind, -1, names, children, defaults, size=size)


def _takes_bytes(node: Node) -> bool:
    """Say whether every value of a node takes a byte at least."""
    if node.kind is not Kind.RECORD or node.null_index >= 0:
        return True
    return any(map(_takes_bytes, node.children))


def encode_default(node: Node, value: Any) -> bytes:
    """Return the bytes of a schema's JSON default (Avro 1.12 specification, record fields)."""
    if node.null_index >= 0:
        if value is None:
            return zigzag(node.null_index)
        return zigzag(1 - node.null_index) + encode_default(replace(node, null_index=-1), value)
    try:
        return _DEFAULTS[node.kind](node, value)
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError, struct.error):
        raise _Unplannable from None  # a default of another type: let fastavro say what it makes


def _encode_text(_: Node, value: Any) -> bytes:
    data: bytes = value.encode()
    return zigzag(len(data)) + data


def _encode_uuid(node: Node, value: Any) -> bytes:
    UUID(value)
    return _encode_text(node, value)


def _encode_binary(_: Node, value: Any) -> bytes:
    data: bytes = value.encode("latin-1")
    return zigzag(len(data)) + data


def _encode_number(node: Node, value: Any) -> bytes:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError(value)
    if node.kind is Kind.INT and not -(2**31) <= value < 2**31:
        raise ValueError(value)
    return zigzag(value)


def _encode_double(_: Node, value: Any) -> bytes:
    return struct.pack("<d", value)


def _encode_boolean(_: Node, value: Any) -> bytes:
    if type(value) is not bool:
        raise ValueError(value)
    return bytes([value])


def _encode_array(node: Node, value: Any) -> bytes:
    return _encode_blocks([encode_default(node.children[0], item) for item in value])


def _encode_map(node: Node, value: Any) -> bytes:
    return _encode_blocks(
        [_encode_text(node, key) + encode_default(node.children[0], v) for key, v in value.items()]
    )


def _encode_blocks(items: list[bytes]) -> bytes:
    return (zigzag(len(items)) + b"".join(items) if items else b"") + b"\x00"


def _encode_record(node: Node, value: Any) -> bytes:
    parts = []
    for name, child, default in zip(node.names, node.children, node.defaults, strict=True):
        if name not in value and default is not None:
            parts.append(default)
        else:
            parts.append(encode_default(child, value[name]))
    return b"".join(parts)


_DEFAULTS = {
    Kind.BOOLEAN: _encode_boolean,
    Kind.INT: _encode_number,
    Kind.LONG: _encode_number,
    Kind.TIMESTAMP_MILLIS: _encode_number,
    Kind.TIMESTAMP_MICROS: _encode_number,
    Kind.DOUBLE: _encode_double,
    Kind.BYTES: _encode_binary,
    Kind.DECIMAL: _encode_binary,
    Kind.STRING: _encode_text,
    Kind.UUID: _encode_uuid,
    Kind.ENUM: lambda node, value: zigzag(node.names.index(value)),
    Kind.ARRAY: _encode_array,
    Kind.MAP: _encode_map,
    Kind.RECORD: _encode_record,
}


def zigzag(number: int) -> bytes:
    """Return an int or long as Avro writes it: zigzag, then 7 bits a byte, low bits first."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)
