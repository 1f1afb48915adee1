"""Our bytes, read and written by Apache Avro's own tools in Java."""

import json
import os
import subprocess
from importlib import resources
from pathlib import Path

import fastavro
import pytest
from platformdirs import user_cache_path

import k2_schemas
from k2_medallion.jvm import fetch_jars, find_java, read_lock
from k2_schemas import FileRegistry, Trade, TradeCodec
from k2_schemas.topics import SUBJECT

SCHEMA_FILE = resources.files("k2_schemas").joinpath("avro/trade_v2.avsc")
CODEC = k2_schemas.compile(FileRegistry.packaged().latest(SUBJECT).text, units=True)
HEADER_BYTES = 5


def run_tool(*arguments):
    """Run one of avro-tools on files and return what it printed, as bytes."""
    cache = user_cache_path("k2")
    lock = Path(__file__).with_name("avro_tools.lock")
    (jar,) = fetch_jars(read_lock(lock.read_text("utf-8")), cache)
    java = find_java(cache, os.environ).executable
    result = subprocess.run(
        [java, "-Dfile.encoding=UTF-8", "-jar", jar, *arguments], capture_output=True, timeout=60
    )
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    return result.stdout


def to_record(trade: Trade):
    """The 15 fields with units as integers, from the trade's own attributes."""
    return {
        "message_id": trade.message_id,
        "trade_id": trade.trade_id,
        "symbol": trade.symbol,
        "exchange": trade.exchange,
        "asset_class": trade.asset_class,
        "timestamp": trade.timestamp_us,
        "price": trade.price_units,
        "quantity": trade.quantity_units,
        "currency": trade.currency,
        "side": trade.side,
        "trade_conditions": list(trade.trade_conditions),
        "source_sequence": trade.source_sequence,
        "ingestion_timestamp": trade.ingestion_us,
        "platform_sequence": trade.platform_sequence,
        "vendor_data": dict(trade.vendor_data),
    }


def to_java_json(record):
    """The same record as Avro's JSON has it: a union names its branch, bytes are Latin-1 text."""
    units = {name: to_java_bytes(record[name]) for name in ("price", "quantity")}
    sequences = {
        name: None if record[name] is None else {"long": record[name]}
        for name in ("source_sequence", "platform_sequence")
    }
    extra = record["vendor_data"]
    return record | units | sequences | {"vendor_data": None if extra is None else {"map": extra}}


def to_java_bytes(units):
    """What `BigInteger.toByteArray` gives: the fewest bytes of two's complement, one at least."""
    size = (units if units >= 0 else ~units).bit_length() // 8 + 1
    return units.to_bytes(size, "big", signed=True).decode("latin-1")


@pytest.fixture(scope="module")
def records(seeded_trades):
    """Trades with every edge of their fields, and two records that no Trade can be."""
    records = [to_record(trade) for trade in seeded_trades]
    return [*records, records[0] | {"vendor_data": None}, records[1] | {"vendor_data": {}}]


@pytest.fixture(scope="module")
def bodies(seeded_trades, records):
    """Our bytes: `TradeCodec`'s without their header, and the compiled schema's for the rest."""
    frames = TradeCodec().encode_many(seeded_trades)
    return [frame[HEADER_BYTES:] for frame in frames] + CODEC.encode_many(
        records[len(seeded_trades) :]
    )


@pytest.fixture(scope="module")
def printed(bodies, tmp_path_factory):
    """What fragtojson prints of all bodies, one after the other in a file."""
    file = tmp_path_factory.mktemp("avro") / "bodies.bin"
    file.write_bytes(b"".join(bodies))
    return run_tool("fragtojson", "--no-pretty", "--schema-file", SCHEMA_FILE, file)


def test_java_reads_the_values_that_we_wrote(records, printed):
    """Every field of every record, decimals in the fewest bytes; where each ends, Java agrees."""
    assert [json.loads(line) for line in printed.splitlines()] == [*map(to_java_json, records)]


def test_java_writes_the_bytes_that_we_wrote(records, bodies, printed, tmp_path):
    """Byte for byte; only the order of a map's entries is its writer's own."""
    file = tmp_path / "records.json"
    file.write_bytes(printed)
    written = run_tool("jsontofrag", "--schema-file", SCHEMA_FILE, file)

    maps = [json.loads(line)["vendor_data"] for line in printed.splitlines()]
    in_javas_order = [
        CODEC.encode(record | {"vendor_data": found and found["map"]})
        for record, found in zip(records, maps, strict=True)
    ]
    assert written == b"".join(in_javas_order)
    assert [
        body for body, record in zip(in_javas_order, records, strict=True) if is_plain(record)
    ] == [body for body, record in zip(bodies, records, strict=True) if is_plain(record)]


def is_plain(record):
    """Whether a record's map has one order only."""
    return len(record["vendor_data"] or ()) < 2


@pytest.mark.parametrize("algorithm", ["CRC-64-AVRO", "SHA-256"])
def test_java_and_fastavro_agree_on_the_schema(algorithm):
    """One fingerprint of the parsing canonical form (Avro 1.12 specification)."""
    form = fastavro.schema.to_parsing_canonical_form(json.loads(SCHEMA_FILE.read_text("utf-8")))
    printed = run_tool("fingerprint", "--fingerprint", algorithm, SCHEMA_FILE)

    assert printed.split()[0].decode() == fastavro.schema.fingerprint(form, algorithm)


def test_the_schema_compiles_to_java(tmp_path):
    """A consumer in Java gets a class with typed prices and times, not bytes and longs."""
    run_tool("compile", "-string", "-bigDecimal", "schema", SCHEMA_FILE, tmp_path)
    (trade,) = tmp_path.rglob("TradeV2.java")
    source = trade.read_text("utf-8")

    assert "private java.math.BigDecimal price;" in source
    assert "private java.time.Instant timestamp;" in source
