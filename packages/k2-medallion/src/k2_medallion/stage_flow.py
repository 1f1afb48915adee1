"""Staged topology: a Bronze, a Silver and a Gold flow per exchange, each at its own pace.

The Bronze flow streams from Kafka. The others poll what the flow before them has published, with
batch reads of exactly that: Iceberg's own stream skips data in silence once snapshots expire.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog
from pyspark.sql import SparkSession

from .batch_report import BatchReport
from .errors import FlowStoppedError
from .stage import Stage

_log = structlog.get_logger()

_POLL_S = 0.2


class StageFlow:
    """Runs a stage as a flow of its own: a thread that polls the tables."""

    def __init__(
        self, stage: Stage, *, on_batch: Callable[[BatchReport, float], None] | None = None
    ) -> None:
        self.name = stage.flow
        self._stage = stage
        self._on_batch = on_batch
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None
        self._log = _log.bind(flow=stage.flow)

    def start(self, spark: SparkSession) -> bool:
        """Begin to poll."""
        own = spark.newSession()
        self._thread = threading.Thread(target=self._run, args=(own,), name=self.name, daemon=True)
        self._thread.start()
        return True

    def check(self) -> None:
        """Raise what ended the flow, if something did."""
        if self._failure is not None:
            raise self._failure
        if self._thread is not None and not self._thread.is_alive() and not self._stop.is_set():
            raise FlowStoppedError(f"flow {self.name} ended by itself")

    def stop(self) -> None:
        """Stop between two batches: the running one is finished."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._log.info("stopped")

    def _run(self, spark: SparkSession) -> None:
        try:
            spark.sparkContext.setLocalProperty("spark.scheduler.pool", self.name)
            while not self._stop.is_set():
                if not self._promote_next(spark):
                    self._stop.wait(_POLL_S)
        except Exception as error:  # noqa: BLE001 - handed to whoever runs the flows
            self._failure = error

    def _promote_next(self, spark: SparkSession) -> bool:
        """Promote the oldest pending batch; return False when there is none."""
        pending = self._stage.list_pending()
        if not pending:
            return False
        began = time.monotonic()
        report = self._stage.promote(spark, *pending[0])
        taken = time.monotonic() - began
        self._log.info("batch", **report.to_event(), seconds=round(taken, 3))
        if self._on_batch is not None:
            self._on_batch(report, taken)
        return True
