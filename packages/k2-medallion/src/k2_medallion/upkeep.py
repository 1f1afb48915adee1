"""Upkeep: maintenance as one more flow of the driver, at its own pace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import structlog
from pyspark.sql import SparkSession

from .maintain import Action, Maintenance, OnFailure
from .polled_flow import PolledFlow

_log = structlog.get_logger()

_POLL_S = 5.0
_MINUTE_S = 60.0
_PACE_S = {
    "compact": 15.0,
    "expire": 3 * _MINUTE_S,
    "merge_manifests": 5 * _MINUTE_S,
    "retire": 60 * _MINUTE_S,
    "remove_orphans": 24 * 60 * _MINUTE_S,
}
"""How often each duty is looked at."""
_FIRST_S = 10 * _MINUTE_S
"""When at the latest each is looked at first: a lake that is often killed has orphans."""


class UpkeepFlow(PolledFlow):
    """Runs a lake's maintenance.

    What fails is logged, counted (`on_failure`) and tried again at its next turn: a table that is
    not small today is no reason to stop taking trades, nor to leave the tables after it alone.
    """

    def __init__(
        self,
        maintenance: Maintenance,
        *,
        on_action: Callable[[Action], None] | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        super().__init__("upkeep", _POLL_S)
        maintenance.on_failure = self._note_failure
        self._maintenance = maintenance
        self._on_action = on_action
        self._on_failure = on_failure
        began = time.monotonic()
        self._due = {duty: began + min(pace, _FIRST_S) for duty, pace in _PACE_S.items()}

    def take_turn(self, spark: SparkSession) -> bool:
        """Perform the duties that are due; a look at the clock is no reason for another."""
        for duty, due in self._due.items():
            if time.monotonic() >= due and not self.stopping.is_set():
                self._perform(spark, duty)
                self._due[duty] = time.monotonic() + _PACE_S[duty]
        return False

    def _perform(self, spark: SparkSession, duty: str) -> None:
        began = time.monotonic()
        for action in self._begin(spark, duty):
            seconds = round(time.monotonic() - began, 3)
            detail = dict(action.detail)
            _log.info("upkeep", table=action.table, action=action.name, s=seconds, **detail)
            if self._on_action is not None:
                self._on_action(action)
            began = time.monotonic()
            if self.stopping.is_set():
                return

    def _note_failure(self, duty: str, table: str, error: Exception) -> None:
        said = str(error).strip().splitlines() or [type(error).__name__]
        _log.warning("upkeep_failed", duty=duty, table=table, error=said[0])
        if self._on_failure is not None:
            self._on_failure(duty, table, error)

    def _begin(self, spark: SparkSession, duty: str) -> Iterator[Action]:
        now = datetime.now(UTC)
        duties: dict[str, Callable[[], Iterator[Action]]] = {
            "compact": lambda: self._maintenance.compact(spark, now),
            "expire": lambda: self._maintenance.expire(spark, now),
            "merge_manifests": lambda: self._maintenance.merge_manifests(spark),
            "retire": lambda: self._maintenance.retire(spark, now),
            "remove_orphans": lambda: self._maintenance.remove_orphans(spark, now),
        }
        return duties[duty]()
