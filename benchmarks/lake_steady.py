"""Steady: the real k2-lake under a steady stream: freshness, files, memory, and its recovery."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pyarrow.compute as pc
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from platformdirs import user_cache_path
from pyiceberg.catalog.sql import SqlCatalog

from k2_cli.broker import Broker, kafka_jars
from k2_medallion import GOLD_TRADES, LakeHome, bronze_trades, open_catalog, silver_trades
from k2_medallion.added_rows import read_added_rows
from k2_medallion.catalog import load_table
from k2_medallion.data_files import plan_data_files
from k2_medallion.errors import CatalogError
from k2_medallion.jvm import fetch_jars, find_java
from k2_schemas import TradeCodec
from k2_schemas.topics import DEADLETTER_TOPIC, trades_topic

from .lake_rig import make_trades, produce_trades
from .report import Report

_EXCHANGE = "steady"
_PER_S = 2_000
_TICK_S = 0.05
_PORT = 29_192
_WARM_UP_S = 60.0


@dataclass(slots=True)
class Freshness:
    """How old rows are when they become visible, in seconds, per table; by batch (age, rows)."""

    ages: dict[str, list[float]] = field(default_factory=dict)
    seen: dict[str, set[int]] = field(default_factory=dict)

    def p99(self, table: str) -> float:
        """Return the age that 99 % of the rows are below."""
        return statistics.quantiles(self.ages[table], n=100)[98]

    def p50(self, table: str) -> float:
        """Return the median age."""
        return statistics.median(self.ages[table])


class Process:
    """A broker and k2-lake in a folder of their own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="k2-steady-"))
        cache = user_cache_path("k2")
        self.java = find_java(cache, os.environ)
        self.broker = Broker(self.folder, _PORT, self.java, fetch_jars(kafka_jars(), cache))
        self.home = LakeHome(self.folder)
        self.config = self.folder / "lake.toml"
        self.log = self.folder / "lake.log"
        self.lake: subprocess.Popen[bytes] | None = None

    def start_lake(self) -> None:
        """Start k2-lake with its default settings."""
        environment = {**os.environ, "JAVA_HOME": str(self.java.home)}
        with self.log.open("ab") as log:
            self.lake = subprocess.Popen(
                [sys.executable, "-m", "k2_lake", "--config", str(self.config)],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill_lake(self, number: signal.Signals) -> None:
        """Signal the driver, and end its JVM with it if it was killed."""
        assert self.lake is not None
        children = psutil.Process(self.lake.pid).children(recursive=True)
        self.lake.send_signal(number)
        self.lake.wait(120)
        if number == signal.SIGKILL:
            for child in children:
                if child.is_running():
                    child.kill()

    def rss_mb(self) -> float:
        """Return the resident memory of the driver, its JVM and the broker."""
        assert self.lake is not None
        roots = [psutil.Process(self.lake.pid), psutil.Process(self.broker.child.pid)]
        found = [process for root in roots for process in (root, *root.children(recursive=True))]
        total = 0
        for process in found:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return total / 2**20


@contextmanager
def _open_stack() -> Iterator[Process]:
    stack = Process()
    stack.broker.start()
    try:
        stack.broker.wait()
        admin = AdminClient({"bootstrap.servers": stack.broker.address})
        topics = [NewTopic(name, 2, 1) for name in (trades_topic(_EXCHANGE), DEADLETTER_TOPIC)]
        for future in admin.create_topics(topics).values():
            future.result()
        stack.config.write_text(
            f'[kafka]\nbootstrap_servers = "{stack.broker.address}"\n'
            f'[[exchanges]]\nname = "{_EXCHANGE}"\n[lake]\nhome = "{stack.folder}"\n'
        )
        yield stack
    finally:
        if stack.lake is not None and stack.lake.poll() is None:
            stack.kill_lake(signal.SIGTERM)
        stack.broker.child.stop()
        shutil.rmtree(stack.folder, ignore_errors=True)


def run_steady(report: Report, minutes: float) -> dict[str, float]:
    """Stream 2,000 trades/s in real time and watch every batch become visible."""
    with _open_stack() as stack:
        closed = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
        # An hour that is over, in many files: maintenance has to find and sort it.
        begin_us = int(closed.timestamp() * 1e6)
        produce_trades(stack.broker.address, _EXCHANGE, 0, 300_000, begin_us)
        stack.start_lake()
        _wait_for_gold(stack, 300_000)
        freshness, memory = _stream(stack, minutes)
        catalog = open_catalog(stack.home)
        open_files, closed_files = _count_files(catalog, closed)
        manifests = _count_manifests(catalog)
        failed = stack.log.read_text().count('"failed"')
    first, last = memory[: len(memory) // 4], memory[-(len(memory) // 4) :]
    drift = statistics.mean(last) / statistics.mean(first) - 1
    tables = {name: (freshness.p50(name), freshness.p99(name)) for name in freshness.ages}
    report.table(
        f"{_PER_S:,} trades/s for {minutes:g} minutes: age of a row when it becomes visible, s",
        ["table", "p50", "p99"],
        [[name, f"{p50:.2f}", f"{p99:.2f}"] for name, (p50, p99) in tables.items()],
    )
    report.note(
        f"Files in Gold's open hour {open_files}, in a closed hour {closed_files}; manifests "
        f"{manifests}; memory of driver and broker {max(memory):,.0f} MB at most, last quarter "
        f"against first {drift:+.1%}; failed batches {failed}."
    )
    return {
        "bronze_p99_s": round(tables["bronze"][1], 2),
        "silver_p99_s": round(tables["silver"][1], 2),
        "freshness_p99_s": round(tables["gold"][1], 2),
        "files_open_hour": open_files,
        "files_closed_hour": closed_files,
        "manifests": manifests,
        "rss_mb": round(max(memory)),
        "rss_drift": round(drift, 4),
    }


def run_recovery(report: Report) -> dict[str, float]:
    """Kill the driver with kill -9 in mid-stream; time its successor to the first new Gold row."""
    with _open_stack() as stack:
        now_us = time.time_ns() // 1000
        produce_trades(stack.broker.address, _EXCHANGE, 0, 100_000, now_us - 60_000_000)
        stack.start_lake()
        _wait_for_gold(stack, 100_000)
        produce_trades(stack.broker.address, _EXCHANGE, 100_000, 20_000, now_us)
        stack.kill_lake(signal.SIGKILL)
        before = _count_gold(stack)
        began = time.monotonic()
        stack.start_lake()
        while _count_gold(stack) <= before:
            time.sleep(0.1)
        taken = time.monotonic() - began
    report.note(f"From the start after kill -9 to the first new Gold row: {taken:.1f} s.")
    return {"recovery_s": round(taken, 1)}


def _stream(stack: Process, minutes: float) -> tuple[Freshness, list[float]]:
    """Produce in real time; sample what becomes visible, after a minute that does not count."""
    producer = Producer({"bootstrap.servers": stack.broker.address, "linger.ms": 5})
    codec, topic = TradeCodec(), trades_topic(_EXCHANGE)
    freshness, memory = Freshness(), []
    began = time.monotonic()
    sent, next_sample, next_memory = 0, began + _WARM_UP_S, began + _WARM_UP_S
    while (elapsed := time.monotonic() - began) < minutes * 60 + _WARM_UP_S:
        due = int(elapsed * _PER_S) - sent
        for trade in make_trades(_EXCHANGE, 1_000_000 + sent, due, 0):
            fresh = trade.replace(timestamp_us=time.time_ns() // 1000)
            producer.produce(topic, codec.encode(fresh), fresh.symbol.encode())
        sent += due
        producer.poll(0)
        if time.monotonic() > next_sample:
            _sample(stack, freshness)
            next_sample = time.monotonic() + 2
        if time.monotonic() > next_memory:
            memory.append(stack.rss_mb())
            next_memory = time.monotonic() + 5
        time.sleep(_TICK_S)
    producer.flush()
    return freshness, memory


def _sample(stack: Process, freshness: Freshness) -> None:
    """Read, of every batch published since, how old its rows were when readers could see them."""
    catalog = open_catalog(stack.home)
    specs = {
        "bronze": (bronze_trades(_EXCHANGE), "kafka_timestamp"),
        "silver": (silver_trades(_EXCHANGE), "timestamp"),
        "gold": (GOLD_TRADES, "timestamp"),
    }
    for layer, (spec, column) in specs.items():
        table = load_table(catalog, spec)
        assert table is not None
        seen, ages = freshness.seen.setdefault(layer, set()), freshness.ages.setdefault(layer, [])
        first_look = not seen
        for entry in table.history():
            snapshot = table.snapshot_by_id(entry.snapshot_id)
            if snapshot is None or entry.snapshot_id in seen:
                continue
            seen.add(entry.snapshot_id)
            if first_look or snapshot.summary is None or snapshot.summary.operation != "append":
                continue
            times = read_added_rows(table, entry.snapshot_id, [column])[column]
            micros = pc.cast(times, "int64").to_pylist()
            ages += [entry.timestamp_ms / 1000 - micro / 1e6 for micro in micros[::20]]
    catalog.close()


def _count_files(catalog: SqlCatalog, closed: datetime) -> tuple[int, int]:
    """Return the most files of Gold's hours of this stream, and those of the closed hour."""
    table = load_table(catalog, GOLD_TRADES)
    assert table is not None
    snapshot = table.current_snapshot()
    assert snapshot is not None
    hours = [int(file.partition[0]) for file in plan_data_files(table, snapshot.snapshot_id)]
    closed_hour = int(closed.timestamp()) // 3600
    newest = max(hours)
    return hours.count(newest), hours.count(closed_hour)


def _count_manifests(catalog: SqlCatalog) -> int:
    """Return the manifests of the table that has most."""
    counts = []
    for spec in (bronze_trades(_EXCHANGE), silver_trades(_EXCHANGE), GOLD_TRADES):
        table = load_table(catalog, spec)
        snapshot = table.current_snapshot() if table is not None else None
        if table is not None and snapshot is not None:
            counts.append(len(snapshot.manifests(table.io)))
    return max(counts)


def _count_gold(stack: Process) -> int:
    catalog = open_catalog(stack.home)
    try:
        table = load_table(catalog, GOLD_TRADES)
        snapshot = table.current_snapshot() if table is not None else None
        if snapshot is None or snapshot.summary is None:
            return 0
        return int(snapshot.summary["total-records"] or 0)
    finally:
        catalog.close()


def _wait_for_gold(stack: Process, count: int) -> None:
    deadline = time.monotonic() + 300
    while True:
        assert stack.lake is not None
        if stack.lake.poll() is not None:
            raise RuntimeError(stack.log.read_text()[-2000:])
        try:
            if _count_gold(stack) >= count:
                return
        except CatalogError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(stack.log.read_text()[-2000:])
        time.sleep(0.2)
