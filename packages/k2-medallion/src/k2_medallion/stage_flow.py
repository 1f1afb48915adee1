"""Staged topology: a Bronze, a Silver and a Gold flow per exchange, each at its own pace.

The Bronze flow streams from Kafka. The others poll what the flow before them has published, with
batch reads of exactly that: Iceberg's own stream skips data in silence once snapshots expire.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import structlog
from pyspark.sql import SparkSession

from .batch_report import BatchReport
from .polled_flow import PolledFlow
from .stage import Stage

_log = structlog.get_logger()

_POLL_S = 0.2


class StageFlow(PolledFlow):
    """Runs a stage as a flow of its own."""

    def __init__(
        self, stage: Stage, *, on_batch: Callable[[BatchReport, float], None] | None = None
    ) -> None:
        super().__init__(stage.flow, _POLL_S)
        self._stage = stage
        self._on_batch = on_batch
        self._log = _log.bind(flow=stage.flow)

    def stop(self) -> None:
        """Stop between two batches."""
        super().stop()
        self._log.info("stopped")

    def take_turn(self, spark: SparkSession) -> bool:
        """Promote the oldest pending batch."""
        pending = self._stage.list_pending()
        if not pending:
            return False
        began = time.monotonic()
        report = self._stage.promote(spark, *pending[0])
        report = replace(report, newest_ms=self._stage.find_newest_ms(pending[0][0]))
        taken = time.monotonic() - began
        self._log.info("batch", **report.to_event(), seconds=round(taken, 3))
        if self._on_batch is not None:
            self._on_batch(report, taken)
        return True
