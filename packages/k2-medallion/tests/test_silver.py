"""Every Bronze row comes out of Silver once, accepted or dead; no bytes make it raise."""

import json
import random
from datetime import UTC, datetime
from io import BytesIO

import pytest
from fastavro import parse_schema, schemaless_writer

from k2_medallion.bronze import to_bronze
from k2_medallion.silver import judge, to_dead_letters, to_silver
from k2_medallion.testing import KafkaRecord, kafka_frame
from k2_medallion.trade_contract import TradeContract
from k2_schemas import SchemaError, TradeCodec
from k2_schemas.testing import make_trade
from k2_schemas.trade_codec import trade_to_record
from k2_validation import SILVER_TRADES

pytestmark = [pytest.mark.spark, pytest.mark.filterwarnings("ignore::ResourceWarning")]

TOPIC = "market.crypto.trades.binance"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CODEC = TradeCodec()


def run(spark, values):
    """Judge records with these values, at offsets 0, 1, 2, …"""
    records = [KafkaRecord(0, offset, value) for offset, value in enumerate(values)]
    return judge(
        to_bronze(kafka_frame(spark, TOPIC, records), NOW), TradeContract.packaged()
    ).persist()


def verdicts(judged):
    """Return offset -> (accepted, reason, type)."""
    rows = judged.select("bronze.offset", "accepted", "error_reason", "error_type").collect()
    return {row[0]: tuple(row[1:]) for row in rows}


def test_a_valid_trade_keeps_every_digit(spark):
    """What the feed encoded is what Silver holds, to the last of eight fraction digits."""
    trade = make_trade(price="9999999999.99999999", quantity="0.00000001")

    (row,) = to_silver(run(spark, [CODEC.encode(trade)]), TradeContract.packaged(), NOW).collect()

    assert (trade.price, trade.quantity) == (row["price"], row["quantity"])
    assert (trade.message_id, trade.symbol, "SELL") == (
        row["message_id"],
        row["symbol"],
        row["side"],
    )
    assert row["vendor_data"] == {"pair": "BTCUSDT"}
    assert row["schema_id"] == 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty record"),
        (b"", "empty record"),
        (b"\x00\x00", "shorter than its 5-byte header and a body"),
        (b"\x00\x00\x00\x00\x01", "shorter than its 5-byte header and a body"),
        (b"\x07" + CODEC.encode(make_trade())[1:], "bad magic byte 0x07"),
        (b"\x00\x00\x00\x03\xe7" + b"x" * 60, "unknown schema id 999; known: 1"),
        (b"\x00\xff\xff\xff\xff" + b"x" * 60, "unknown schema id 4294967295; known: 1"),
        (CODEC.encode(make_trade())[:60], "body is not exactly one record of schema id 1"),
    ],
)
def test_broken_framing_is_named(spark, value, reason):
    """A record that is no trade frame is dead with the reason a person needs."""
    assert {0: (False, reason, "schema")} == verdicts(run(spark, [value]))


def test_a_message_id_of_another_trade_is_dead(spark):
    """An id that is not derived from the trade would let the same trade into Gold twice."""
    frame = CODEC.encode(make_trade())
    foreign = frame.replace(make_trade().message_id.encode(), make_trade(9).message_id.encode())

    reason = "message_id is not the UUIDv5 of exchange, pair and trade id"
    assert {0: (False, reason, "schema")} == verdicts(run(spark, [foreign]))


def body_with(**changes):
    """Return a frame of the example trade with some fields as no codec of ours would write them."""
    schema = parse_schema(json.loads(TradeContract.packaged().schemas[1].text), {})
    body = BytesIO()
    schemaless_writer(body, schema, trade_to_record(make_trade()) | changes)
    return b"\x00\x00\x00\x00\x01" + body.getvalue()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        # 64 bits above the true price, which Spark's reader would drop without a word.
        (
            body_with(price=(6_183_763_000_000 + 2**64).to_bytes(12, "big")),
            "price beyond decimal(18,8)",
        ),
        (body_with(quantity=(10**18).to_bytes(9, "big")), "quantity beyond decimal(18,8)"),
        (CODEC.encode(make_trade()) + b"x", "body is not exactly one record of schema id 1"),
        (CODEC.encode(make_trade()) * 2, "body is not exactly one record of schema id 1"),
        (body_with(exchange="KRAKEN"), "exchange is not the topic's"),
        (body_with(exchange="binance"), "exchange is not the topic's"),
        (
            body_with(vendor_data=None),
            "message_id is not the UUIDv5 of exchange, pair and trade id",
        ),
    ],
)
def test_what_spark_alone_would_let_pass_is_dead(spark, value, reason):
    """Wrapped decimals, bytes after the body, another exchange, no pair: all refused."""
    assert {0: (False, reason, "schema")} == verdicts(run(spark, [value]))


