"""Fused sink: one exchange's topic into every table, micro-batch by micro-batch, in order."""

from __future__ import annotations

from dataclasses import replace

from pyiceberg.catalog.sql import SqlCatalog
from pyspark.sql import DataFrame

from .batch_report import BatchReport
from .bronze_sink import BronzeSink
from .flow import Batch
from .promotion import Promotion
from .stage import FusedStage


class TradeSink(BronzeSink):
    """Every record of an exchange: into Bronze, then the dead letters or Silver, Gold, candles.

    After Bronze, a batch goes the way that a batch of a dead driver goes: from Bronze's own rows.
    What is written once as Parquet is read again faster than Spark's cache gives it back.
    """

    def __init__(self, promotion: Promotion, catalog: SqlCatalog) -> None:
        self._stage = FusedStage(promotion, catalog)
        super().__init__(promotion.exchange, catalog, flow=self._stage.flow)

    def write(self, rows: DataFrame, batch: Batch) -> BatchReport:
        """Publish a batch: Bronze first, then what follows from it."""
        guard, published, newest_ms = self.publish(rows, batch)
        report = self._stage.promote(rows.sparkSession, published, guard)
        return replace(report, newest_ms=newest_ms)
