"""Dead records go back to their topic on a real Kafka, and the audit asks it what it holds."""

import json
import os
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, TopicPartition
from platformdirs import user_cache_path

from k2_cli.broker import Broker, kafka_jars
from k2_cli.requeue import HEADER_REQUEUED_FROM
from k2_cli.watermarks import read_offset_ranges
from k2_connectors import KafkaPublisher, create_topics
from k2_medallion import (
    DEAD_LETTERS,
    LakeHome,
    all_tables,
    bronze_trades,
    ensure_tables,
    open_catalog,
)
from k2_medallion.jvm import fetch_jars, find_java
from k2_schemas import TradeCodec
from k2_schemas.testing import make_trade
from k2_schemas.topics import PARTITIONS, trades_topic

pytestmark = pytest.mark.pipeline

TOPIC = trades_topic("binance")
NOW = datetime.now(UTC)
WORTHLESS = [make_trade(number, price="0") for number in (1, 2)]
BROKEN = b"\x07 no magic"
RECORDS = [*map(TradeCodec().encode, WORTHLESS), BROKEN]


@pytest.fixture(scope="module")
def broker(tmp_path_factory, free_port):
    """Start a broker with a record of every kind that dies."""
    cache = user_cache_path("k2")
    home = tmp_path_factory.mktemp("broker")
    java, jars = find_java(cache, os.environ), fetch_jars(kafka_jars(), Path(cache))
    broker = Broker(home, free_port, java, jars)
    broker.start()
    broker.wait()
    create_topics(broker.address, ["binance"])
    publisher = KafkaPublisher(broker.address)
    for trade in WORTHLESS:
        publisher.publish([trade])
    publisher.flush()
    yield broker
    broker.child.stop()


@pytest.fixture(scope="module")
def partition(broker):
    """Return the one partition that the records' key leads to."""
    ranges = read_offset_ranges(broker.address, [TOPIC])
    (found,) = [number for (_, number), (_, high) in ranges.items() if high]
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory, partition):
    """Make the lake that has read the two trades, and broken bytes that Bronze has forgotten."""
    path = tmp_path_factory.mktemp("lake")
    catalog = open_catalog(LakeHome(path), create=True)
    ensure_tables(catalog, all_tables(["binance"]))

    def append(spec, rows):
        table = catalog.load_table(spec.identifier)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Parquet writer option", UserWarning)
            table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))

    place = {"partition": partition, "topic": TOPIC}
    times = {"ingestion_timestamp": NOW, "ingestion_date": NOW.date()}
    bronze = {"message_key": "BTC/USDT", "raw_bytes": RECORDS[0], "offset": 0} | place | times
    append(bronze_trades("binance"), [bronze])
    dead = {"kafka_topic": TOPIC, "kafka_partition": partition, "error_type": "range"}
    dead |= {"error_timestamp": NOW, "dlq_date": NOW.date(), "error_reason": "because"}
    dead |= {"bronze_source": "bronze_binance_trades"}
    append(
        DEAD_LETTERS,
        [dead | {"raw_record": raw, "kafka_offset": n} for n, raw in enumerate(RECORDS)],
    )
    catalog.close()
    return path


def run(home, broker, *arguments):
    """Run `k2 …` against the broker; return exit code and stdout."""
    where = ["--home", str(home), "--bootstrap", broker.address]
    command = [sys.executable, "-m", "k2_cli", *map(str, arguments), *where]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return result.returncode, result.stdout


def read_from(broker, partition, offset):
    """Return (partition, key, value, headers) of what the topic holds from an offset on."""
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "test"})
    ranges = read_offset_ranges(broker.address, [TOPIC])
    starts = {number: offset if number == partition else 0 for number in range(PARTITIONS)}
    consumer.assign([TopicPartition(TOPIC, number, start) for number, start in starts.items()])
    wanted = sum(high for _, high in ranges.values()) - offset
    records = []
    try:
        while len(records) < wanted:
            records += [m for m in consumer.consume(wanted, timeout=10) if m.error() is None]
    finally:
        consumer.close()
    return [(m.partition(), m.key(), m.value(), m.headers()) for m in records]


def test_requeued_records_are_the_same_bytes_under_the_same_key(broker, partition, home):
    """With where they came from; one whose key nobody knows any more goes without."""
    before = read_offset_ranges(broker.address, [TOPIC])
    assert before[TOPIC, partition].high == len(WORTHLESS)
    code, out = run(home, broker, "dlq", "requeue", "--where", "error_type = 'range'", "--json")

    assert code == 0
    assert json.loads(out)["requeued"] == len(RECORDS)
    found = read_from(broker, partition, len(WORTHLESS))
    origin = [[(HEADER_REQUEUED_FROM, f"{TOPIC}/{partition}/{n}".encode())] for n in range(3)]
    # The first as Bronze has its key, the second's is in its bytes.
    with_key = [record for record in found if record[1] is not None]
    assert with_key == [(partition, b"BTC/USDT", RECORDS[n], origin[n]) for n in (0, 1)]
    assert [record[1:] for record in found if record[1] is None] == [(None, BROKEN, origin[2])]


def test_a_dry_run_produces_nothing(broker, partition, home):
    """It says what it would do, and Kafka stays as it is."""
    before = read_offset_ranges(broker.address, [TOPIC])
    code, out = run(home, broker, "dlq", "requeue", TOPIC, partition, 0, 1, "--dry-run")

    assert code == 0
    assert out.endswith("would requeue 2 records\n")
    assert read_offset_ranges(broker.address, [TOPIC]) == before


def test_the_audit_asks_kafka_what_it_holds(broker, partition, home):
    """Bronze has read one record; the others are lag, and a breach only if strict."""
    code, out = run(home, broker, "verify", "--json")
    report = json.loads(out)
    ends = read_offset_ranges(broker.address, [TOPIC])

    assert (report["breaches"], report["settled"]) == (1, False)
    # Two dead letters of this lake have no Bronze row: it was written so.
    assert [law["found"] for law in report["laws"] if not law["holds"]] == [1]
    assert code == 1
    lags = {(lag["topic"], lag["partition"]): lag["offsets"] for lag in report["lags"]}
    other = ends[TOPIC, 1 - partition].high
    expected = {(TOPIC, partition): ends[TOPIC, partition].high - 1, (TOPIC, 1 - partition): other}
    assert lags == {place: offsets for place, offsets in expected.items() if offsets}


def test_topics_that_do_not_exist_have_no_ranges(broker):
    """An empty answer, not an error: a lake may wait for its topics."""
    assert read_offset_ranges(broker.address, ["no.such.topic"]) == {}
