"""Bronze: what Kafka holds, byte for byte, with its place. DataFrame in, DataFrame out."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def to_bronze(kafka: DataFrame) -> DataFrame:
    """Turn records of Spark's Kafka source into Bronze rows (batch or streaming)."""
    now = F.current_timestamp()
    return kafka.select(
        # A key that is not UTF-8 must not make the file unreadable; the value is kept as it is.
        F.make_valid_utf8(F.col("key").cast("string")).alias("message_key"),
        F.col("value").alias("raw_bytes"),
        "topic",
        "partition",
        "offset",
        F.col("timestamp").alias("kafka_timestamp"),
        now.alias("ingestion_timestamp"),
        F.to_date(now).alias("ingestion_date"),
    )
