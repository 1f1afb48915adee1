"""Offsets: where a flow stands in its topic, from the tables, never from a checkpoint alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyiceberg.catalog.sql import SqlCatalog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from .catalog import set_property
from .errors import BrokerError, TopicReplacedError
from .spark import hush, name_cause, table_name
from .tables import TableSpec

Offsets = dict[int, int]
"""Next offset to read, per partition of one topic."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic's identity, and the first offset and the one after the last, per partition."""

    topic_id: str
    earliest: Offsets
    latest: Offsets


def describe_topic(
    spark: SparkSession, settings: Mapping[str, str], topic: str
) -> TopicState | None:
    """Ask Kafka, by the admin client of the JVM that Spark runs in; None if there is no topic.

    Raises `BrokerError` if it does not answer, or refuses us.
    """
    try:
        # What its client has to say is in the error; in the log it would be pages.
        with hush(spark, "org.apache.kafka"):
            return _describe_topic(spark, settings, topic)
    except Py4JJavaError as error:
        raise BrokerError(settings["bootstrap.servers"], name_cause(error)) from error


def _describe_topic(
    spark: SparkSession, settings: Mapping[str, str], topic: str
) -> TopicState | None:
    jvm: Any = spark._jvm
    properties = jvm.java.util.Properties()
    for key, value in settings.items():
        properties.setProperty(key, value)
    admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(properties)
    try:
        if not admin.listTopics().names().get().contains(topic):
            return None
        names = jvm.java.util.ArrayList()
        names.add(topic)
        described = admin.describeTopics(names).allTopicNames().get().get(topic)
        partitions = [int(info.partition()) for info in described.partitions()]
        spec = jvm.org.apache.kafka.clients.admin.OffsetSpec
        earliest = _list_offsets(jvm, admin, topic, partitions, spec.earliest())
        latest = _list_offsets(jvm, admin, topic, partitions, spec.latest())
        return TopicState(described.topicId().toString(), earliest, latest)
    finally:
        admin.close()


def _list_offsets(jvm: Any, admin: Any, topic: str, partitions: list[int], spec: Any) -> Offsets:
    places = {p: jvm.org.apache.kafka.common.TopicPartition(topic, p) for p in partitions}
    wanted = jvm.java.util.HashMap()
    for place in places.values():
        wanted.put(place, spec)
    found = admin.listOffsets(wanted).all().get()
    return {p: int(found.get(place).offset()) for p, place in places.items()}


def claim_topic(catalog: SqlCatalog, spec: TableSpec, topic: str, topic_id: str) -> None:
    """Note in a table which topic its offsets belong to; raise `TopicReplacedError` for another.

    A topic that was deleted and made again has the same name and the same offsets, for other
    records; only its id differs.
    """

    def choose(known: str | None) -> str:
        if known not in (None, topic_id):
            raise TopicReplacedError(topic, f"its id is {topic_id}, it was {known}")
        return topic_id

    set_property(catalog, spec, f"k2.topic-id.{topic}", choose)


def check_positions(state: TopicState, topic: str, held: Offsets) -> dict[int, tuple[int, int]]:
    """Return, per partition, the offsets (first, and one after the last) that are gone unread.

    Raises `TopicReplacedError` if the tables hold offsets that the topic has not reached.
    """
    for partition, position in held.items():
        end = state.latest.get(partition, 0)
        if position > end:
            raise TopicReplacedError(
                topic, f"partition {partition} ends at offset {end}, the tables hold {position}"
            )
    return {
        partition: (position, state.earliest[partition])
        for partition, position in held.items()
        if position < state.earliest.get(partition, 0)
    }


def read_high_water(rows: DataFrame, spec: TableSpec, wanted: set[int]) -> Offsets:
    """Return the offset after the newest row, per partition, of one topic's rows in a table.

    `rows` has columns partition and offset, and the table's partition column. Days are read
    backwards until all `wanted` partitions are found, and then one more: a clock set back over
    midnight puts newer offsets into an older day.
    """
    column, _ = spec.partition
    found: Offsets = {}
    for day in reversed(list_days(rows.sparkSession, spec)):
        complete = wanted <= found.keys()
        newest = rows.where(F.col(column) == F.lit(day)).groupBy("partition").agg(F.max("offset"))
        for partition, offset in newest.collect():
            found[partition] = max(found.get(partition, 0), offset + 1)
        if complete:
            break
    return found


def list_days(spark: SparkSession, spec: TableSpec) -> list[date]:
    """Return the days that a table partitioned by day has rows of, ascending."""
    column, transform = spec.partition
    parts = spark.table(f"{table_name(spec)}.partitions")
    return sorted({row[0] for row in parts.select(f"partition.{column}_{transform}").collect()})


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
