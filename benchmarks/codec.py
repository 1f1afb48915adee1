"""The codec beside fastavro, cavro and confluent-kafka: same trades, one run, CPU time."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cavro
import fastavro
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

import k2_schemas
from k2_connectors import Binance
from k2_schemas import FileRegistry, Trade, TradeCodec, WireCodec, parse_frame
from k2_schemas import confluent as k2_confluent
from k2_schemas.testing import make_trade
from k2_schemas.topics import SUBJECT
from k2_schemas.trade_codec import trade_to_record

from .measure import Spread, interleave
from .report import Report

TRADES = 20_000
SLOW_TRADES = 4_000
"""confluent-kafka takes one message as long as others take twenty."""
ROUNDTRIP = 1_000
ROUNDTRIPS = 10
ROUNDS = 7
RECV_US = 1_790_446_074_700_000
CONTEXT = SerializationContext("market.crypto.trades.binance", MessageField.VALUE)

Candidates = dict[str, tuple[int, Callable[[], object]]]


@dataclass(frozen=True, slots=True)
class Records:
    """The same trades in every form that a candidate takes."""

    trades: list[Trade]
    exact: list[dict[str, Any]]
    units: list[dict[str, Any]]
    bypassed: list[dict[str, Any]]
    bodies: list[bytes]
    frames: list[bytes]
    json_frames: list[bytes]


def run(report: Report, arguments: Sequence[str]) -> dict[str, float]:
    """Measure, report, and return the figures."""
    text = FileRegistry.packaged().latest(SUBJECT).text
    records = make_records(text)
    report.versions("k2-schemas", "fastavro", "cavro", "confluent-kafka", "msgspec")
    report.note(
        f"{TRADES:,} trades of {len(records.frames[0])} bytes, {ROUNDS} interleaved rounds, CPU "
        f"time of one core; engine: {k2_schemas.backend}. “exact” is Decimal, aware datetime and "
        "UUID; “units” is scaled integers, microseconds and text; “bypassed” is a schema without "
        "logical types and values that already are the bytes, which no user has."
    )
    encoders = interleave(encode_candidates(text, records), ROUNDS)
    decoders = interleave(decode_candidates(text, records), ROUNDS)
    pipeline = interleave(pipeline_candidates(text, records), ROUNDS)
    report.spreads("Encode", "records", encoders)
    report.spreads("Decode", "records", decoders)
    report.spreads("Whole ways", "trades", pipeline)
    figures = summarise(encoders, decoders, pipeline)
    report.table(
        "Figures", ["key", "value"], [[key, f"{value:,.2f}"] for key, value in figures.items()]
    )
    return figures


def make_records(text: str) -> Records:
    """Make trades that differ as real ones do, and check that every codec makes equal bytes."""
    trades = [
        make_trade(
            3_735_683_259 + number,
            price=f"{61_837 + number % 100}.{number % 100:02d}",
            quantity=f"0.{number % 99_999 + 1:05d}",
            timestamp_us=1_790_446_074_000_000 + number,
        )
        for number in range(TRADES)
    ]
    exact = [trade_to_record(trade) for trade in trades]
    units = [
        record
        | {
            "timestamp": trade.timestamp_us,
            "price": trade.price_units,
            "quantity": trade.quantity_units,
            "ingestion_timestamp": trade.ingestion_us,
        }
        for record, trade in zip(exact, trades, strict=True)
    ]
    frames = TradeCodec().encode_many(trades)
    return Records(
        trades=trades,
        exact=exact,
        units=units,
        bypassed=[as_bytes(record) for record in units],
        bodies=[parse_frame(frame)[1] for frame in frames],
        frames=frames,
        json_frames=[write_binance_frame(trade) for trade in trades],
    )


def as_bytes(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record whose decimals are the bytes to write."""
    return record | {name: to_bytes(record[name]) for name in ("price", "quantity")}


