"""Gold: each accepted trade once. Deduplication is stateless: memory grows with the batch alone."""

from __future__ import annotations

from datetime import datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from .tables import TRADE_COLUMNS

DEDUP_SLACK = timedelta(seconds=1)
"""REST and socket may give the same trade times that differ in their last digits."""


def to_gold(silver: DataFrame) -> DataFrame:
    """Return Silver rows as Gold rows, one per message_id."""
    return (
        silver.dropDuplicates(["message_id"])
        .select(*(name for name, _ in TRADE_COLUMNS))
        .withColumn("exchange_date", F.to_date("timestamp"))
        .withColumn("exchange_hour", F.hour("timestamp"))
    )


def find_known(
    rows: DataFrame, gold: DataFrame, exchange: str, first: datetime, last: datetime
) -> DataFrame:
    """Return the message_ids of `rows` that the Gold table holds already, each once.

    `first` and `last` bound the rows' timestamps. They enter the plan as literals, so only files
    that overlap are read; the hash side of the join is the batch, never the table.
    """
    held = gold.where(
        F.col("timestamp").between(F.lit(first - DEDUP_SLACK), F.lit(last + DEDUP_SLACK))
        & (F.col("exchange") == exchange.upper())
    ).select("message_id")
    batch = F.broadcast(rows.select("message_id"))
    return held.join(batch, "message_id", "left_semi").distinct()


def drop_known(rows: DataFrame, known: DataFrame) -> DataFrame:
    """Return the rows whose message_id is not among the known ones."""
    return rows.join(F.broadcast(known), "message_id", "left_anti")
