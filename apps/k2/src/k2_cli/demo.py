"""Demo: the whole pipeline as real processes, judged by a ledger."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyiceberg.catalog.sql import SqlCatalog
from rich.text import Text

from k2_connectors.testing import Ledger
from k2_medallion import (
    DEAD_LETTERS,
    GOLD_TRADES,
    CatalogError,
    LakeHome,
    LakeReader,
    TableSpec,
    bronze_trades,
    open_catalog,
    silver_trades,
)
from k2_medallion.audit import OffsetRanges, audit_lake
from k2_medallion.catalog import count_rows, list_exchanges, load_table
from k2_medallion.jvm import fetch_jars, find_java, spark_jars

from .broker import kafka_jars
from .candles import draw_candles
from .errors import CommandError, StalledError
from .memory import PeakMemory
from .plan import Plan
from .poison import produce_poison
from .reconcile import Reconciliation, reconcile
from .screen import Screen, tabulate
from .stack import Stack
from .verify import find_breaches
from .watermarks import read_offset_ranges

_POLL_S = 0.25
_STALL_S = 90.0
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
    _make_home(home)
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
        jars = _fetch(cache, screen)
        with Stack(home, port, java, jars, exchanges, _list_earlier(home)) as stack:
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
        self._home = LakeHome(stack.home)
        self._catalog: SqlCatalog | None = None

    def start(self) -> None:
        """Start broker, exchange and lake; the feed follows once there is a Kafka to feed."""
        stack = self._stack
        with self._screen.step("Starting Kafka, Spark and the exchange"):
            stack.broker.start()
            stack.start_lake()
            stack.start_exchange(self._plan)
            stack.broker.wait()
            self._wait_for(lambda: stack.read_exchange_status() is not None, "no exchange", 60)

    def feed(self) -> None:
        """Let the feed read every frame, and put poison beside it."""
        stack = self._stack
        with self._screen.step("Feeding: sockets to Kafka"):
            before = self._count_ends()
            stack.start_feed()
            self._wait_for(self._topics_exist, "k2-feed has made no topics", 60)
            with Ledger(Path(self._plan.ledger)) as ledger:
                poison = produce_poison(
                    stack.broker.address, stack.exchanges, self._plan.seed, ledger
                )
            status = stack.read_exchange_status()
            assert status is not None, "answered a moment ago"
            target = before + status["planned_records"] + poison
            self._wait_while_moving(lambda: self._count_ends() >= target, "Kafka")
            # Drains: closes the sockets, publishes what they had delivered, waits for the acks.
            stack.feed.stop_cleanly()
            stack.exchange.stop()

    def settle(self) -> OffsetRanges:
        """Wait until every record is in Silver or the dead letters, stop the lake between batches.

        Returns what Kafka holds.
        """
        with self._screen.step("Bronze, Silver, dead letters, Gold"):
            target = self._count_ends()
            self._wait_while_moving(lambda: self._count_settled() >= target, "the lake")
            self._stack.lake.stop_cleanly()
            return read_offset_ranges(self._stack.broker.address, self._stack.topics)

    def _topics_exist(self) -> bool:
        return set(self._stack.topics) <= self._stack.broker.list_topics()

    def _count_ends(self) -> int:
        counts = self._stack.broker.count_records(self._stack.topics)
        return sum(end for _, end in counts.values())

    def _count_settled(self) -> int:
        counts = self._count_tables()
        return counts["silver"] + counts["dlq"]

    def _count_tables(self) -> dict[str, int]:
        try:
            catalog = self._catalog = self._catalog or open_catalog(self._home)
        except CatalogError:
            return dict.fromkeys(("bronze", "silver", "dlq", "gold"), 0)
        exchanges = self._stack.all_exchanges

        def count(specs: Sequence[TableSpec]) -> int:
            return sum(count_rows(load_table(catalog, spec)) for spec in specs)

        return {
            "bronze": count([bronze_trades(name) for name in exchanges]),
            "silver": count([silver_trades(name) for name in exchanges]),
            "dlq": count([DEAD_LETTERS]),
            "gold": count([GOLD_TRADES]),
        }

    def _poll(self) -> Iterator[dict[str, int]]:
        """Yield live counts, again and again, while every process lives."""
        while True:
            self._stack.check()
            counts = {"kafka": self._count_ends(), **self._count_tables()}
            self._screen.show_counts(counts)
            yield counts
            time.sleep(_POLL_S)

    def _wait_for(self, ready: Callable[[], bool], complaint: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not ready():
            self._stack.check()
            if time.monotonic() > deadline:
                raise StalledError(complaint, timeout_s, self._stack.feed.log)
            time.sleep(_POLL_S)

    def _wait_while_moving(self, ready: Callable[[], bool], what: str) -> None:
        """Wait until `ready`, or raise `StalledError` when no count has moved for a long time."""
        moved, last = time.monotonic(), dict[str, int]()
        for counts in self._poll():
            if ready():
                return
            if counts != last:
                moved, last = time.monotonic(), counts
            if time.monotonic() - moved > _STALL_S:
                raise StalledError(f"{what} has not moved", _STALL_S, self._stack.lake.log)


def _make_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CommandError(f"cannot make the home {home}: {reason}; take another --home") from error


def _list_earlier(home: Path) -> list[str]:
    """Return the exchanges of earlier runs in this home."""
    try:
        return list_exchanges(open_catalog(LakeHome(home)))
    except CatalogError:
        return []


def _fetch(cache: Path, screen: Screen) -> list[Path]:
    """Fetch the broker's jars, and Spark's so that the lake finds them; return the broker's."""
    with screen.download("Java libraries of Kafka and Spark") as report:
        wanted = kafka_jars()
        paths = fetch_jars([*wanted, *spark_jars()], cache, report)
    return paths[: len(wanted)]