def test_rules_name_what_failed(spark):
    """A decodable trade that breaks rules is dead with every rule it broke."""
    year_us = 366 * 86_400 * 1_000_000
    good = make_trade()
    values = [
        CODEC.encode(make_trade(price="0")),
        CODEC.encode(make_trade(symbol="")),
        CODEC.encode(make_trade(timestamp_us=good.timestamp_us)),
    ]
    future = CODEC.encode(
        type(good)(**{**fields(good), "timestamp_us": good.ingestion_us + 6_000_000})
    )
    old = CODEC.encode(type(good)(**{**fields(good), "timestamp_us": good.ingestion_us - year_us}))

    found = verdicts(run(spark, [*values, future, old]))

    assert [found[n][0] for n in range(5)] == [False, False, True, False, False]
    assert [found[n][2] for n in range(5)] == [
        "range",
        "completeness",
        None,
        "timeliness",
        "timeliness",
    ]
    assert "price must be > 0" in found[0][1]


def fields(trade):
    """Return a trade's fields by name."""
    return {name: getattr(trade, name) for name in trade.__struct_fields__}


def test_random_and_mutated_bytes_never_raise_and_agree_with_the_codec(spark):
    """Spark accepts nothing that the codec and the rules refuse, whatever the bytes."""
    source = random.Random(20261123)
    frame = CODEC.encode(make_trade())
    values = [b"\x00\x00\x00\x00\x01" + source.randbytes(source.randrange(120)) for _ in range(150)]
    for _ in range(150):
        broken = bytearray(frame)
        broken[source.randrange(len(broken))] ^= 1 << source.randrange(8)
        values.append(bytes(broken))
    values += [frame[:cut] for cut in range(len(frame))]

    found = verdicts(run(spark, values))

    assert set(range(len(values))) == set(found)
    for offset, (accepted, reason, _) in found.items():
        assert accepted == (reason is None)
        if accepted:
            assert is_acceptable(values[offset]), values[offset].hex()


def is_acceptable(value):
    """Judge by the Python codec and rules, forgiving what Spark is known to forgive."""
    try:
        trade = CODEC.decode(value)
    except SchemaError:
        return False
    moments = {
        "timestamp": datetime.fromtimestamp(trade.timestamp_us / 1e6, UTC),
        "ingestion_timestamp": datetime.fromtimestamp(trade.ingestion_us / 1e6, UTC),
    }
    names = ("message_id", "symbol", "side", "price", "quantity", "asset_class")
    record = {name: getattr(trade, name) for name in names} | moments
    return not SILVER_TRADES.check(record)


def test_a_length_prefix_of_two_gigabytes_is_a_dead_letter_not_an_allocation(spark):
    """A poison record must not make the executor ask for more memory than there is."""
    huge = bytes([0xFE, 0xFF, 0xFF, 0xFF, 0x0F])  # zigzag varint of 2**31 - 1
    bomb = b"\x00\x00\x00\x00\x01" + huge + b"x" * 20

    found = verdicts(run(spark, [bomb, CODEC.encode(make_trade())]))

    assert found[0] == (False, "body is not exactly one record of schema id 1", "schema")
    assert found[1][0]


def test_times_beyond_the_calendar_are_dead_not_an_overflow(spark):
    """A time that no calendar holds fails its rule; comparing it does not stop the batch."""
    values = [
        body_with(**{name: time_us})
        for name in ("timestamp", "ingestion_timestamp")
        for time_us in (2**63 - 1, -(2**63))
    ]

    found = verdicts(run(spark, values))

    assert [found[n][0] for n in range(4)] == [False] * 4


def test_accepted_and_dead_are_all_rows_once_with_their_bytes(spark):
    """Silver and dead letters together are the batch; the dead carry bytes, place and rules."""
    values = [CODEC.encode(make_trade(7)), b"junk!!", None, CODEC.encode(make_trade(8, price="0"))]
    judged = run(spark, values)

    dead = to_dead_letters(judged, "bronze_binance_trades", NOW).collect()
    silver = to_silver(judged, TradeContract.packaged(), NOW).collect()

    assert [row["trade_id"] for row in silver] == ["7"]
    assert {(1, b"junk!!"), (2, None), (3, values[3])} == {
        (row["kafka_offset"], None if row["raw_record"] is None else bytes(row["raw_record"]))
        for row in dead
    }
    assert {(TOPIC, 0, "bronze_binance_trades", SILVER_TRADES.fingerprint, NOW.date())} == {
        (r["kafka_topic"], r["kafka_partition"], r["bronze_source"], r["rules_fingerprint"], r[10])
        for r in dead
    }


def test_text_that_is_not_utf_8_never_reaches_a_text_column(spark):
    """One record's broken key or symbol must not make a table unreadable for others."""
    broken = CODEC.encode(make_trade(symbol="BTC/USDT")).replace(b"BTC/USDT", b"BTC/\xd5SDT")
    records = [KafkaRecord(0, 0, broken, key=b"\xff\xfe")]

    judged = judge(to_bronze(kafka_frame(spark, TOPIC, records), NOW), TradeContract.packaged())

    assert verdicts(judged) == {0: (False, "body holds text that is not UTF-8", "schema")}
    assert judged.select("bronze.message_key").collect()[0][0] == "\ufffd\ufffd"
