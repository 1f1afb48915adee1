"""The fallback: fastavro for the schemas that our plan does not cover, held to our strictness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from io import BytesIO
from math import isfinite
from typing import Any, cast

import fastavro

from ._limits import is_uuid
from ._python import open_body
from .errors import FieldError, RecordDecodeError, UnsupportedSchemaError
from .units import decimal_to_units


class FastavroEngine:
    """Encodes with one parsed schema and decodes with it, resolved to `reader` if there is one.

    `strict`, an engine of the writer's plan, judges the bytes first: fastavro alone takes enum
    index -1 for the last symbol and rounds decimals.
    """

    name = "fastavro"
    plan = None

    def __init__(
        self, schema: Any, reader: Any = None, prefix: bytes = b"", strict: Any = None
    ) -> None:
        self._schema = schema
        self._reader = reader
        self._strict = strict
        self.prefix = prefix
        self._check = _Checker(schema)

    def with_prefix(self, prefix: bytes) -> FastavroEngine:
        """Return the same engine with another prefix."""
        strict = None if self._strict is None else self._strict.with_prefix(prefix)
        return FastavroEngine(self._schema, self._reader, prefix, strict)

    def encode(self, record: Any) -> bytes:
        """Return prefix and body of a record, or raise `FieldError`."""
        try:
            self._check.check(self._schema, record, "")
        except FieldError:
            raise
        except Exception as error:  # a value's own code may raise anything
            raise FieldError("record", record, f"{type(error).__name__}: {error}") from error
        out = BytesIO()
        out.write(self.prefix)
        try:
            # Not strict: it would refuse fields that are left to their default.
            fastavro.schemaless_writer(out, self._schema, record)
        except Exception as error:  # fastavro raises whatever the value made it raise
            raise FieldError("record", record, f"{type(error).__name__}: {error}") from error
        return out.getvalue()

    def encode_many(self, records: Iterable[Any]) -> list[bytes]:
        """Return prefix and body of each record."""
        return [self.encode(record) for record in records]

    def decode(self, data: bytes) -> Any:
        """Return the record behind the prefix, or raise `RecordDecodeError`."""
        data = open_body(data, self.prefix)
        if self._strict is not None:
            self._strict.decode_row(data)
        source = BytesIO(data)
        source.seek(len(self.prefix))
        try:
            record = fastavro.schemaless_reader(source, self._schema, self._reader)
        except Exception as error:  # corrupt bytes make fastavro raise whatever comes
            reason = f"{type(error).__name__}: {error}"
            raise RecordDecodeError(reason, min(source.tell(), len(data))) from error
        if source.tell() != len(data):
            raise RecordDecodeError(f"{len(data) - source.tell()} trailing bytes", source.tell())
        if self._strict is None:
            self._recheck(record, len(data))
        return record

    def _recheck(self, record: Any, size: int) -> None:
        """Refuse what fastavro reads beyond its type: an int of 64 bits, a decimal too long."""
        try:
            self._check.check(self._schema, record, "")
        except FieldError as error:
            raise RecordDecodeError(f"{error.field}: {error.reason}", size) from error

    def decode_many(self, bodies: Iterable[bytes]) -> list[Any]:
        """Return the record of each body."""
        return [self.decode(body) for body in bodies]

    def decode_row(self, data: bytes) -> tuple[Any, ...]:
        """Return the values of the record behind the prefix, in the schema's order."""
        return tuple(self.decode(data).values())


