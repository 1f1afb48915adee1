"""Trade ↔ bytes: Avro bodies in Confluent framing (0x00, 4-byte big-endian schema id, body).

The engine is fastavro. Decimals and times go in as scaled integers, which skips its Decimal and
datetime paths; `references/codec.md` of the project has the figures.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any, cast

import fastavro
from fastavro.schema import parse_schema

from .errors import FrameError, RecordDecodeError, SchemaError, TradeFieldError
from .registry import FileRegistry, LockedSchema
from .topics import SUBJECT
from .trade import MAX_UNITS, Trade, decimal_to_units

_HEADER = struct.Struct(">bI")
HEADER_BYTES = _HEADER.size
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def parse_frame(frame: bytes) -> tuple[int, bytes]:
    """Split a wire frame into schema id and body; raise `FrameError` when it has no header."""
    if len(frame) <= HEADER_BYTES:
        raise FrameError("shorter than its 5-byte header and a body", len(frame))
    magic, schema_id = _HEADER.unpack_from(frame)
    if magic != 0:
        raise FrameError(f"first byte is 0x{magic & 0xFF:02x}, not 0x00", len(frame))
    return schema_id, frame[HEADER_BYTES:]


class TradeCodec:
    """Encodes trades under one schema id and decodes frames of every locked id."""

    def __init__(self, registry: FileRegistry | None = None) -> None:
        self._registry = registry or FileRegistry.packaged()
        latest = self._registry.latest(SUBJECT)
        self.schema_id = latest.schema_id
        self._header = _HEADER.pack(0, latest.schema_id)
        self._writer_schema = _parse(latest)
        self._reader_schemas = {latest.schema_id: self._writer_schema}

    def encode(self, trade: Trade) -> bytes:
        """Return the wire frame of a trade; raise `TradeFieldError` for what V2 cannot hold."""
        out = BytesIO(self._header)
        out.seek(HEADER_BYTES)
        try:
            record = trade_to_record(trade)
            fastavro.schemaless_writer(out, self._writer_schema, record, strict=True)
        except (TypeError, ValueError, AttributeError, OverflowError, KeyError) as error:
            raise TradeFieldError("trade", trade.trade_id, str(error)) from error
        return out.getvalue()

    def decode(self, frame: bytes) -> Trade:
        """Return the trade in a wire frame.

        Raises `FrameError`, `UnknownSchemaError`, `RecordDecodeError` (also for trailing bytes and
        for a message_id that is not the trade's own) or `TradeFieldError`; nothing else escapes.
        """
        schema_id, body = parse_frame(frame)
        schema = self._reader_schemas.get(schema_id)
        if schema is None:
            schema = self._reader_schemas[schema_id] = _parse(self._registry.get(schema_id))
        source = BytesIO(body)
        try:
            record = fastavro.schemaless_reader(source, schema, None)
            trade = record_to_trade(cast("Mapping[str, Any]", record))
            message_id = trade.message_id
        except SchemaError:
            raise
        except Exception as error:
            raise RecordDecodeError(schema_id, f"{type(error).__name__}: {error}") from error
        if source.tell() != len(body):
            raise RecordDecodeError(schema_id, f"{len(body) - source.tell()} trailing bytes")
        if str(record["message_id"]) != message_id:  # type: ignore[call-overload, index]
            raise RecordDecodeError(schema_id, "message_id is not the one of this trade")
        return trade


def trade_to_record(trade: Trade) -> dict[str, Any]:
    """Return the 15 fields in contract order, decimals as bytes and times as integers."""
    return {
        "message_id": trade.message_id,
        "trade_id": trade.trade_id,
        "symbol": trade.symbol,
        "exchange": trade.exchange,
        "asset_class": trade.asset_class,
        "timestamp": _check_time("timestamp", trade.timestamp_us),
        "price": _units_to_bytes("price", trade.price_units),
        "quantity": _units_to_bytes("quantity", trade.quantity_units),
        "currency": trade.currency,
        "side": trade.side,
        "trade_conditions": list(trade.trade_conditions),
        "source_sequence": trade.source_sequence,
        "ingestion_timestamp": _check_time("ingestion_timestamp", trade.ingestion_us),
        "platform_sequence": trade.platform_sequence,
        "vendor_data": dict(trade.vendor_data),
    }


def record_to_trade(record: Mapping[str, Any]) -> Trade:
    """Build a Trade from a decoded V2 record (Decimals and aware datetimes)."""
    return Trade(
        trade_id=record["trade_id"],
        symbol=record["symbol"],
        exchange=record["exchange"],
        timestamp_us=_to_microseconds(record["timestamp"]),
        price_units=decimal_to_units("price", record["price"]),
        quantity_units=decimal_to_units("quantity", record["quantity"]),
        currency=record["currency"],
        side=record["side"],
        ingestion_us=_to_microseconds(record["ingestion_timestamp"]),
        vendor_data=record["vendor_data"],
        source_sequence=record["source_sequence"],
        platform_sequence=record["platform_sequence"],
        trade_conditions=tuple(record["trade_conditions"]),
    )


def _parse(schema: LockedSchema) -> Any:
    # A fresh namespace each time: fastavro would otherwise refuse the same record name twice.
    return parse_schema(json.loads(schema.text), {})


def _units_to_bytes(field: str, units: int) -> bytes:
    if type(units) is not int or not -MAX_UNITS <= units <= MAX_UNITS:
        raise TradeFieldError(field, units, "not a scaled integer within decimal(18,8)")
    return units.to_bytes((units.bit_length() + 8) // 8, "big", signed=True)


def _check_time(field: str, time_us: int) -> int:
    # Avro's long holds more; a reader's datetime does not, and what we write must be readable.
    if not _FIRST_US <= time_us <= _LAST_US:
        raise TradeFieldError(field, time_us, "not within the years 1 to 9999")
    return time_us


def _to_microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


_FIRST_US = _to_microseconds(datetime.min.replace(tzinfo=UTC))
_LAST_US = _to_microseconds(datetime.max.replace(tzinfo=UTC))
