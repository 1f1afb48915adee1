"""Spark sessions and Kafka-shaped frames for your tests and ours."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pyspark import SparkContext
from pyspark.sql import DataFrame, SparkSession

from .catalog import LakeHome, ensure_tables, open_catalog
from .jvm import fetch_jars, find_java, spark_jars
from .spark import SHORT_RUN_OPTIONS, catalog_settings, open_session
from .tables import all_tables

_KAFKA_SCHEMA = (
    "key binary, value binary, topic string, partition int, offset bigint, timestamp timestamp"
)


class KafkaRecord(NamedTuple):
    """One record of a topic."""

    partition: int
    offset: int
    value: bytes | None
    key: bytes | None = b"BTC/USDT"


def open_test_session(home: LakeHome, cache: Path) -> SparkSession:
    """Start a small session with the locked jars; a JVM that lacks them is replaced."""
    gateway = SparkContext._gateway
    if gateway is not None and SparkContext._active_spark_context is None:
        # A JVM another test left behind was launched without our jars, and keeps none after that.
        gateway.shutdown()
        SparkContext._gateway = SparkContext._jvm = None
    return open_session(
        home,
        java_home=find_java(cache, os.environ).home,
        jars=fetch_jars(spark_jars(), cache),
        java_options=SHORT_RUN_OPTIONS,
        settings={"spark.sql.shuffle.partitions": "1"},
    )


def open_lake(spark: SparkSession, path: Path, exchanges: Iterable[str]) -> SparkSession:
    """Make a lake in `path` and return a session of its own on it."""
    home = LakeHome(path)
    ensure_tables(open_catalog(home, create=True), all_tables(exchanges))
    own = spark.newSession()
    for key, value in catalog_settings(home).items():
        own.conf.set(key, value)
    return own


def kafka_frame(
    spark: SparkSession,
    topic: str,
    records: Iterable[KafkaRecord],
    received_at: datetime = datetime(2026, 11, 23, 12, tzinfo=UTC),
) -> DataFrame:
    """Return records as Spark's Kafka source does (without its timestampType)."""
    rows = [(r.key, r.value, topic, r.partition, r.offset, received_at) for r in records]
    return spark.createDataFrame(rows, _KAFKA_SCHEMA)
