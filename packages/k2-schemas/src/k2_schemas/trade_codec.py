"""TradeCodec: trades ↔ the bytes of a Kafka value, under ids known before the first message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cache
from operator import itemgetter
from typing import Any

from ._limits import EPOCH
from ._plan import Node, plan_schema
from .avro import compile_engine, parse_source
from .errors import RecordDecodeError, UnsupportedSchemaError
from .frame import HEADER_BYTES, frame_header, parse_frame
from .registry import FileRegistry, LockedSchema, Registry
from .topics import SUBJECT
from .trade import Trade

FIELDS = (
    *("message_id", "trade_id", "symbol", "exchange", "asset_class", "timestamp", "price"),
    *("quantity", "currency", "side", "trade_conditions", "source_sequence"),
    *("ingestion_timestamp", "platform_sequence", "vendor_data"),
)
"""The 15 fields of contract V2, in its order."""

_ATTRIBUTES = {
    "timestamp": "timestamp_us",
    "price": "price_units",
    "quantity": "quantity_units",
    "ingestion_timestamp": "ingestion_us",
}
"""The fields of contract V2 that a Trade holds under a name with its unit."""


class TradeCodec:
    """Encodes trades under the newest locked schema and decodes frames of every known id."""

    __slots__ = {
        "_readers": "",
        "_registry": "",
        "encode": "Return the wire frame of a trade; raise `FieldError` for what V2 cannot hold.",
        "encode_many": "Return the wire frames of many trades, as a list.",
        "schema_id": "The id of every frame that this codec encodes.",
    }

    encode: Callable[[Trade], bytes]
    encode_many: Callable[[Iterable[Trade]], list[bytes]]

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry or FileRegistry.packaged()
        latest = self._registry.latest(SUBJECT)
        self.schema_id = latest.schema_id
        self._readers: dict[bytes, _TradeReader] = {}
        engine = _compile(latest).with_prefix(frame_header(latest.schema_id))
        self.encode = engine.encode
        self.encode_many = engine.encode_many

    def decode(self, frame: bytes) -> Trade:
        """Return the trade in a wire frame.

        Raises `FrameError`, `UnknownSchemaError` or `RecordDecodeError` (also for trailing bytes
        and for a message_id that is not the trade's own). For an id that was not known at the
        start a server registry may also raise `RegistryError`, and a schema that is no trade's
        `UnsupportedSchemaError`. Nothing else escapes.
        """
        reader = self._readers.get(frame[:HEADER_BYTES]) if type(frame) is bytes else None
        if reader is None:
            schema_id, body = parse_frame(frame)
            frame = frame_header(schema_id) + body
            reader = _TradeReader(self._registry.get(schema_id))
            self._readers[frame[:HEADER_BYTES]] = reader
        return reader.read(frame)


class _TradeReader:
    """Reads the frames of one schema id: the fields of V2 by name, whatever else is beside them."""

    def __init__(self, schema: LockedSchema) -> None:
        self._schema_id = schema.schema_id
        self._engine = _compile(schema).with_prefix(frame_header(schema.schema_id))
        names = list(self._engine.plan.names)
        self._pick = itemgetter(*(names.index(name) for name in FIELDS))

    def read(self, frame: bytes) -> Trade:
        try:
            message_id, trade = _build_trade(self._pick(self._engine.decode_row(frame)))
            expected = trade.message_id
        except RecordDecodeError as error:
            raise RecordDecodeError(error.reason, error.offset, self._schema_id) from error
        except (KeyError, TypeError) as error:
            reason = f"is no trade: {type(error).__name__}: {error}"
            raise RecordDecodeError(reason, HEADER_BYTES, self._schema_id) from error
        if message_id != expected:
            reason = "message_id is not the one of this trade"
            raise RecordDecodeError(reason, HEADER_BYTES, self._schema_id)
        return trade


def _build_trade(row: tuple[Any, ...]) -> tuple[str, Trade]:
    """Build a trade from the values of `FIELDS`, scaled integers and microseconds among them."""
    (
        message_id,
        trade_id,
        symbol,
        exchange,
        asset_class,
        timestamp_us,
        price_units,
        quantity_units,
        currency,
        side,
        trade_conditions,
        source_sequence,
        ingestion_us,
        platform_sequence,
        vendor_data,
    ) = row
    return message_id, Trade(
        trade_id=trade_id,
        symbol=symbol,
        exchange=exchange,
        timestamp_us=timestamp_us,
        price_units=price_units,
        quantity_units=quantity_units,
        currency=currency,
        side=side,
        ingestion_us=ingestion_us,
        vendor_data=vendor_data,
        source_sequence=source_sequence,
        platform_sequence=platform_sequence,
        asset_class=asset_class,
        trade_conditions=tuple(trade_conditions) if trade_conditions else (),
    )


def trade_to_record(trade: Trade) -> dict[str, Any]:
    """Return the 15 fields as any Avro writer takes them: Decimals and aware datetimes."""
    return {
        "message_id": trade.message_id,
        "trade_id": trade.trade_id,
        "symbol": trade.symbol,
        "exchange": trade.exchange,
        "asset_class": trade.asset_class,
        "timestamp": EPOCH + timedelta(microseconds=trade.timestamp_us),
        "price": trade.price,
        "quantity": trade.quantity,
        "currency": trade.currency,
        "side": trade.side,
        "trade_conditions": list(trade.trade_conditions),
        "source_sequence": trade.source_sequence,
        "ingestion_timestamp": EPOCH + timedelta(microseconds=trade.ingestion_us),
        "platform_sequence": trade.platform_sequence,
        "vendor_data": dict(trade.vendor_data),
    }


def _compile(schema: LockedSchema) -> Any:
    parsed = parse_source(schema.text)
    plan = plan_schema(parsed)
    found = {} if plan is None else dict(zip(plan.names, plan.children, strict=True))
    wrong = [
        name for name, node in _contract_nodes().items() if not _is_same(node, found.get(name))
    ]
    if wrong:
        # By name alone a price of scale 4 would be read 10,000 times too small.
        reason = f"{schema.subject} id {schema.schema_id} has another {', '.join(wrong)}, or none"
        raise UnsupportedSchemaError(reason, "a trade has the 15 fields of contract V2")
    names = [field["name"] for field in parsed["fields"]]
    return compile_engine(parsed, True, [_ATTRIBUTES.get(name, name) for name in names])


@cache
def _contract_nodes() -> Mapping[str, Node]:
    """Return the plan of each field of contract V2, as it ships."""
    plan = plan_schema(parse_source(FileRegistry.packaged().latest(SUBJECT).text))
    assert plan is not None
    nodes = dict(zip(plan.names, plan.children, strict=True))
    return {name: nodes[name] for name in FIELDS}


def _is_same(node: Node, found: Node | None) -> bool:
    """Tell whether a field holds the same values; whether it may be null is up to its schema."""
    return found is not None and replace(found, null_index=-1) == replace(node, null_index=-1)
