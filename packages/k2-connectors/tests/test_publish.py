"""Publishing without a broker: what cannot be delivered raises, in both implementations."""

import pytest
from msgspec.structs import replace

from k2_connectors import KafkaPublisher, Publisher, PublishError, create_topics
from k2_connectors.testing import MemoryPublisher
from k2_connectors.transport import MAX_FRAME_BYTES
from k2_schemas import FieldError, Trade
from k2_schemas.testing import make_trade

NOWHERE = "127.0.0.1:1"
SETTINGS = {"message.timeout.ms": 200, "linger.ms": 0, "log_level": 0}


@pytest.fixture(params=["kafka", "memory"])
def publisher(request: pytest.FixtureRequest) -> Publisher:
    """Each implementation of the seam; no broker answers."""
    return MemoryPublisher() if request.param == "memory" else open_kafka()


def open_kafka() -> KafkaPublisher:
    """A publisher whose broker is not there."""
    return KafkaPublisher(NOWHERE, client_settings=SETTINGS)


def test_a_trade_without_bytes_is_refused_when_it_is_published(publisher: Publisher):
    """The feed learns at once, so that the frame can become a dead letter."""
    with pytest.raises(FieldError):
        publisher.publish([replace(make_trade(), source_sequence=2**63)])


def test_trades_before_one_without_bytes_are_published(publisher: Publisher):
    """How many is told, and the next call begins with the one that has none."""
    trades = [make_trade(1), make_trade(2), replace(make_trade(), source_sequence=2**63)]
    assert publisher.publish(trades) == 2
    with pytest.raises(FieldError):
        publisher.publish(trades[2:])


def test_a_full_queue_takes_the_first_trades_alone():
    """The rest is the caller's, in its order: nothing is dropped, nothing overtakes."""
    settings = SETTINGS | {"queue.buffering.max.messages": 3}
    publisher = KafkaPublisher(NOWHERE, client_settings=settings)
    trades = [make_trade(number) for number in range(5)]
    assert publisher.publish(trades) == 3
    assert publisher.publish(trades[3:]) == 0


def test_trades_that_were_not_delivered_are_not_acknowledged():
    """A position must never pass what Kafka did not take."""
    publisher = open_kafka()
    acknowledged: list[Trade] = []
    publisher.on_acknowledged = acknowledged.extend
    publisher.publish([make_trade(1), make_trade(2)])
    with pytest.raises(PublishError):
        publisher.flush()
    assert acknowledged == []


def test_memory_keeps_what_was_published_in_order():
    """The in-memory twin shows trades, dead letters and flushes."""
    publisher = MemoryPublisher()
    publisher.publish([make_trade(1)])
    publisher.publish_dead_letter(b"\xff", "binance", "why", 7)
    publisher.publish([make_trade(2)])
    publisher.flush()

    assert publisher.trades == [make_trade(1), make_trade(2)]
    assert publisher.dead_letters == [(b"\xff", "binance", "why", 7)]
    assert publisher.flushes == 1


def test_a_record_that_is_not_delivered_fails_the_flush():
    """Nothing is dropped silently: the error names the topic and the setting to look at."""
    publisher = open_kafka()
    publisher.publish([make_trade()])
    with pytest.raises(PublishError, match=r"kafka\.bootstrap_servers") as caught:
        publisher.flush()

    assert caught.value.topic == "market.crypto.trades.binance"


def test_after_a_failure_nothing_more_is_taken():
    """A later record must not overtake the lost one unnoticed."""
    publisher = open_kafka()
    publisher.publish_dead_letter(b"x", "kraken", "why", 7)
    with pytest.raises(PublishError, match=r"market\.crypto\.deadletter"):
        publisher.flush()
    with pytest.raises(PublishError, match=r"market\.crypto\.deadletter"):
        publisher.publish([make_trade()])


def test_the_largest_frame_a_socket_takes_can_be_a_dead_letter():
    """It is queued, whatever its reason says; it fails only because no broker is there."""
    publisher = open_kafka()
    publisher.publish_dead_letter(b"x" * MAX_FRAME_BYTES, "kraken", "é" * 10**6, 7)
    with pytest.raises(PublishError, match="timed out"):
        publisher.flush()


def test_a_record_that_the_client_refuses_is_a_publish_error():
    """librdkafka's own exceptions do not escape."""
    with pytest.raises(PublishError, match="too large"):
        open_kafka().publish_dead_letter(b"x" * 2_000_000, "kraken", "why", 7)


def test_topics_cannot_be_created_without_a_broker():
    """The feed fails at its start, with one sentence."""
    with pytest.raises(PublishError, match=r"kafka\.bootstrap_servers"):
        create_topics(NOWHERE, ["binance"], {"log_level": 0}, timeout_s=0.3)
