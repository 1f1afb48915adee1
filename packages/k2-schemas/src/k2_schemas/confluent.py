"""Confluent: serializers for confluent-kafka's producers and consumers, with no call per message.

They take the place of its own `AvroSerializer` and `AvroDeserializer`: the same wire format, the
same `to_dict` and `from_dict` callbacks. Ids come from a `Registry`, before the first message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .avro import Codec, WireCodec, compile
from .errors import MissingExtraError
from .frame import HEADER_BYTES, frame_header, parse_frame
from .registry import Registry
from .topics import SUBJECT
from .trade import Trade
from .trade_codec import TradeCodec

try:
    from confluent_kafka.serialization import Deserializer, SerializationContext, Serializer
except ImportError:
    raise MissingExtraError("confluent-kafka[schemaregistry]", "kafka") from None

ToDict = Callable[[Any, SerializationContext | None], Mapping[str, Any]]
FromDict = Callable[[dict[str, Any], SerializationContext | None], Any]


class AvroSerializer(Serializer):
    """Record → Kafka value, with the schema locked for a subject. None stays None (a tombstone)."""

    def __init__(
        self,
        registry: Registry,
        subject: str = SUBJECT,
        to_dict: ToDict | None = None,
        *,
        units: bool = False,
    ) -> None:
        latest = registry.latest(subject)
        self._encode = WireCodec(compile(latest.text, units=units), latest.schema_id).encode
        self._to_dict = to_dict

    def __call__(self, obj: Any, ctx: SerializationContext | None = None) -> bytes | None:
        """Return the frame of an object; raise `FieldError` for what its schema cannot hold."""
        if obj is None:
            return None
        return self._encode(obj if self._to_dict is None else self._to_dict(obj, ctx))


class AvroDeserializer(Deserializer):
    """Kafka value → record, each with its writer's schema, resolved to `reader` if given."""

    def __init__(
        self,
        registry: Registry,
        from_dict: FromDict | None = None,
        *,
        reader: str | None = None,
        units: bool = False,
    ) -> None:
        self._registry = registry
        self._from_dict = from_dict
        self._reader = reader
        self._units = units
        self._decoders: dict[bytes, Callable[[bytes], dict[str, Any]]] = {}
        for schema_id in registry.ids:
            self._add(schema_id)

    def __call__(self, value: bytes | None, ctx: SerializationContext | None = None) -> Any:
        """Return the record of a frame.

        Raises `FrameError`, `UnknownSchemaError`, `RecordDecodeError`, or `RegistryError` when an
        id that was not known at the start is asked for and the server does not answer.
        """
        if value is None:
            return None
        decode = self._decoders.get(value[:HEADER_BYTES]) if type(value) is bytes else None
        if decode is None:
            schema_id, body = parse_frame(value)
            value = frame_header(schema_id) + body
            decode = self._decoders.get(value[:HEADER_BYTES]) or self._add(schema_id)
        record = decode(value)
        return record if self._from_dict is None else self._from_dict(record, ctx)

    def _add(self, schema_id: int) -> Callable[[bytes], dict[str, Any]]:
        codec: Codec = compile(
            self._registry.get(schema_id).text, reader=self._reader, units=self._units
        )
        wire = WireCodec(codec, schema_id)
        self._decoders[wire.header] = wire.decode
        return wire.decode


class TradeSerializer(Serializer):
    """`Trade` → Kafka value."""

    def __init__(self, registry: Registry | None = None) -> None:
        self._codec = TradeCodec(registry)

    def __call__(self, obj: Trade | None, ctx: SerializationContext | None = None) -> bytes | None:
        """Return the frame of a trade; raise `FieldError` for what V2 cannot hold."""
        return None if obj is None else self._codec.encode(obj)


class TradeDeserializer(Deserializer):
    """Kafka value → `Trade`."""

    def __init__(self, registry: Registry | None = None) -> None:
        self._codec = TradeCodec(registry)

    def __call__(
        self, value: bytes | None, ctx: SerializationContext | None = None
    ) -> Trade | None:
        """Return the trade of a frame; raises as `TradeCodec.decode`."""
        return None if value is None else self._codec.decode(value)
