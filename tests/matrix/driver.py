"""Driver of the matrix: the real k2-lake in a process that dies, or cheats, where it is told to."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import typer
from platformdirs import user_cache_path

from k2_lake.driver import run
from k2_lake.settings import read_settings
from k2_lake.stop_signal import StopSignal
from k2_medallion import (
    bronze_sink,
    catalog,
    deadletters,
    flow,
    maintain,
    promotion,
    publish,
    upkeep,
)

STEPS = (
    "bronze stage",
    "bronze publish",
    "dlq publish",
    "silver stage",
    "audit",
    "silver publish",
    "gold publish",
    "commit log",
)


def main(
    config: Path,
    batch: int = 400,
    die_at: str = "",
    stop_at: str = "",
    nth: int = 2,
    sabotage: str = "",
    busy_upkeep: bool = False,
) -> None:
    """Run the lake; at the nth time of a step, die (kill -9) or stop (SIGSTOP)."""
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    flow.MAX_OFFSETS_PER_BATCH = batch
    if die_at or stop_at:
        _break_at(die_at or stop_at, nth, signal.SIGKILL if die_at else signal.SIGSTOP)
    if sabotage:
        SABOTAGES[sabotage]()
    if busy_upkeep:
        maintain.MOST_OPEN_FILES = maintain.MOST_CLOSED_FILES = 1
        maintain.MOST_MANIFESTS = 2
        upkeep._POLL_S = 0.2
        upkeep._PACE_S.update(compact=0.5, expire=2.0, merge_manifests=1.0)
    stop = StopSignal()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    run(read_settings(config), user_cache_path("k2"), os.environ, stop)


def _break_at(step: str, nth: int, number: signal.Signals) -> None:
    seen = 0

    def reach() -> None:
        nonlocal seen
        seen += 1
        if seen == nth:
            os.kill(os.getpid(), number)

    table, _, deed = step.partition(" ")
    prefix = {
        "bronze": "bronze_",
        "dlq": "silver_dlq_",
        "silver": "silver_",
        "gold": "gold_crypto_",
    }

    def is_meant(name: str) -> bool:
        found = name.startswith(prefix[table])
        return found and (table != "silver" or not name.startswith("silver_dlq_"))

    if deed == "stage":
        _after("stage_rows", lambda args: is_meant(args[1].name), reach)
    elif deed == "publish":
        _after("publish_staged", lambda args: is_meant(args[0].spec.name), reach)
    elif step == "audit":
        _after("audit_staged", lambda args: args[0].spec.name.startswith("gold_crypto_"), reach)
    else:
        original = flow.Flow._write_epoch

        def write_and_die(self: Any, rows: Any, epoch: int) -> None:
            original(self, rows, epoch)
            if self.name != "deadletter":
                reach()

        flow.Flow._write_epoch = write_and_die  # type: ignore[method-assign]


def _after(
    name: str, is_meant: Callable[[tuple[Any, ...]], bool], reach: Callable[[], None]
) -> None:
    """Call `reach` after each call of a publish function that is meant, wherever it is imported."""
    original = getattr(publish, name)

    def wrapped(*args: Any) -> Any:
        result = original(*args)
        if is_meant(args):
            reach()
        return result

    for module in (publish, promotion, bronze_sink, deadletters):
        if hasattr(module, name):
            setattr(module, name, wrapped)


def _publish_unfenced() -> None:
    """Publish under ids that no other driver has, and look for none of theirs.

    Each has checkpoints of its own, as on two machines: Spark's would end one of them.
    """
    catalog.LakeHome.checkpoints = property(lambda home: home.path / f"checkpoints-{os.getpid()}")  # type: ignore[method-assign, assignment]
    named = flow.Batch.publish_id.fget
    assert named is not None
    flow.Batch.publish_id = property(lambda batch: f"{named(batch)}~{os.getpid()}")  # type: ignore[method-assign, assignment]
    publish.Standing.confirm = lambda *_: None  # type: ignore[method-assign]


def _merge_into_gold() -> None:
    """Deduplicate by an insert-only MERGE, as is usual."""
    original = promotion.publish_rows

    def merge(rows: Any, spec: Any, guard: Any, expected_rows: int) -> bool:
        if not spec.name.startswith("gold_crypto"):
            return original(rows, spec, guard, expected_rows)
        rows.createOrReplaceTempView("batch")
        rows.sparkSession.sql(
            f"MERGE INTO {publish.table_name(spec)} t USING batch s ON t.message_id = s.message_id"
            f" AND t.timestamp = s.timestamp WHEN NOT MATCHED THEN INSERT *"
        )
        staged = publish.stage_nothing(rows, spec, guard)
        if staged is not None:
            publish.publish_staged(staged, guard)
        return True

    promotion.publish_rows = merge
    # MERGE looks at the table by itself.
    promotion.gold.find_known = lambda ids, *_: ids.select(["message_id"]).slice(0, 0)


def _drop_dead_letters() -> None:
    """Leave the dead letters' write out, and say that it was done."""
    original = promotion.publish_rows

    def leave_out(rows: Any, spec: Any, guard: Any, expected_rows: int) -> bool:
        if spec.name == "silver_dlq_trades":
            return original(rows.limit(0), spec, guard, 0)
        return original(rows, spec, guard, expected_rows)

    promotion.publish_rows = leave_out


def _tolerate_data_loss() -> None:
    """Let Spark pass over offsets that are gone, as many pipelines are told to."""
    original = flow.Flow._read_stream
    flow.check_positions = lambda *_: {}

    def read(self: Any, spark: Any) -> Any:
        reader = type(spark.readStream)
        option = reader.option

        def tolerant(it: Any, key: str, value: Any) -> Any:
            return option(it, key, "false" if key == "failOnDataLoss" else value)

        reader.option = tolerant
        try:
            return original(self, spark)
        finally:
            reader.option = option

    flow.Flow._read_stream = read  # type: ignore[method-assign]


SABOTAGES: dict[str, Callable[[], None]] = {
    "no fence": _publish_unfenced,
    "insert-only MERGE": _merge_into_gold,
    "dropped DLQ write": _drop_dead_letters,
    "failOnDataLoss=false": _tolerate_data_loss,
}


if __name__ == "__main__":
    typer.run(main)