def to_bytes(units: int) -> bytes:
    """Return the two's complement of a scaled integer."""
    return units.to_bytes((units.bit_length() + 8) // 8, "big", signed=True)


def write_binance_frame(trade: Trade) -> bytes:
    """Return a trade as Binance's combined stream sends it."""
    data = {
        "e": "trade",
        "E": trade.timestamp_us // 1000 + 1,
        "s": "BTCUSDT",
        "t": trade.source_sequence,
        "p": trade.price_text,
        "q": trade.quantity_text,
        "T": trade.timestamp_us // 1000,
        "m": trade.side == "SELL",
        "M": True,
    }
    frame = {"stream": "btcusdt@trade", "data": data}
    return json.dumps(frame, separators=(",", ":")).encode()


def without_logical_types(text: str) -> dict[str, Any]:
    """Return the schema as bytes, longs and strings."""
    schema: dict[str, Any] = json.loads(text)
    for field in schema["fields"]:
        if isinstance(field["type"], dict):
            field["type"].pop("logicalType", None)
    return schema


def each(function: Callable[[Any], object], items: Sequence[Any]) -> tuple[int, Callable[[], None]]:
    """Return a candidate that calls a function once per item and keeps nothing."""

    def call_all() -> None:
        for item in items:
            function(item)

    return len(items), call_all


def fastavro_encoder(schema: Any) -> Callable[[Any], bytes]:
    """Return fastavro's encoder of one schema."""
    parsed = fastavro.parse_schema(schema, named_schemas={})

    def encode(record: Any) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, record)
        return out.getvalue()

    return encode


def fastavro_decoder(schema: Any) -> Callable[[bytes], Any]:
    """Return fastavro's decoder of one schema."""
    parsed = fastavro.parse_schema(schema, named_schemas={})
    return lambda body: fastavro.schemaless_reader(io.BytesIO(body), parsed, None)


def encode_candidates(text: str, records: Records) -> Candidates:
    """Return every encoder, each checked to write the same bytes first."""
    exact, units = k2_schemas.compile(text), k2_schemas.compile(text, units=True)
    by_fastavro = fastavro_encoder(json.loads(text))
    bypassing = fastavro_encoder(without_logical_types(text))
    by_cavro = cavro.Schema(text).binary_encode
    bypassing_cavro = cavro.Schema(json.dumps(without_logical_types(text))).binary_encode
    confluent = confluent_serializer(text)
    ours = k2_confluent.AvroSerializer(FileRegistry.packaged())
    rows = [tuple(record.values()) for record in records.units]

    def from_units(record: dict[str, Any]) -> bytes:
        return bypassing(as_bytes(record))

    expected = records.bodies[7]
    assert exact.encode(records.exact[7]) == units.encode(records.units[7]) == expected
    assert by_fastavro(records.exact[7]) == from_units(records.units[7]) == expected
    assert by_cavro(records.exact[7]) == bypassing_cavro(records.bypassed[7]) == expected
    assert confluent(records.exact[7], CONTEXT) == records.frames[7]
    return {
        "K2 encode, units": each(units.encode, records.units),
        "K2 encode_many, units as rows": (TRADES, lambda: units.encode_many(rows)),
        "K2 encode_many, units": (TRADES, lambda: units.encode_many(records.units)),
        "K2 encode, exact": each(exact.encode, records.exact),
        "K2 AvroSerializer, exact": each(lambda r: ours(r, CONTEXT), records.exact),
        "fastavro, from units": each(from_units, records.units),
        "fastavro, exact": each(by_fastavro, records.exact),
        "fastavro, bypassed": each(bypassing, records.bypassed),
        "cavro, exact": each(by_cavro, records.exact),
        "cavro, bypassed": each(bypassing_cavro, records.bypassed),
        "confluent-kafka AvroSerializer, exact": each(
            lambda record: confluent(record, CONTEXT), records.exact[:SLOW_TRADES]
        ),
    }


def decode_candidates(text: str, records: Records) -> Candidates:
    """Return every decoder, each checked to read the same values first."""
    exact, units = k2_schemas.compile(text), k2_schemas.compile(text, units=True)
    by_fastavro = fastavro_decoder(json.loads(text))
    bypassing = fastavro_decoder(without_logical_types(text))
    by_cavro = cavro.Schema(text).binary_decode
    bypassing_cavro = cavro.Schema(json.dumps(without_logical_types(text))).binary_decode
    confluent = confluent_deserializer(text)
    ours = k2_confluent.AvroDeserializer(FileRegistry.packaged())
    assert exact.decode(records.bodies[7]) == by_fastavro(records.bodies[7])
    assert confluent(records.frames[7], CONTEXT) == by_fastavro(records.bodies[7])
    assert units.decode(records.bodies[7]) == records.units[7]
    assert units.decode_arrow(records.bodies).num_rows == TRADES
    return {
        "K2 decode, units": each(units.decode, records.bodies),
        "K2 decode, exact": each(exact.decode, records.bodies),
        "K2 decode_many, units (all kept)": (TRADES, lambda: units.decode_many(records.bodies)),
        "K2 decode_arrow": (TRADES, lambda: units.decode_arrow(records.bodies)),
        "K2 AvroDeserializer, exact": each(lambda f: ours(f, CONTEXT), records.frames),
        "fastavro, exact": each(by_fastavro, records.bodies),
        "fastavro, bypassed": each(bypassing, records.bodies),
        "cavro, exact": each(by_cavro, records.bodies),
        "cavro, bypassed": each(bypassing_cavro, records.bodies),
        "confluent-kafka AvroDeserializer, exact": each(
            lambda frame: confluent(frame, CONTEXT), records.frames[:SLOW_TRADES]
        ),
    }


