"""Polled flow: turns taken in a thread, as often as there is something to do."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

from pyspark.sql import SparkSession

from .errors import FlowStoppedError


class PolledFlow(ABC):
    """Takes turns, `poll_s` seconds after one that found nothing to do; one that raises ends it."""

    def __init__(self, name: str, poll_s: float) -> None:
        self.name = name
        self.poll_s = poll_s
        self.stopping = threading.Event()
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None

    @abstractmethod
    def take_turn(self, spark: SparkSession) -> bool:
        """Do what there is to do next; return False if it was nothing."""

    def start(self, spark: SparkSession) -> bool:
        """Begin to poll, with a Spark session and a scheduler pool of the flow's own."""
        own = spark.newSession()
        self._thread = threading.Thread(target=self._run, args=(own,), name=self.name, daemon=True)
        self._thread.start()
        return True

    def check(self) -> None:
        """Raise what ended the flow, if something did."""
        if self._failure is not None:
            raise self._failure
        if self._thread is not None and not self._thread.is_alive() and not self.stopping.is_set():
            raise FlowStoppedError(f"flow {self.name} ended by itself")

    def stop(self) -> None:
        """Stop between two turns: the running one is finished."""
        self.stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, spark: SparkSession) -> None:
        try:
            spark.sparkContext.setLocalProperty("spark.scheduler.pool", self.name)
            while not self.stopping.is_set():
                if not self.take_turn(spark):
                    self.stopping.wait(self.poll_s)
        except Exception as error:  # noqa: BLE001 - handed to whoever runs the flows
            self._failure = error
