"""Offsets: where a flow stands in its topic, from the tables, never from a checkpoint alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

_log = structlog.get_logger()

_TOPIC_POLL_S = 1.0

Offsets = dict[int, int]
"""Next offset to read, per partition of one topic."""


class KafkaTopic:
    """A topic as Kafka's own admin client sees it, through the JVM that Spark runs in."""

    def __init__(self, spark: SparkSession, settings: Mapping[str, str], topic: str) -> None:
        self.topic = topic
        self._jvm: Any = spark._jvm
        self._settings = settings

    def wait_for_earliest(self, stop: threading.Event) -> Offsets:
        """Return the earliest offset of every partition; wait for a topic not yet created.

        Returns no partition at all when `stop` was set before there was a topic.
        """
        earliest = self._read_earliest()
        while not earliest and not stop.is_set():
            _log.info("waiting_for_topic", topic=self.topic, created_by="k2-feed")
            stop.wait(_TOPIC_POLL_S)
            earliest = self._read_earliest()
        return earliest

    def _read_earliest(self) -> Offsets:
        properties = self._jvm.java.util.Properties()
        for key, value in self._settings.items():
            properties.setProperty(key, value)
        admin = self._jvm.org.apache.kafka.clients.admin.AdminClient.create(properties)
        try:
            return self._ask(admin)
        finally:
            admin.close()

    def _ask(self, admin: Any) -> Offsets:
        jvm = self._jvm
        names = jvm.java.util.ArrayList()
        names.add(self.topic)
        if not admin.listTopics().names().get().contains(self.topic):
            return {}
        described = admin.describeTopics(names).allTopicNames().get().get(self.topic)
        partitions = [int(info.partition()) for info in described.partitions()]
        earliest = jvm.org.apache.kafka.clients.admin.OffsetSpec.earliest()
        wanted = jvm.java.util.HashMap()
        places = {p: jvm.org.apache.kafka.common.TopicPartition(self.topic, p) for p in partitions}
        for place in places.values():
            wanted.put(place, earliest)
        found = admin.listOffsets(wanted).all().get()
        return {p: int(found.get(place).offset()) for p, place in places.items()}


def read_high_water(rows: DataFrame, day: str, wanted: set[int]) -> Offsets:
    """Return the offset after the newest row, per partition, of one topic's rows in a table.

    Reads the table day by day (column `day`) backwards, until all `wanted` partitions are found:
    a long history is not scanned for what its last day knows.
    """
    found: Offsets = {}
    days = [row[0] for row in rows.select(day).distinct().orderBy(F.desc(day)).collect()]
    for value in days:
        newest = rows.where(F.col(day) == F.lit(value)).groupBy("partition").agg(F.max("offset"))
        for partition, offset in newest.collect():
            found.setdefault(partition, offset + 1)
        if wanted <= found.keys():
            break
    return found


def read_offset_log(checkpoint: Path, epoch: int) -> Offsets | None:
    """Return the end offsets that Spark planned for an epoch, or None when it has no such epoch.

    The file is Spark's write-ahead log: a version line, a metadata line, a line per source.
    """
    path = checkpoint / "offsets" / str(epoch)
    if not path.exists():
        return None
    line = path.read_text(encoding="utf-8").splitlines()[2]
    (partitions,) = json.loads(line).values()
    return {int(partition): offset for partition, offset in partitions.items()}