def pipeline_candidates(text: str, records: Records) -> Candidates:
    """Return what a feed and a reader do with a trade, from end to end."""
    wire = WireCodec(k2_schemas.compile(text, units=True), 1)
    codec, venue = TradeCodec(), Binance(["BTC/USDT"])
    by_fastavro, back = fastavro_encoder(json.loads(text)), fastavro_decoder(json.loads(text))

    def json_to_wire() -> None:
        for frame in records.json_frames:
            for trade in venue.decode(frame, RECV_US).trades:
                codec.encode(trade)

    return {
        "K2 Binance JSON text → Trade → wire bytes, with UUIDv5": (TRADES, json_to_wire),
        "K2 Trade → wire bytes, with UUIDv5": each(codec.encode, records.trades),
        "K2 wire bytes → Trade, UUIDv5 checked": each(codec.decode, records.frames),
        "K2 round trip of 1,000 records, units": round_trip(
            wire.encode, wire.decode, records.units
        ),
        "K2 round trip of 1,000 Trades, UUIDv5 both ways": round_trip(
            codec.encode, codec.decode, records.trades
        ),
        "fastavro round trip of 1,000 records, exact": round_trip(by_fastavro, back, records.exact),
    }


def round_trip(
    encode: Callable[[Any], bytes], decode: Callable[[bytes], object], records: Sequence[Any]
) -> tuple[int, Callable[[], None]]:
    """Return a candidate that brings 1,000 records to bytes and back, several times over."""
    some = records[:ROUNDTRIP] * ROUNDTRIPS

    def run_all() -> None:
        for record in some:
            decode(encode(record))

    return len(some), run_all


def open_confluent_registry(text: str) -> Any:
    """Return confluent-kafka's own in-memory registry with the trade schema as id 1."""
    client = SchemaRegistryClient.new_client({"url": "mock://codec"})
    schema_id = client.register_schema(SUBJECT, Schema(text.strip(), "AVRO"))
    assert schema_id == 1, schema_id
    return client


def confluent_serializer(text: str) -> Any:
    """Return confluent-kafka's serializer as its users are told to run it in production."""
    conf = {"auto.register.schemas": False, "subject.name.strategy": lambda *_: SUBJECT}
    return AvroSerializer(open_confluent_registry(text), text, conf=conf)


def confluent_deserializer(text: str) -> Any:
    """Return confluent-kafka's deserializer."""
    conf = {"subject.name.strategy": lambda *_: SUBJECT}
    return AvroDeserializer(open_confluent_registry(text), text, conf=conf)


def summarise(
    encoders: dict[str, Spread], decoders: dict[str, Spread], pipeline: dict[str, Spread]
) -> dict[str, float]:
    """Return the figures by key; each ratio compares with the peer's row that does the same job."""
    encode, decode = encoders["K2 encode, units"].per_s, decoders["K2 decode, units"].per_s
    roundtrip = pipeline["K2 round trip of 1,000 records, units"]
    json_row = pipeline["K2 Binance JSON text → Trade → wire bytes, with UUIDv5"]
    confluent = "confluent-kafka AvroSerializer, exact"
    return {
        "encode_per_s": round(encode),
        "decode_per_s": round(decode),
        "encode_many_per_s": round(encoders["K2 encode_many, units as rows"].per_s),
        "encode_vs_fastavro": round(encode / encoders["fastavro, from units"].per_s, 2),
        "decode_vs_fastavro": round(decode / decoders["fastavro, bypassed"].per_s, 2),
        "encode_vs_confluent": round(encode / encoders[confluent].per_s, 2),
        "decode_vs_confluent": round(
            decode / decoders["confluent-kafka AvroDeserializer, exact"].per_s, 2
        ),
        "encode_exact_vs_fastavro": round(
            encoders["K2 encode, exact"].per_s / encoders["fastavro, exact"].per_s, 2
        ),
        "decode_exact_vs_fastavro": round(
            decoders["K2 decode, exact"].per_s / decoders["fastavro, exact"].per_s, 2
        ),
        "json_to_wire_per_s": round(json_row.per_s),
        "roundtrip_1000_ms": round(1000 * ROUNDTRIP / roundtrip.per_s, 3),
    }
