"""Avro: `compile` a schema once, then encode and decode its records. Exact, or an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ._arrow import ArrowDecoder
from ._backend import choose_engine
from ._fastavro import FastavroEngine, parse_schema
from ._plan import plan_schema
from ._python import PythonEngine
from .errors import SchemaParseError, UnsupportedSchemaError
from .frame import frame_header

SchemaSource = str | Mapping[str, Any]
Record = Mapping[str, Any] | tuple[Any, ...]

_WITHOUT_UNITS = "compile it without units"


def compile(  # as in re.compile: k2_schemas.compile(schema)
    schema: SchemaSource, *, reader: SchemaSource | None = None, units: bool = False
) -> Codec:
    """Return the codec of a schema, given as JSON text or as the parsed JSON object.

    Decimals are `Decimal` (text is taken too), timestamps aware datetimes, uuids `UUID`. With
    `units=True`, the fast form, they are scaled integers, integers of the schema's unit, and text.
    With a `reader` schema, what was written with `schema` is decoded as `reader` (Avro 1.12
    specification, schema resolution).

    Schemas of records, string, long, int, boolean, bytes, double, enum, decimal on bytes,
    timestamp-millis and -micros, uuid, array, map and nullable unions are compiled; any other is
    handed to fastavro, which `Codec.engine` says. Raises `SchemaParseError` for a text that is no
    schema and `UnsupportedSchemaError` for `units=True` with a schema that needs fastavro.
    """
    writer = parse_source(schema)
    try:
        encoder = compile_engine(writer, units)
    except RecursionError as error:
        raise UnsupportedSchemaError("it is nested too deep", "flatten it") from error
    resolved = None if reader is None else parse_source(reader)
    if resolved is None or _same(writer, resolved):
        return Codec(encoder, encoder, writer)
    if units:
        raise UnsupportedSchemaError("units=True with a reader schema of its own", _WITHOUT_UNITS)
    strict = None if encoder.plan is None else encoder
    return Codec(encoder, FastavroEngine(writer, resolved, strict=strict), resolved)


def parse_source(schema: SchemaSource) -> Any:
    """Return fastavro's parsed form of a schema, or raise `SchemaParseError`."""
    try:
        return parse_schema(json.loads(schema) if isinstance(schema, str) else dict(schema))
    except Exception as error:  # fastavro and json raise many kinds for what is no schema
        raise SchemaParseError(f"{type(error).__name__}: {error}") from error


def compile_engine(parsed: Any, units: bool, attributes: Sequence[str] | None = None) -> Any:
    """Return the engine of a parsed schema; `attributes` are those of an object per field."""
    plan = plan_schema(parsed)
    if plan is not None:
        return choose_engine(PythonEngine(plan, units, b"", attributes))
    if units:
        raise UnsupportedSchemaError(
            "units=True with a type that only fastavro has", _WITHOUT_UNITS
        )
    return FastavroEngine(parsed)


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


class Codec:
    """Encodes and decodes the Avro bodies of one schema. Safe to share between threads."""

    __slots__ = {
        "_arrow": "",
        "_decoder": "",
        "_encoder": "",
        "decode": "Return the record of a body (bytes), or raise `RecordDecodeError`.",
        "decode_many": "Return the records of many bodies, as a list of dicts.",
        "encode": "Return the body of a record (a mapping, or a tuple of all values in the "
        "schema's order), or raise `FieldError` naming field and value.",
        "encode_many": "Return the bodies of many records, as a list.",
        "engine": "`cython`, `python` or `fastavro`: which one decodes.",
        "schema": "The parsed schema that decoded records follow.",
    }

    encode: Callable[[Record], bytes]
    encode_many: Callable[[Iterable[Record]], list[bytes]]
    decode: Callable[[bytes], dict[str, Any]]
    decode_many: Callable[[Iterable[bytes]], list[dict[str, Any]]]

    def __init__(self, encoder: Any, decoder: Any, schema: Any) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self._arrow: ArrowDecoder | None = None
        self.schema: Any = schema
        self.engine: str = decoder.name
        # Bound once: a Python method around each would cost a tenth of the whole call.
        self.encode = encoder.encode
        self.encode_many = encoder.encode_many
        self.decode = decoder.decode
        self.decode_many = decoder.decode_many

    def decode_arrow(self, bodies: Iterable[bytes]) -> Any:
        """Return a `pyarrow.RecordBatch` of the bodies' records, decimals and times included.

        Needs pyarrow (`pip install 'k2-schemas[arrow]'`). Raises `UnsupportedSchemaError` for a
        schema that fastavro decodes.
        """
        if self._arrow is None:
            plan = self._decoder.plan
            if plan is None:
                raise UnsupportedSchemaError(
                    "Arrow with a type that only fastavro has", "use decode_many"
                )
            self._arrow = ArrowDecoder(plan)
        return self._arrow.decode(bodies)

    def framed(self, schema_id: int) -> tuple[Any, Any]:
        """Return encoder and decoder that write and expect the header of a schema id."""
        header = frame_header(schema_id)
        return self._encoder.with_prefix(header), self._decoder.with_prefix(header)


class WireCodec:
    """A codec for whole Kafka values: 0x00, 4-byte schema id, body. One id, known beforehand."""

    __slots__ = {
        "codec": "The codec of the bodies.",
        "decode": "Return the record of a frame, or raise `FrameError`, `UnknownSchemaError` for "
        "another id, or `RecordDecodeError`.",
        "decode_many": "Return the records of many frames, as a list of dicts.",
        "encode": "Return the frame of a record, or raise `FieldError`.",
        "encode_many": "Return the frames of many records, as a list.",
        "header": "The 5 bytes that every frame starts with.",
        "schema_id": "The id that every frame carries.",
    }

    encode: Callable[[Record], bytes]
    encode_many: Callable[[Iterable[Record]], list[bytes]]
    decode: Callable[[bytes], dict[str, Any]]
    decode_many: Callable[[Iterable[bytes]], list[dict[str, Any]]]

    def __init__(self, codec: Codec, schema_id: int) -> None:
        encoder, decoder = codec.framed(schema_id)
        self.codec = codec
        self.schema_id = schema_id
        self.header = frame_header(schema_id)
        self.encode = encoder.encode
        self.encode_many = encoder.encode_many
        self.decode = decoder.decode
        self.decode_many = decoder.decode_many
