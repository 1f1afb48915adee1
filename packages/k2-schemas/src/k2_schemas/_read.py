"""Read: one closure per node of a plan, Avro bytes → value, or an error with its offset."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any
from uuid import UUID

from ._limits import EPOCH, FIRST, LAST, TICK, is_uuid
from ._plan import Kind, Node
from .units import units_to_decimal

Reader = Callable[[bytes, int], tuple[Any, int]]

_DOUBLE = struct.Struct("<d")
_MAX_DECIMAL_BYTES = 64


class Malformed(Exception):  # noqa: N818  # becomes a RecordDecodeError
    """Bytes that are not what their node says, from `offset` on."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


def make_reader(node: Node, units: bool) -> Reader:
    """Return the reader of a node, null branch included."""
    read = _READERS[node.kind](node, units)
    if node.null_index < 0:
        return read
    null_index = node.null_index

    def read_nullable(data: bytes, pos: int) -> tuple[Any, int]:
        branch, after = _read_long(data, pos)
        if branch == null_index:
            return None, after
        if branch != 1 - null_index:
            raise Malformed(pos, f"union branch {branch}")
        return read(data, after)

    return read_nullable


def _read_long(data: bytes, pos: int) -> tuple[int, int]:
    number = shift = 0
    start = pos
    while True:
        if pos >= len(data):
            raise Malformed(start, "ends inside a number")
        byte = data[pos]
        pos += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise Malformed(start, "number of more than 10 bytes")
    if number >> 64:
        raise Malformed(start, "number of more than 64 bits")
    return (number >> 1) ^ -(number & 1), pos


def _read_span(data: bytes, pos: int) -> tuple[bytes, int]:
    size, start = _read_long(data, pos)
    if not 0 <= size <= len(data) - start:
        raise Malformed(pos, f"length {size} with {len(data) - start} bytes left")
    return data[start : start + size], start + size


def _boolean_reader(node: Node, units: bool) -> Reader:
    def read(data: bytes, pos: int) -> tuple[Any, int]:
        if pos >= len(data):
            raise Malformed(pos, "ends before a boolean")
        if data[pos] > 1:
            raise Malformed(pos, f"byte 0x{data[pos]:02x} is no boolean")
        return data[pos] == 1, pos + 1

    return read


def _long_reader(node: Node, units: bool) -> Reader:
    return _read_long


def _int_reader(node: Node, units: bool) -> Reader:
    def read(data: bytes, pos: int) -> tuple[Any, int]:
        number, after = _read_long(data, pos)
        if not -(2**31) <= number < 2**31:
            raise Malformed(pos, f"{number} is beyond the 32 bits of Avro's int")
        return number, after

    return read


def _double_reader(node: Node, units: bool) -> Reader:
    def read(data: bytes, pos: int) -> tuple[Any, int]:
        if len(data) - pos < _DOUBLE.size:
            raise Malformed(pos, "ends inside a double")
        return _DOUBLE.unpack_from(data, pos)[0], pos + _DOUBLE.size

    return read


def _bytes_reader(node: Node, units: bool) -> Reader:
    return _read_span


def _string_reader(node: Node, units: bool) -> Reader:
    return _read_text


def _read_text(data: bytes, pos: int) -> tuple[str, int]:
    span, after = _read_span(data, pos)
    try:
        return span.decode(), after
    except UnicodeDecodeError as error:
        raise Malformed(pos, f"text is not UTF-8: {error.reason}") from None


def _uuid_reader(node: Node, units: bool) -> Reader:
    def read(data: bytes, pos: int) -> tuple[Any, int]:
        text, after = _read_text(data, pos)
        if not is_uuid(text):
            raise Malformed(pos, f"{text!r:.60} is no UUID")
        return (text if units else UUID(text)), after

    return read


def _enum_reader(node: Node, units: bool) -> Reader:
    symbols = node.names

    def read(data: bytes, pos: int) -> tuple[Any, int]:
        number, after = _read_long(data, pos)
        if not 0 <= number < len(symbols):
            raise Malformed(pos, f"enum index {number} of {len(symbols)} symbols")
        return symbols[number], after

    return read


def _decimal_reader(node: Node, units: bool) -> Reader:
    limit, scale = 10**node.precision, node.scale

    def read(data: bytes, pos: int) -> tuple[Any, int]:
        span, after = _read_span(data, pos)
        number = int.from_bytes(span[:_MAX_DECIMAL_BYTES], "big", signed=True)
        if not span or len(span) > _MAX_DECIMAL_BYTES or abs(number) >= limit:
            raise Malformed(pos, f"{len(span)} bytes beyond decimal({node.precision},{scale})")
        return (number if units else units_to_decimal(number, scale)), after

    return read


def _timestamp_reader(node: Node, units: bool) -> Reader:
    kind, tick = node.kind, TICK[node.kind]
    first, last = FIRST[kind], LAST[kind]

    def read(data: bytes, pos: int) -> tuple[Any, int]:
        number, after = _read_long(data, pos)
        if not first <= number <= last:
            raise Malformed(pos, f"timestamp {number} is not within the years 1 to 9999")
        return (number if units else EPOCH + number * tick), after

    return read


def _array_reader(node: Node, units: bool) -> Reader:
    read_item = make_reader(node.children[0], units)

    def read(data: bytes, pos: int) -> tuple[Any, int]:
        items: list[Any] = []
        while True:
            count, pos = _read_count(data, pos)
            if not count:
                return items, pos
            for _ in range(count):
                item, pos = read_item(data, pos)
                items.append(item)

    return read


def _map_reader(node: Node, units: bool) -> Reader:
    read_item = make_reader(node.children[0], units)

    def read(data: bytes, pos: int) -> tuple[Any, int]:
        items: dict[str, Any] = {}
        while True:
            count, pos = _read_count(data, pos)
            if not count:
                return items, pos
            for _ in range(count):
                key, pos = _read_text(data, pos)
                items[key], pos = read_item(data, pos)

    return read


def _read_count(data: bytes, pos: int) -> tuple[int, int]:
    """Read a block's item count; a negative one is followed by the block's size, which we skip."""
    count, after = _read_long(data, pos)
    if count < 0:
        count = -count
        _, after = _read_long(data, after)
    # Every item takes a byte at least: more items than bytes is a lie, found before it costs.
    if count > len(data) - after:
        raise Malformed(pos, f"{count} items with {len(data) - after} bytes left")
    return count, after


def _nested_record_reader(node: Node, units: bool) -> Reader:
    readers = [
        (name, make_reader(child, units))
        for name, child in zip(node.names, node.children, strict=True)
    ]

    def read(data: bytes, pos: int) -> tuple[Any, int]:
        record = {}
        for name, reader in readers:
            record[name], pos = reader(data, pos)
        return record, pos

    return read


_READERS: dict[Kind, Callable[[Node, bool], Reader]] = {
    Kind.BOOLEAN: _boolean_reader,
    Kind.INT: _int_reader,
    Kind.LONG: _long_reader,
    Kind.DOUBLE: _double_reader,
    Kind.BYTES: _bytes_reader,
    Kind.STRING: _string_reader,
    Kind.UUID: _uuid_reader,
    Kind.ENUM: _enum_reader,
    Kind.DECIMAL: _decimal_reader,
    Kind.TIMESTAMP_MILLIS: _timestamp_reader,
    Kind.TIMESTAMP_MICROS: _timestamp_reader,
    Kind.ARRAY: _array_reader,
    Kind.MAP: _map_reader,
    Kind.RECORD: _nested_record_reader,
}