class _Checker:
    """Refuses what fastavro would take and change: the wrong number types, times and digits."""

    def __init__(self, schema: Any) -> None:
        self._named: dict[str, Any] = {}
        self._collect(schema, frozenset())

    def _collect(self, schema: Any, inside: frozenset[str]) -> None:
        """Remember the named types; refuse what a small frame could make endless or too deep."""
        if isinstance(schema, str):
            if schema in inside:
                raise UnsupportedSchemaError(
                    f"{schema} contains itself, and fastavro follows a frame as deep as it says, "
                    "until the process crashes",
                    "give the records an id and refer to that",
                )
            return
        if isinstance(schema, list):
            for branch in schema:
                self._collect(branch, inside)
            return
        if "name" in schema:
            self._named[schema["name"]] = schema
            inside |= {schema["name"]}
        for field in schema.get("fields", ()):
            self._collect(field["type"], inside)
        for part in ("items", "values", "type"):
            if part in schema and not (part == "type" and isinstance(schema["type"], str)):
                self._collect(schema[part], inside)
        if schema["type"] == "array" and self._weighs_nothing(schema["items"]):
            raise UnsupportedSchemaError(
                "an array of items without bytes, which ten bytes could make endless",
                "give the items a field",
            )

    def _weighs_nothing(self, schema: Any, inside: frozenset[str] = frozenset()) -> bool:
        schema = self._named.get(schema, schema) if isinstance(schema, str) else schema
        if isinstance(schema, list):
            return False
        name = schema if isinstance(schema, str) else schema["type"]
        if isinstance(name, (dict, list)):
            return self._weighs_nothing(name, inside)
        if name == "record":
            deeper = inside | {schema["name"]}
            return schema["name"] in inside or all(
                self._weighs_nothing(field["type"], deeper) for field in schema["fields"]
            )
        return name == "null" or (name == "fixed" and schema["size"] == 0)

    def check(self, schema: Any, value: Any, path: str) -> None:
        """Raise `FieldError` for a value that its schema cannot hold exactly."""
        if isinstance(schema, list):
            self._check_union(schema, value, path)
            return
        if isinstance(schema, str):
            schema = self._named.get(schema, {"type": schema})
        name = schema["type"]
        if isinstance(name, (dict, list)):
            self.check(name, value, path)
            return
        logical = schema.get("logicalType")
        pair = (name, logical) if isinstance(logical, str) else name
        check = _CHECKS.get(pair) or _CHECKS.get(name)
        if check is not None:
            check(self, schema, value, path)

    def _check_union(self, branches: list[Any], value: Any, path: str) -> None:
        if isinstance(value, tuple) and len(value) == 2:
            branches, value = self._name_branch(branches, value[0], path), value[1]
        refusals = []
        for branch in branches:
            try:
                return self.check(branch, value, path)
            except FieldError as error:
                refusals.append(error.reason)
        raise FieldError(path or "record", value, "fits no branch: " + "; ".join(refusals))

    def _name_branch(self, branches: list[Any], name: Any, path: str) -> list[Any]:
        """Return the branch that a (name, value) pair asks for."""
        for branch in branches:
            known = branch if isinstance(branch, str) else branch.get("name", branch["type"])
            if known == name:
                return [branch]
        raise FieldError(path or "record", name, "names no branch of the union")

    def check_record(self, schema: Mapping[str, Any], value: Any, path: str) -> None:
        """Check every field; unknown ones and missing ones without default are refused."""
        if not isinstance(value, Mapping):
            raise FieldError(path or "record", value, "not a mapping")
        known = {field["name"]: field for field in schema["fields"]}
        for name in value:
            if name not in known and name != "-type":
                raise FieldError(_join(path, name), value[name], "the schema has no such field")
        for name, field in known.items():
            if name in value:
                self.check(field["type"], value[name], _join(path, name))
            elif "default" not in field:
                reason = "the record lacks this field, and the schema has no default for it"
                raise FieldError(_join(path, name), value, reason)

    def check_items(self, schema: Mapping[str, Any], value: Any, path: str) -> None:
        """Check every item of an array."""
        if not isinstance(value, (list, tuple)):
            raise FieldError(path, value, "not a list or tuple")
        for number, item in enumerate(value):
            self.check(schema["items"], item, f"{path}[{number}]")

    def check_values(self, schema: Mapping[str, Any], value: Any, path: str) -> None:
        """Check every value of a map."""
        if not isinstance(value, Mapping):
            raise FieldError(path, value, "not a mapping")
        for key, item in value.items():
            self.check("string", key, f"{path}[{key!r:.40}]")
            self.check(schema["values"], item, f"{path}[{key!r:.40}]")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else str(name)


