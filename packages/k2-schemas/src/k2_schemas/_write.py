"""Write: one closure per node of a plan, value → Avro bytes. Exact, or a refusal with its path."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn
from uuid import UUID

from ._limits import EPOCH, FIRST, LAST, TICK, is_uuid
from ._plan import Kind, Node, zigzag
from .errors import FieldError
from .units import check_units, decimal_to_units, parse_units

Writer = Callable[[bytearray, Any], None]

_DOUBLE = struct.Struct("<d")


class Refusal(Exception):  # noqa: N818  # becomes a FieldError once the whole path is known
    """A value that its node cannot hold; every container on the way up adds its place."""

    def __init__(self, value: object, reason: str) -> None:
        super().__init__(reason)
        self.value = value
        self.reason = reason
        self.path: list[str] = []


def write_at(place: str, writer: Writer, out: bytearray, value: Any) -> None:
    """Write a value; a refusal learns where it was."""
    try:
        writer(out, value)
    except Refusal as refusal:
        refusal.path.append(place)
        raise


def make_writer(node: Node, units: bool) -> Writer:
    """Return the writer of a node, null branch included."""
    write = _WRITERS[node.kind](node, units)
    if node.null_index < 0:
        return write
    null, present = zigzag(node.null_index), zigzag(1 - node.null_index)

    def write_nullable(out: bytearray, value: Any) -> None:
        if value is None:
            out += null
        else:
            out += present
            write(out, value)

    return write_nullable


def _boolean_writer(node: Node, units: bool) -> Writer:
    def write(out: bytearray, value: Any) -> None:
        if type(value) is not bool:
            _refuse(value, "not a bool")
        out.append(value)

    return write


def _integer_writer(node: Node, units: bool) -> Writer:
    bits = 32 if node.kind is Kind.INT else 64
    name = node.kind.name.lower()

    def write(out: bytearray, value: Any) -> None:
        out += zigzag(_check_integer(value, bits, name))

    return write


def _check_integer(value: Any, bits: int, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        _refuse(value, f"not an int, which Avro's {name} is")
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        _refuse(value, f"beyond the {bits} bits of Avro's {name}")
    return int(value)


def _double_writer(node: Node, units: bool) -> Writer:
    def write(out: bytearray, value: Any) -> None:
        if isinstance(value, int) and not isinstance(value, bool):
            if abs(value) > 1 << 53:
                _refuse(value, "an int beyond 2^53 would be rounded as a double")
            value = float(value)
        if not isinstance(value, float):
            _refuse(value, "not a float")
        out += _DOUBLE.pack(value)

    return write


def _bytes_writer(node: Node, units: bool) -> Writer:
    def write(out: bytearray, value: Any) -> None:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            _refuse(value, "not bytes")
        data = bytes(value)
        out += zigzag(len(data))
        out += data

    return write


def _string_writer(node: Node, units: bool) -> Writer:
    return _write_text


def _write_text(out: bytearray, value: Any) -> None:
    if not isinstance(value, str):
        _refuse(value, "not a str")
    try:
        data = value.encode()
    except UnicodeEncodeError as error:
        _refuse(value, f"cannot be written as UTF-8: {error.reason} at {error.start}")
    out += zigzag(len(data))
    out += data


def _uuid_writer(node: Node, units: bool) -> Writer:
    def write(out: bytearray, value: Any) -> None:
        if isinstance(value, UUID):
            value = str(value)
        if not isinstance(value, str) or not is_uuid(value):
            _refuse(value, "not a UUID, nor 36 characters of one")
        _write_text(out, value)

    return write


def _enum_writer(node: Node, units: bool) -> Writer:
    index = {symbol: zigzag(number) for number, symbol in enumerate(node.names)}

    def write(out: bytearray, value: Any) -> None:
        if not isinstance(value, str) or value not in index:
            _refuse(value, f"not one of {', '.join(node.names)}")
        out += index[value]

    return write


def _decimal_writer(node: Node, units: bool) -> Writer:
    scale, precision = node.scale, node.precision

    def write(out: bytearray, value: Any) -> None:
        try:
            number = _to_units(value, scale, precision, units)
        except FieldError as error:
            _refuse(value, error.reason)
        data = minimal_bytes(number)
        out += zigzag(len(data))
        out += data

    return write


def _to_units(value: Any, scale: int, precision: int, units: bool) -> int:
    if isinstance(value, str):
        return parse_units("", value, scale, precision)
    if isinstance(value, Decimal):
        return decimal_to_units("", value, scale, precision)
    if isinstance(value, int) and not isinstance(value, bool):
        if units:
            return check_units("", value, int(value), scale, precision)
        _refuse(value, "an int may mean whole ones or units: pass a Decimal, or compile with units")
    _refuse(value, "not a scaled int, Decimal or text" if units else "not a Decimal or text")


def minimal_bytes(number: int) -> bytes:
    """Return the shortest two's complement, as Java's BigInteger writes it."""
    bits = number.bit_length() if number >= 0 else (number + 1).bit_length()
    return number.to_bytes(bits // 8 + 1, "big", signed=True)


def _timestamp_writer(node: Node, units: bool) -> Writer:
    kind, tick = node.kind, TICK[node.kind]
    first, last = FIRST[kind], LAST[kind]

    def write(out: bytearray, value: Any) -> None:
        if isinstance(value, datetime):
            number = _count_ticks(value, tick)
        elif not units:
            _refuse(value, "not an aware datetime")
        else:
            number = _check_integer(value, 64, "long")
        if not first <= number <= last:
            _refuse(value, "not within the years 1 to 9999")
        out += zigzag(number)

    return write


def _count_ticks(value: datetime, tick: timedelta) -> int:
    if value.utcoffset() is None:
        _refuse(value, "a datetime without time zone says no moment: give it one")
    number, rest = divmod(value - EPOCH, tick)
    if rest:
        _refuse(value, f"finer than the schema's unit of {tick / timedelta(milliseconds=1):g} ms")
    return number


def _array_writer(node: Node, units: bool) -> Writer:
    write_item = make_writer(node.children[0], units)

    def write(out: bytearray, value: Any) -> None:
        if not isinstance(value, (list, tuple)):
            _refuse(value, "not a list or tuple")
        if value:
            out += zigzag(len(value))
            for number, item in enumerate(value):
                write_at(f"[{number}]", write_item, out, item)
        out.append(0)

    return write


def _map_writer(node: Node, units: bool) -> Writer:
    write_item = make_writer(node.children[0], units)

    def write(out: bytearray, value: Any) -> None:
        if not isinstance(value, Mapping):
            _refuse(value, "not a mapping")
        if value:
            out += zigzag(len(value))
            for key, item in value.items():
                write_at(f"[{key!r:.40}]", _write_text, out, key)
                write_at(f"[{key!r:.40}]", write_item, out, item)
        out.append(0)

    return write


def _nested_record_writer(node: Node, units: bool) -> Writer:
    return record_writer(node, [make_writer(child, units) for child in node.children])


def record_writer(node: Node, writers: Sequence[Writer]) -> Writer:
    """Return the writer of a record whose fields have these writers."""
    fields = list(zip(node.names, writers, node.defaults, strict=True))
    known = frozenset(node.names)

    def write(out: bytearray, value: Any) -> None:
        if not isinstance(value, Mapping):
            _refuse(value, "not a mapping")
        found = 0
        for name, writer, default in fields:
            if name in value:
                found += 1
                write_at(f".{name}", writer, out, value[name])
            elif default is not None:
                out += default
            else:
                write_at(f".{name}", _refuse_missing, out, value)
        if found != len(value):
            unknown = next(key for key in value if key not in known)
            write_at(f".{unknown}", _refuse_unknown, out, value[unknown])

    return write


def _refuse_missing(out: bytearray, value: Any) -> NoReturn:
    _refuse(value, "the record lacks this field, and the schema has no default for it")


def _refuse_unknown(out: bytearray, value: Any) -> NoReturn:
    _refuse(value, "the schema has no such field")


def _refuse(value: object, reason: str) -> NoReturn:
    raise Refusal(value, reason)


_WRITERS: dict[Kind, Callable[[Node, bool], Writer]] = {
    Kind.BOOLEAN: _boolean_writer,
    Kind.INT: _integer_writer,
    Kind.LONG: _integer_writer,
    Kind.DOUBLE: _double_writer,
    Kind.BYTES: _bytes_writer,
    Kind.STRING: _string_writer,
    Kind.UUID: _uuid_writer,
    Kind.ENUM: _enum_writer,
    Kind.DECIMAL: _decimal_writer,
    Kind.TIMESTAMP_MILLIS: _timestamp_writer,
    Kind.TIMESTAMP_MICROS: _timestamp_writer,
    Kind.ARRAY: _array_writer,
    Kind.MAP: _map_writer,
    Kind.RECORD: _nested_record_writer,
}
