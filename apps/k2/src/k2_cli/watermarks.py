"""Watermarks: which offsets Kafka holds of each partition, and how far it has ever come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from k2_connectors import BrokerRefusalError, BrokerSilentError, check_brokers
from k2_medallion.audit import OffsetRange, OffsetRanges

from .errors import KafkaSilentError
from .options import ClientSettings

_TIMEOUT_S = 10.0


def read_offset_ranges(
    bootstrap_servers: str, topics: Sequence[str], client: ClientSettings | None = None
) -> OffsetRanges:
    """Return the range of every partition of the topics that exist.

    Raises `KafkaSilentError` when Kafka does not answer in time, or does not trust us, or we it.
    """
    check_answers(bootstrap_servers, client)
    told: dict[str, Any] = {**(client or {}), "bootstrap.servers": bootstrap_servers}
    try:
        admin = AdminClient({**told, "log_level": 0})
        known = admin.list_topics(timeout=_TIMEOUT_S).topics
        places = [
            TopicPartition(topic, partition)
            for topic in topics
            if topic in known
            for partition in known[topic].partitions
        ]
        lows = _list_offsets(admin, places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        highs = _list_offsets(admin, places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    except KafkaException as error:
        raise KafkaSilentError(bootstrap_servers, error.args[0].str()) from error
    return {place: OffsetRange(low, highs[place]) for place, low in lows.items()}


def check_answers(bootstrap_servers: str, client: ClientSettings | None) -> None:
    """Raise `KafkaSilentError` when Kafka does not answer in time, or refuses us, or we it."""
    try:
        check_brokers(bootstrap_servers, client, _TIMEOUT_S)
    except (BrokerRefusalError, BrokerSilentError) as error:
        raise KafkaSilentError(bootstrap_servers, error.reason) from error


def _list_offsets(
    admin: AdminClient, places: Sequence[TopicPartition], spec: OffsetSpec
) -> dict[tuple[str, int], int]:
    if not places:
        return {}
    found = admin.list_offsets({place: spec for place in places}, request_timeout=_TIMEOUT_S)
    return {(p.topic, p.partition): future.result().offset for p, future in found.items()}
