"""Bronze: what Kafka holds, byte for byte, with its place. DataFrame in, DataFrame out."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from .batch_value import take_in


def to_bronze(kafka: DataFrame, taken_at: datetime) -> DataFrame:
    """Turn records of Spark's Kafka source into Bronze rows."""
    return kafka.select(
        # A key that is not UTF-8 must not make the file unreadable; the value is kept as it is.
        F.make_valid_utf8(F.col("key").cast("string")).alias("message_key"),
        F.col("value").alias("raw_bytes"),
        "topic",
        "partition",
        "offset",
        F.col("timestamp").alias("kafka_timestamp"),
        take_in(taken_at, "partition").alias("ingestion_timestamp"),
        take_in(taken_at.date(), "partition").alias("ingestion_date"),
    )
