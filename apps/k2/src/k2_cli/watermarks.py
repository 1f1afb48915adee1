"""Watermarks: which offsets Kafka holds of each partition, and how far it has ever come."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from k2_medallion.audit import OffsetRange, OffsetRanges

from .errors import KafkaSilentError

_TIMEOUT_S = 10.0


def read_offset_ranges(bootstrap_servers: str, topics: Sequence[str]) -> OffsetRanges:
    """Return the range of every partition of the topics that exist.

    Raises `KafkaSilentError` when Kafka does not answer in time.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    try:
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


def _list_offsets(
    admin: AdminClient, places: Sequence[TopicPartition], spec: OffsetSpec
) -> dict[tuple[str, int], int]:
    if not places:
        return {}
    found = admin.list_offsets({place: spec for place in places}, request_timeout=_TIMEOUT_S)
    return {(p.topic, p.partition): future.result().offset for p, future in found.items()}
