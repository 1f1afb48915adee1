"""Silver: Bronze rows decoded and judged. Each comes out once, accepted or dead; none raises."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from k2_validation import SILVER_TRADES

from .batch_value import take_in
from .decode import decode
from .trade_contract import TradeContract


def judge(bronze: DataFrame, contract: TradeContract) -> DataFrame:
    """Decode Bronze rows and apply the Silver rules (batch or streaming).

    Returns the contract's trade columns (NULL where a row does not decode), `bronze` (the whole
    Bronze row as a struct), `schema_id`, and the verdict: `accepted` (never NULL), `error_reason`
    and `error_type`.
    """
    tagged: DataFrame = SILVER_TRADES.tag(decode(bronze, contract))
    broken = F.col("frame_error").isNotNull()
    return tagged.select(
        *(name for name, _ in contract.columns),
        "bronze",
        "schema_id",
        (F.col("k2_valid") & ~broken).alias("accepted"),
        F.coalesce("frame_error", "k2_error_reason").alias("error_reason"),
        F.when(broken, "schema").otherwise(F.col("k2_error_type")).alias("error_type"),
    )


def to_silver(judged: DataFrame, contract: TradeContract, validated_at: datetime) -> DataFrame:
    """Return the accepted rows as Silver rows."""
    return judged.where("accepted").select(
        *(name for name, _ in contract.columns),
        take_in(validated_at, "bronze.partition").alias("validation_timestamp"),
        F.col("bronze.ingestion_timestamp").alias("bronze_ingestion_timestamp"),
        "schema_id",
    )


def to_dead_letters(judged: DataFrame, bronze_table: str, failed_at: datetime) -> DataFrame:
    """Return the refused rows as dead letters, with the bytes that Kafka holds."""
    return judged.where("NOT accepted").select(
        F.col("bronze.raw_bytes").alias("raw_record"),
        "error_reason",
        "error_type",
        take_in(failed_at, "bronze.partition").alias("error_timestamp"),
        F.lit(bronze_table).alias("bronze_source"),
        F.col("bronze.topic").alias("kafka_topic"),
        F.col("bronze.partition").alias("kafka_partition"),
        F.col("bronze.offset").alias("kafka_offset"),
        "schema_id",
        F.lit(SILVER_TRADES.fingerprint).alias("rules_fingerprint"),
        take_in(failed_at.date(), "bronze.partition").alias("dlq_date"),
    )
