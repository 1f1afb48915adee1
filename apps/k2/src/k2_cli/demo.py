"""Demo: the whole pipeline as real processes, judged by a ledger."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from k2_connectors.testing import Ledger
from k2_medallion import (
    CatalogError,
    LakeHome,
    LakeReader,
    open_catalog,
)
from k2_medallion.audit import OffsetRanges, audit_lake
from k2_medallion.catalog import list_exchanges
from k2_medallion.jvm import fetch_jars, find_java, spark_jars

from .broker import kafka_jars
from .candles import draw_candles
from .errors import CommandError
from .memory import PeakMemory
from .plan import Plan
from .poison import produce_poison
from .progress import Progress
from .reconcile import Reconciliation, reconcile
from .screen import Screen, tabulate
from .stack import Stack
from .verify import find_breaches

_LEDGER_NAME = "ledger.db"


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What a demo found, how long it took, and the most memory all its processes held."""

    reconciliation: Reconciliation
    breaches: list[str]
    seconds: float
    peak_rss_mb: float


def run_demo(
    home: Path,
    *,
    trade_count: int,
    seed: int,
    frames: Sequence[Path],
    symbols: Sequence[str],
    port: int,
    cache: Path,
    screen: Screen,
) -> DemoResult:
    """Play to the pipeline, wait until every record is in its table, and reconcile."""
    began = time.monotonic()
    since_ms = time.time_ns() // 1_000_000
    make_home(home)
    plan = Plan(
        ledger=str(home.resolve() / _LEDGER_NAME),
        trade_count=trade_count,
        seed=seed,
        frames=[str(path.resolve()) for path in frames],
        symbols=list(symbols),
    )
    exchanges = plan.list_exchanges()
    with PeakMemory() as memory:
        java = find_java(cache, os.environ)
        jars = fetch_broker_jars(cache, screen)
        with Stack(home, port, java, jars, exchanges, list_earlier(home)) as stack:
            demo = _Demo(stack, plan, screen)
            demo.start()
            demo.feed()
            ranges = demo.settle()
            with screen.step("Stopping the processes"):
                stack.stop()
        with screen.step("Comparing every trade with the ledger"):
            ledger = Path(plan.ledger)
            kafka_records = sum(high - low for low, high in ranges.values())
            result = reconcile(LakeHome(home), ledger, kafka_records, since_ms)
            breaches = find_breaches(audit_lake(LakeHome(home), lambda _: ranges), strict=True)
    seconds = time.monotonic() - began
    return DemoResult(result, breaches, round(seconds, 1), round(memory.peak_mb, 1))


def print_result(result: DemoResult, home: Path, screen: Screen) -> None:
    """Draw the candles, the reconciliation, and what to try next."""
    console = screen.console
    with LakeReader(LakeHome(home)) as lake:
        for drawing in draw_candles(lake, min(console.width, 110)):
            console.print(Text.from_ansi(drawing))
    console.print(tabulate(result.reconciliation, result.seconds, result.peak_rss_mb))
    option = "" if home == Path(".k2") else f" --home {home}"
    console.print(f"\nTables: {home / 'warehouse'} (Iceberg, catalog {home / 'catalog.db'}). Next:")
    for command in (
        f'k2 query{option} "SELECT symbol, sum(quantity) FROM gold_crypto_trades GROUP BY 1"',
        f'k2 query{option} "SELECT error_reason, count(*) FROM silver_dlq_trades GROUP BY 1"',
        f"k2 demo{option}        # again: all duplicates, Gold does not change",
        "k2 doctor",
    ):
        console.print(f"  hatch run {command}", highlight=False, markup=False, soft_wrap=True)


class _Demo:
    """The demo's steps on a running stack."""

    def __init__(self, stack: Stack, plan: Plan, screen: Screen) -> None:
        self._stack = stack
        self._plan = plan
        self._screen = screen
        self._progress = Progress(stack, screen)

    def start(self) -> None:
        """Start broker, exchange and lake; the feed follows once there is a Kafka to feed."""
        stack = self._stack
        with self._screen.step("Starting Kafka, Spark and the exchange"):
            stack.broker.start()
            stack.start_lake()
            stack.start_exchange(self._plan)
            stack.broker.wait()
            self._progress.wait_for(
                lambda: stack.read_exchange_status() is not None, "no exchange", 60
            )

    def feed(self) -> None:
        """Let the feed read every frame, and put poison beside it."""
        stack, progress = self._stack, self._progress
        with self._screen.step("Feeding: sockets to Kafka"):
            before = progress.count_ends()
            stack.start_feed()
            progress.wait_for(progress.has_topics, "k2-feed has made no topics", 60)
            with Ledger(Path(self._plan.ledger)) as ledger:
                poison = produce_poison(
                    stack.broker.address, stack.exchanges, self._plan.seed, ledger
                )
            status = stack.read_exchange_status()
            assert status is not None, "answered a moment ago"
            target = before + status["planned_records"] + poison
            progress.wait_while_moving(lambda: progress.count_ends() >= target, "Kafka")
            # Drains: closes the sockets, publishes what they had delivered, waits for the acks.
            stack.feed.stop_cleanly()
            stack.exchange.stop()

    def settle(self) -> OffsetRanges:
        """Let the lake finish; return what Kafka holds."""
        with self._screen.step("Bronze, Silver, dead letters, Gold"):
            return self._progress.settle()


def make_home(home: Path) -> None:
    """Make the folder of a lake, or raise `CommandError`."""
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CommandError(f"cannot make the home {home}: {reason}; take another --home") from error


def list_earlier(home: Path) -> list[str]:
    """Return the exchanges of earlier runs in this home."""
    try:
        return list_exchanges(open_catalog(LakeHome(home)))
    except CatalogError:
        return []


def fetch_broker_jars(cache: Path, screen: Screen) -> list[Path]:
    """Fetch the broker's jars, and Spark's so that the lake finds them; return the broker's."""
    with screen.download("Java libraries of Kafka and Spark") as report:
        wanted = kafka_jars()
        paths = fetch_jars([*wanted, *spark_jars()], cache, report)
    return paths[: len(wanted)]
