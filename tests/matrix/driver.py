"""Driver of the matrix: the real k2-lake in a process that dies, or cheats, where it is told to."""

from __future__ import annotations

import json
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
    GOLD_CANDLES,
    bronze_sink,
    catalog,
    deadletters,
    flow,
    maintain,
    promotion,
    publish,
    upkeep,
)

from .ledger import BATCH

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

ORDER = "order.json"
"""File beside the configuration: [step, signal]."""


def main(
    config: Path,
    batch: int = BATCH,
    sabotage: str = "",
    busy_upkeep: bool = False,
) -> None:
    """Run the lake until it is ended, or by itself where an order beside `config` says so."""
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    flow.MAX_OFFSETS_PER_BATCH = batch
    _watch(Breaker(config.with_name(ORDER)).reach)
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


class Breaker:
    """Ends or stops this process at the second time of a step since there is an order to do so."""

    def __init__(self, order: Path) -> None:
        self._order = order
        self._seen = 0

    def reach(self, step: str) -> None:
        """Look whether this is the step."""
        try:
            wanted, number = json.loads(self._order.read_text("utf-8"))
        except FileNotFoundError:
            return
        self._seen += step == wanted
        if self._seen == 2:
            os.kill(os.getpid(), number)


def _watch(reach: Callable[[str], None]) -> None:
    _after("stage_rows", lambda args: reach(f"{_layer(args[1].name)} stage"))
    _after("publish_staged", lambda args: reach(f"{_layer(args[0].spec.name)} publish"))
    _after("audit_staged", lambda args: _layer(args[0].spec.name) == "gold" and reach("audit"))
    original = flow.Flow._write_epoch

    def write_and_reach(self: Any, rows: Any, epoch: int) -> None:
        original(self, rows, epoch)
        if self.name != "deadletter":
            reach("commit log")

    flow.Flow._write_epoch = write_and_reach  # type: ignore[method-assign]


def _layer(table: str) -> str:
    if table.startswith("silver_dlq_"):
        return "dlq"
    return table.partition("_")[0] if table != GOLD_CANDLES.name else "candles"


def _after(name: str, reach: Callable[[tuple[Any, ...]], object]) -> None:
    """Call `reach` with the arguments of each call of a publish function, wherever it is."""
    original = getattr(publish, name)

    def wrapped(*args: Any) -> Any:
        result = original(*args)
        reach(args)
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