def _check_type(*types: type, reason: str) -> Any:
    def check(_: _Checker, schema: Any, value: Any, path: str) -> None:
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise FieldError(path or "record", value, reason)

    return check


def _check_integer(_: _Checker, schema: Any, value: Any, path: str) -> None:
    bits = 32 if schema["type"] == "int" else 64
    if not isinstance(value, int) or isinstance(value, bool):
        raise FieldError(path or "record", value, f"not an int, which Avro's {schema['type']} is")
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise FieldError(path or "record", value, f"beyond the {bits} bits of {schema['type']}")


def _check_float(_: _Checker, schema: Any, value: Any, path: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (float, int)):
        raise FieldError(path or "record", value, "not a float")
    if isinstance(value, int) and abs(value) > 1 << 53:
        raise FieldError(path or "record", value, "an int beyond 2^53 would be rounded")
    if schema["type"] == "float" and isfinite(value) and abs(value) > _LARGEST_FLOAT:
        raise FieldError(path or "record", value, "beyond the 32 bits of Avro's float")


def _check_decimal(_: _Checker, schema: Any, value: Any, path: str) -> None:
    scale, precision = schema.get("scale", 0), schema["precision"]
    decimal_to_units(path or "record", value, scale, precision)
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > scale:
        raise FieldError(path or "record", value, f"written with more than {scale} fraction digits")


def _check_moment(_: _Checker, schema: Any, value: Any, path: str) -> None:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise FieldError(path or "record", value, "not an aware datetime")
    _check_whole_millis(schema, value, path)


def _check_clock(_: _Checker, schema: Any, value: Any, path: str) -> None:
    if not isinstance(value, time):
        raise FieldError(path or "record", value, "not a time of day")
    _check_whole_millis(schema, value, path)


def _check_whole_millis(schema: Any, value: datetime | time, path: str) -> None:
    if schema["logicalType"].endswith("-millis") and value.microsecond % 1000:
        raise FieldError(path or "record", value, "finer than the millisecond of the schema")


def _check_naive(_: _Checker, schema: Any, value: Any, path: str) -> None:
    if not isinstance(value, datetime) or value.utcoffset() is not None:
        raise FieldError(path or "record", value, "not a datetime without time zone")
    _check_whole_millis(schema, value, path)


def _check_uuid(_: _Checker, schema: Any, value: Any, path: str) -> None:
    if not is_uuid(str(value)):
        raise FieldError(path or "record", value, "not a UUID, nor 36 characters of one")


_LARGEST_FLOAT = 3.4028235677973366e38
_CHECKS: dict[Any, Any] = {
    "null": _check_type(type(None), reason="not None"),
    "boolean": _check_type(bool, reason="not a bool"),
    "int": _check_integer,
    "long": _check_integer,
    "float": _check_float,
    "double": _check_float,
    "string": _check_type(str, reason="not a str"),
    "bytes": _check_type(bytes, bytearray, memoryview, reason="not bytes"),
    "fixed": _check_type(bytes, bytearray, reason="not bytes"),
    "enum": _check_type(str, reason="not a symbol"),
    "record": _Checker.check_record,
    "array": _Checker.check_items,
    "map": _Checker.check_values,
    ("bytes", "decimal"): _check_decimal,
    ("fixed", "decimal"): _check_decimal,
    ("long", "timestamp-millis"): _check_moment,
    ("long", "timestamp-micros"): _check_moment,
    ("string", "uuid"): _check_uuid,
    ("fixed", "uuid"): _check_uuid,
    ("int", "date"): _check_type(date, reason="not a date"),
    ("int", "time-millis"): _check_clock,
    ("long", "time-micros"): _check_clock,
    ("long", "local-timestamp-millis"): _check_naive,
    ("long", "local-timestamp-micros"): _check_naive,
    # fastavro turns this from a Python type of its own, and refuses others.
    ("fixed", "duration"): lambda *_: None,
}


def parse_schema(schema: Any) -> Any:
    """Return fastavro's form of a schema; raises whatever fastavro raises for a bad one."""
    # A fresh namespace each time: fastavro would otherwise refuse the same record name twice.
    return fastavro.parse_schema(cast("Any", schema), named_schemas={})
