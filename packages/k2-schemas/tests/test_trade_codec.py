"""TradeCodec: a trade's bytes, exact both ways, and nothing but schema errors for bad ones."""

import io
import struct
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_schemas import (
    FieldError,
    FileRegistry,
    FrameError,
    LockedSchema,
    RecordDecodeError,
    SchemaError,
    Trade,
    TradeCodec,
    UnknownSchemaError,
    UnsupportedSchemaError,
    parse_frame,
)
from k2_schemas.frame import HEADER_BYTES
from k2_schemas.testing import make_trade
from k2_schemas.topics import SUBJECT
from k2_schemas.trade_codec import FIELDS, trade_to_record
from k2_schemas.units import MAX_UNITS

CODEC = TradeCodec()
AVSC = fastavro.parse_schema(
    msgspec.json.decode(FileRegistry.packaged().latest(SUBJECT).text), named_schemas={}
)
TEXTS = st.text(max_size=12)
LONGS = st.integers(-(2**63), 2**63 - 1)
TIMES_US = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
TRADES = st.builds(
    Trade,
    trade_id=TEXTS,
    symbol=TEXTS,
    exchange=TEXTS,
    timestamp_us=TIMES_US,
    price_units=st.integers(-MAX_UNITS, MAX_UNITS),
    quantity_units=st.integers(-MAX_UNITS, MAX_UNITS),
    currency=TEXTS,
    side=st.sampled_from(["BUY", "SELL"]),
    ingestion_us=TIMES_US,
    vendor_data=st.dictionaries(TEXTS, TEXTS, max_size=3).flatmap(
        lambda extras: TEXTS.map(lambda pair: {**extras, "pair": pair})
    ),
    source_sequence=st.none() | LONGS,
    platform_sequence=st.none() | LONGS,
    trade_conditions=st.lists(TEXTS, max_size=3).map(tuple),
)


def make_frame(changes: Mapping[str, Any]) -> bytes:
    """Write a record that no Trade could hold, as a foreign producer might."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, AVSC, trade_to_record(make_trade()) | changes)
    return b"\x00\x00\x00\x00\x01" + out.getvalue()


@given(TRADES)
@settings(deadline=None, max_examples=200)
def test_a_trade_comes_back_as_it_was(trade: Trade):
    """Encoding and decoding lose no field and no digit."""
    assert CODEC.decode(CODEC.encode(trade)) == trade


@given(TRADES)
@settings(deadline=None, max_examples=100)
def test_plain_fastavro_reads_the_same_trade(trade: Trade):
    """Any Avro reader with the .avsc sees the contract's Decimals, times and names."""
    record: Any = fastavro.schemaless_reader(
        io.BytesIO(CODEC.encode(trade)[HEADER_BYTES:]), AVSC, None
    )

    assert (record["price"], record["quantity"]) == (trade.price, trade.quantity)
    assert isinstance(record["price"], Decimal)
    assert str(record["message_id"]) == trade.message_id
    assert record["asset_class"] == "crypto"
    assert record["vendor_data"] == trade.vendor_data
    assert tuple(record) == FIELDS


def test_a_frame_starts_with_magic_byte_and_schema_id():
    """The Confluent wire format: 0x00, four bytes big-endian, body."""
    frame = CODEC.encode(make_trade())

    assert struct.unpack(">bI", frame[:5]) == (0, CODEC.schema_id)
    assert parse_frame(frame) == (CODEC.schema_id, frame[5:])


def test_equal_trades_have_equal_bytes():
    """A replay writes the very same record."""
    assert CODEC.encode(make_trade()) == TradeCodec().encode(make_trade())


def test_every_truncation_is_a_schema_error():
    """A frame cut anywhere never decodes, and nothing but a schema error escapes."""
    frame = CODEC.encode(make_trade())
    for size in range(len(frame)):
        with pytest.raises(SchemaError):
            CODEC.decode(frame[:size])


def test_every_flipped_bit_decodes_or_is_a_schema_error():
    """A corrupt frame never raises what a reader does not expect."""
    frame = CODEC.encode(make_trade())
    outcomes = {_outcome(_flip(frame, bit)) for bit in range(len(frame) * 8)}

    assert outcomes <= {"Trade", "FrameError", "UnknownSchemaError", "RecordDecodeError"}
    assert "RecordDecodeError" in outcomes


@given(st.binary(max_size=200), st.booleans())
@settings(deadline=None, max_examples=300)
def test_arbitrary_bytes_are_a_schema_error(noise: bytes, framed: bool):
    """Random bytes, with and without a valid header, raise schema errors only."""
    frame = b"\x00\x00\x00\x00\x01" + noise if framed else noise
    with pytest.raises(SchemaError):
        CODEC.decode(frame)


