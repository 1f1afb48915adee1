"""Tail: positions from the end of the Kafka topics, for a feed whose checkpoint file is lost."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from k2_schemas import SchemaError, Trade, TradeCodec
from k2_schemas.topics import PARTITIONS, trades_topic

from .checkpoint import Position, rebuild_positions
from .errors import PublishError
from .venue import Venue

TAIL_RECORDS = 50_000
"""Records per partition that are read back: hours of a busy pair, seconds to read."""

_TIMEOUT_S = 10.0
_RETRY_S = 0.2


def read_positions(
    bootstrap_servers: str,
    venues: Sequence[Venue],
    client_settings: Mapping[str, str | int | bool] | None = None,
) -> dict[str, dict[str, Position]]:
    """Return the positions that the last records of each venue's topic allow.

    Per pair they end before the first hole in that tail, so nothing behind it is lost; empty topics
    give none, and the feed begins live. Raises `PublishError` when the brokers cannot be reached.
    """
    settings: dict[str, str | int | bool | None] = {
        "bootstrap.servers": bootstrap_servers,
        "group.id": "k2-feed-positions",
        "enable.auto.commit": False,
        "log_level": 0,
        **(client_settings or {}),
    }
    consumer = Consumer(settings)
    try:
        trades = [t for venue in venues for t in _read_tail(consumer, trades_topic(venue.name))]
    except KafkaException as error:
        raise PublishError("every topic", error.args[0].str()) from error
    finally:
        consumer.close()
    return rebuild_positions(trades)


def _read_tail(consumer: Consumer, topic: str) -> Iterator[Trade]:
    places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    ends: dict[int, int] = {}
    for place in places:
        low, high = _find_bounds(consumer, place)
        place.offset = max(low, high - TAIL_RECORDS)
        if high > place.offset:
            ends[place.partition] = high
    consumer.assign([place for place in places if place.partition in ends])
    yield from _decode(_consume(consumer, ends))


def _find_bounds(consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
    """Return a partition's first and end offset; one that was made just now may lack its leader."""
    deadline_s = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            low, high = consumer.get_watermark_offsets(place, timeout=_TIMEOUT_S)
        except KafkaException:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(_RETRY_S)
        else:
            return low, high


def _consume(consumer: Consumer, ends: dict[int, int]) -> Iterator[bytes]:
    deadline_s = time.monotonic() + _TIMEOUT_S
    while ends and time.monotonic() < deadline_s:
        for message in consumer.consume(1_000, timeout=1.0):
            if message.error() is not None:
                raise KafkaException(message.error())
            deadline_s = time.monotonic() + _TIMEOUT_S
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            assert offset is not None
            if offset + 1 >= ends.get(partition, 0):
                ends.pop(partition, None)
            yield message.value() or b""


def _decode(values: Iterable[bytes]) -> Iterator[Trade]:
    codec = TradeCodec()
    for value in values:
        try:
            yield codec.decode(value)
        except SchemaError:
            continue  # not ours, and no position of ours
