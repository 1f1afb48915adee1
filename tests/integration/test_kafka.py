"""The publisher and the embedded broker, on a real Kafka."""

import os
import signal
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from platformdirs import user_cache_path

from k2_cli.broker import Broker, kafka_jars
from k2_connectors import KafkaPublisher, PublishError, create_topics
from k2_medallion.jvm import fetch_jars, find_java
from k2_schemas import TradeCodec
from k2_schemas.testing import make_trade
from k2_schemas.topics import DEADLETTER_TOPIC, PARTITIONS, TOPIC_SETTINGS, trades_topic

pytestmark = pytest.mark.pipeline

TOPIC = trades_topic("binance")


@pytest.fixture(scope="module")
def broker(tmp_path_factory, free_port):
    """Start one broker for all tests of this file."""
    cache = user_cache_path("k2")
    home = tmp_path_factory.mktemp("broker")
    broker = Broker(
        home, free_port, find_java(cache, os.environ), fetch_jars(kafka_jars(), Path(cache))
    )
    broker.start()
    broker.wait()
    create_topics(broker.address, ["binance"])
    yield broker
    broker.child.stop()


def read_all(broker, topic):
    """Return every record of a topic as (key, value, headers)."""
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "test"})
    try:
        places = [TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)]
        consumer.assign(places)
        (held, _) = broker.count_records([topic])[topic]
        records = []
        while len(records) < held:
            records += [m for m in consumer.consume(held, timeout=10) if m.error() is None]
        return [(m.key(), m.value(), dict(m.headers() or ())) for m in records]
    finally:
        consumer.close()


def test_topics_are_as_the_contract_says_and_stay_as_they_are(broker):
    """Two partitions, a week, broker time; creating them again changes nothing."""
    create_topics(broker.address, ["binance"])

    admin = AdminClient({"bootstrap.servers": broker.address})
    resource = ConfigResource(ResourceType.TOPIC, TOPIC)
    (future,) = admin.describe_configs([resource]).values()
    found = {name: entry.value for name, entry in future.result().items()}
    assert TOPIC_SETTINGS.items() <= found.items()
    assert len(admin.list_topics().topics[TOPIC].partitions) == PARTITIONS


def test_what_is_published_is_what_is_read(broker):
    """Trades under their symbol; a frame that could not be decoded as it came, with the reason."""
    trades = [make_trade(n) for n in range(500)]
    publisher = KafkaPublisher(broker.address)
    for trade in trades:
        publisher.publish([trade])
    publisher.publish_dead_letter(b"\xff not json", "binance", "why", 42)
    publisher.flush()

    codec = TradeCodec()
    records = read_all(broker, TOPIC)
    assert trades == sorted(
        (codec.decode(value) for _, value, _ in records), key=lambda t: t.source_sequence
    )
    assert {b"BTC/USDT"} == {key for key, _, _ in records}
    headers = {"venue": b"binance", "reason": b"why", "recv_ns": b"42"}
    assert [(b"binance", b"\xff not json", headers)] == read_all(broker, DEADLETTER_TOPIC)


def test_a_killed_broker_has_everything_when_it_comes_back(broker):
    """What was acknowledged survives kill -9."""
    before = broker.count_records([TOPIC])
    os.kill(broker.child.pid, signal.SIGKILL)

    broker.start()
    broker.wait()

    assert before == broker.count_records([TOPIC])


@pytest.mark.parametrize("place", ["controller", "nothing"])
def test_a_delivery_that_fails_raises(broker, free_port, place):
    """No broker there, no silence: flush says so, and what to look at."""
    port = free_port + {"controller": 1, "nothing": 2}[place]
    impatient = {"message.timeout.ms": 2_000, "log_level": 0}
    publisher = KafkaPublisher(f"127.0.0.1:{port}", client_settings=impatient)
    publisher.publish([make_trade()])

    with pytest.raises(PublishError, match=r"did not take a record.*bootstrap_servers"):
        publisher.flush()