def _flip(frame: bytes, bit: int) -> bytes:
    flipped = bytearray(frame)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def _outcome(frame: bytes) -> str:
    try:
        return type(CODEC.decode(frame)).__name__
    except SchemaError as error:
        return type(error).__name__


@pytest.mark.parametrize("frame", [b"", b"\x00", b"\x00\x00\x00\x00\x01", b"\x01\x00\x00\x00\x01x"])
def test_bytes_without_a_header_and_a_body_are_a_frame_error(frame: bytes):
    """The error says how many bytes there were."""
    with pytest.raises(FrameError) as caught:
        parse_frame(frame)

    assert caught.value.size_bytes == len(frame)


def test_trailing_bytes_are_refused():
    """A record with something behind it is not the record its schema says."""
    with pytest.raises(RecordDecodeError, match="2 trailing bytes"):
        CODEC.decode(CODEC.encode(make_trade()) + b"\x00\x00")


def test_an_unknown_schema_id_names_the_known_ones():
    """The reader can be taught the id and the record requeued."""
    frame = CODEC.encode(make_trade())
    with pytest.raises(UnknownSchemaError) as caught:
        CODEC.decode(b"\x00\x00\x00\x00\x63" + frame[5:])

    assert (caught.value.wanted, caught.value.known) == (99, (1,))


def test_a_foreign_message_id_is_refused():
    """Deduplication trusts message_id, so it must be the trade's own."""
    with pytest.raises(RecordDecodeError, match="message_id is not the one"):
        CODEC.decode(make_frame({"message_id": "6b2f7a3e-5d43-5e0b-9c4a-2f1d8e7c6b5a"}))


@pytest.mark.parametrize("vendor_data", [None, {}, {"pear": "BTCUSDT"}])
def test_a_record_without_its_pair_is_refused(vendor_data: object):
    """vendor_data always holds pair; a record without it has no identity."""
    with pytest.raises(RecordDecodeError):
        CODEC.decode(make_frame({"vendor_data": vendor_data}))


@pytest.mark.parametrize("units", [MAX_UNITS + 1, -MAX_UNITS - 1, 10**30])
def test_decimals_beyond_18_digits_are_refused_when_read(units: int):
    """fastavro would round them to 18 digits; we do not."""
    price = units.to_bytes((units.bit_length() + 8) // 8, "big", signed=True)
    with pytest.raises(RecordDecodeError, match="beyond decimal"):
        CODEC.decode(make_frame({"price": price}))


@pytest.mark.parametrize(
    "changes",
    [
        {"price_units": MAX_UNITS + 1},
        {"quantity_units": -MAX_UNITS - 1},
        {"price_units": 1.5},
        {"price_units": True},
        {"side": "HOLD"},
        {"trade_id": 7},
        {"trade_id": "\ud800"},
        {"symbol": "\ud800"},
        {"symbol": None},
        {"source_sequence": 2**63},
        {"platform_sequence": -(2**63) - 1},
        {"timestamp_us": 253_402_300_800_000_000},
        {"timestamp_us": 2**63},
        {"ingestion_us": -62_135_596_800_000_001},
        {"vendor_data": {}},
        {"vendor_data": {"pair": "BTCUSDT", "n": 1}},
    ],
    ids=str,
)
def test_what_v2_cannot_hold_is_a_field_error(changes: dict[str, Any]):
    """Encoding refuses what decoding could not give back."""
    trade = msgspec.structs.replace(make_trade(), **changes)
    with pytest.raises(FieldError):
        CODEC.encode(trade)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"scale": 8', '"scale": 4'),
        ("timestamp-micros", "timestamp-millis"),
        ('"name": "trade_id", "type": "string"', '"name": "trade_id", "type": "long"'),
        ('"name": "currency"', '"name": "quote"'),
    ],
)
def test_a_schema_that_means_something_else_is_refused(old: str, new: str):
    """Fifteen equal names are no contract: scale 4 would make every price 10,000 times smaller."""
    text = FileRegistry.packaged().latest(SUBJECT).text
    other = FileRegistry({1: LockedSchema(SUBJECT, 1, 1, text.replace(old, new))})
    with pytest.raises(UnsupportedSchemaError, match="has another"):
        TradeCodec(other)


@pytest.mark.parametrize(
    "text", ['"string"', '["null", "string"]', '{"type":"map","values":"long"}']
)
def test_a_schema_that_is_no_record_is_refused(text: str):
    """Whatever was registered under the id."""
    with pytest.raises(UnsupportedSchemaError):
        TradeCodec(FileRegistry({1: LockedSchema(SUBJECT, 1, 1, text)}))
