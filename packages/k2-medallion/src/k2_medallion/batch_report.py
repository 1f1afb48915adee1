"""Batch report: what a micro-batch did and what it took, for logs and metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

COMMIT = "commit"
"""The step in which staged snapshots are audited and published, of all tables together."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """Row counts and times of one published batch.

    `dead` is by error_type; `duplicates` are accepted rows that Gold held or that the batch
    repeats. `newest_ms` is Kafka's time of the newest record (ms since 1970), for a Gold flow
    the feed's; 0 if unknown.
    `seconds` is by step, and the steps overlap with nothing but `commit`.
    """

    flow: str
    publish_id: str
    read: int = 0
    accepted: int = 0
    dead: Mapping[str, int] = field(default_factory=dict)
    gold: int = 0
    duplicates: int = 0
    candles: int = 0
    newest_ms: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)

    def add(self, later: BatchReport) -> BatchReport:
        """Return this report of a batch with what a later step of it added."""
        return replace(
            self,
            gold=later.gold,
            duplicates=later.duplicates,
            candles=later.candles,
            seconds=later.seconds,
        )

    def to_event(self) -> dict[str, object]:
        """Return the report as the fields of one log event."""
        steps = {f"{step}_s": round(taken, 3) for step, taken in self.seconds.items()}
        return {
            "publish_id": self.publish_id,
            "read": self.read,
            "accepted": self.accepted,
            "dead": sum(self.dead.values()),
            "gold": self.gold,
            "duplicates": self.duplicates,
            "candles": self.candles,
            **steps,
        }


class StepClock:
    """Adds up how long each step of a batch takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, step: str) -> Iterator[None]:
        """Add what the block takes to a step."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - began
