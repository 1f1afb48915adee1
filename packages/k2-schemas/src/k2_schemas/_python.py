"""The plan in Python: what the compiled engine does, and the judge of whatever that one declines.

Its writers and readers are closures, one per node. It is the reference for both: bytes, values and
errors. `_native.pyx` handles the common forms only and hands every other record over to this.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ._plan import Node
from ._read import Malformed, make_reader
from ._write import Refusal, make_writer, record_writer, write_at
from .errors import FieldError, FrameError, RecordDecodeError, UnknownSchemaError
from .frame import parse_frame


class PythonEngine:
    """Encodes and decodes records of one plan. `prefix` stands before every body.

    With `units`, decimals are scaled integers, timestamps integers of the schema's unit and uuids
    text; without, they are Decimal, aware datetime and UUID. `attributes` names, per field, the
    attribute of an object that holds it; without it a record is a mapping, or a tuple of values.
    """

    name = "python"

    def __init__(
        self,
        plan: Node,
        units: bool = False,
        prefix: bytes = b"",
        attributes: Sequence[str] | None = None,
    ) -> None:
        self.plan = plan
        self.units = units
        self.prefix = prefix
        self.attributes = attributes
        self._names = plan.names
        self._writers = [make_writer(child, units) for child in plan.children]
        self._readers = [make_reader(child, units) for child in plan.children]
        self._write_record = record_writer(plan, self._writers)

    def with_prefix(self, prefix: bytes) -> PythonEngine:
        """Return the same engine with another prefix."""
        return PythonEngine(self.plan, self.units, prefix, self.attributes)

    def encode(self, record: Any) -> bytes:
        """Return prefix and body of a record, or raise `FieldError`."""
        out = bytearray(self.prefix)
        try:
            if self.attributes is not None:
                self.write_attributes(out, record, self.attributes)
            elif type(record) is tuple:
                self._write_row(out, record)
            else:
                self._write_record(out, record)
        except Refusal as refusal:
            path = "".join(reversed(refusal.path)).lstrip(".")
            raise FieldError(path or "record", refusal.value, refusal.reason) from None
        except Exception as error:  # a value's own code may raise anything
            raise FieldError("record", record, f"{type(error).__name__}: {error}") from error
        return bytes(out)

    def encode_many(self, records: Iterable[Any]) -> list[bytes]:
        """Return prefix and body of each record."""
        return [self.encode(record) for record in records]

    def decode(self, data: bytes) -> dict[str, Any]:
        """Return the record behind the prefix, or raise `RecordDecodeError`."""
        return dict(zip(self._names, self.decode_row(data), strict=True))

    def decode_many(self, bodies: Iterable[bytes]) -> list[dict[str, Any]]:
        """Return the record of each body."""
        return [self.decode(body) for body in bodies]

    def decode_row(self, data: bytes) -> tuple[Any, ...]:
        """Return the values of the record behind the prefix, in the schema's order."""
        data = open_body(data, self.prefix)
        values = []
        pos = len(self.prefix)
        try:
            for reader in self._readers:
                value, pos = reader(data, pos)
                values.append(value)
        except Malformed as error:
            raise RecordDecodeError(error.reason, error.offset) from None
        if pos != len(data):
            raise RecordDecodeError(f"{len(data) - pos} trailing bytes", pos)
        return tuple(values)

    def decode_columns(self, bodies: Iterable[bytes]) -> list[list[Any]]:
        """Return the values of many records, a list per field."""
        columns: list[list[Any]] = [[] for _ in self._names]
        for body in bodies:
            for column, value in zip(columns, self.decode_row(body), strict=True):
                column.append(value)
        return columns

    def _write_row(self, out: bytearray, row: tuple[Any, ...]) -> None:
        if len(row) != len(self._names):
            raise Refusal(row, f"has {len(row)} values, the schema {len(self._names)} fields")
        for name, writer, value in zip(self._names, self._writers, row, strict=True):
            write_at(f".{name}", writer, out, value)

    def write_attributes(self, out: bytearray, record: Any, attributes: Sequence[str]) -> None:
        for name, attribute, writer in zip(self._names, attributes, self._writers, strict=True):
            try:
                value = getattr(record, attribute)
            except Exception as error:  # noqa: BLE001  # a property may raise anything
                refusal = Refusal(record, f"cannot be read: {type(error).__name__}: {error}")
                refusal.path.append(f".{name}")
                raise refusal from None
            write_at(f".{name}", writer, out, value)


def open_body(data: Any, prefix: bytes) -> bytes:
    """Return bytes-like data as bytes once it starts with `prefix`.

    Raises `FrameError` or `UnknownSchemaError` for another header, `RecordDecodeError` for what is
    not bytes.
    """
    if type(data) is not bytes:
        try:
            data = bytes(memoryview(data))
        except TypeError:
            reason = f"{type(data).__name__} instead of bytes"
            raise FrameError(reason, 0) if prefix else RecordDecodeError(reason, 0) from None
    if prefix and (not data.startswith(prefix) or len(data) == len(prefix)):
        schema_id, _ = parse_frame(data)
        raise UnknownSchemaError(schema_id, [parse_frame(prefix + b" ")[0]])
    opened: bytes = data
    return opened
