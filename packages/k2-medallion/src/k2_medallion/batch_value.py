"""Batch value: what differs from batch to batch and must not be in a batch's generated code."""

from __future__ import annotations

from datetime import date, datetime

from pyspark.sql import Column
from pyspark.sql import functions as F


def take_in(value: datetime | date, beside: str) -> Column:
    """Return a value as a column; `beside` names an integer column that is never NULL.

    A literal becomes a part of the code that Spark generates, so that every batch is compiled anew,
    on the driver and in every executor, and starts out interpreted. An array is handed over beside
    the code, and an index that no optimizer can know keeps it from being folded into a literal.
    """
    return F.get(F.array(F.lit(value)), F.pmod(F.col(beside), F.lit(1)))
