"""Steady: the real k2-lake under a steady stream: freshness, files, memory, and its recovery.

The soak is the same for an hour, with two exchanges.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import psutil
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from platformdirs import user_cache_path
from pyiceberg.catalog.sql import SqlCatalog

from k2_cli.broker import Broker, kafka_jars
from k2_medallion import GOLD_TRADES, LakeHome, bronze_trades, open_catalog, silver_trades
from k2_medallion.catalog import load_table
from k2_medallion.data_files import plan_data_files
from k2_medallion.errors import CatalogError
from k2_medallion.jvm import fetch_jars, find_java
from k2_medallion.maintain import CLOSED_AFTER, SNAPSHOT_AGE
from k2_medallion.tables import TableSpec
from k2_schemas import Trade, TradeCodec
from k2_schemas.topics import DEADLETTER_TOPIC, trades_topic

from .freshness import Freshness
from .lake_rig import TRADES_PER_S, find_begin_us, make_trades, produce, produce_trades
from .report import Report

_STEADY = {"steady": TRADES_PER_S}
_SOAK = {"binance": 2_000, "kraken": 500}
"""Trades a second of each exchange."""
_CLOSED_TRADES = 300_000
"""Of an hour that is over, in many files: maintenance has to find and sort it."""
_TICK_S = 0.05
_PORT = 29_192
_STEADY_WARM_UP_S = 120.0
_COMPILING = timedelta(minutes=5)
"""The JVM compiles, and takes memory for it, for four minutes."""


class Process:
    """A broker and k2-lake in a folder of their own."""

    def __init__(self, rates: Mapping[str, int]) -> None:
        self.rates = rates
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

    def check(self) -> None:
        """Raise, with its last words, if the driver has ended: one failed batch ends it."""
        assert self.lake is not None
        if self.lake.poll() is not None:
            raise RuntimeError(self.log.read_text()[-2000:])

    def count_failures(self) -> int:
        """Count what the driver said had failed: of batches, of upkeep, of the monitor."""
        return sum('_failed", ' in line for line in self.log.read_text().splitlines())

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
def _open_stack(rates: Mapping[str, int]) -> Iterator[Process]:
    stack = Process(rates)
    stack.broker.start()
    try:
        stack.broker.wait()
        admin = AdminClient({"bootstrap.servers": stack.broker.address})
        names = [*map(trades_topic, rates), DEADLETTER_TOPIC]
        for future in admin.create_topics([NewTopic(name, 2, 1) for name in names]).values():
            future.result()
        exchanges = "".join(f'[[exchanges]]\nname = "{name}"\n' for name in rates)
        stack.config.write_text(
            f'[kafka]\nbootstrap_servers = "{stack.broker.address}"\n{exchanges}'
            f'[lake]\nhome = "{stack.folder}"\n'
        )
        yield stack
    finally:
        if stack.lake is not None and stack.lake.poll() is None:
            stack.kill_lake(signal.SIGTERM)
        stack.broker.child.stop()
        shutil.rmtree(stack.folder, ignore_errors=True)


def run_steady(report: Report, minutes: float) -> dict[str, float]:
    """Stream 2,000 trades/s in real time and watch every batch become visible."""
    return _run(report, _STEADY, minutes)


def run_soak(report: Report, minutes: float) -> dict[str, float]:
    """Stream 2,000 + 500 trades/s of two exchanges."""
    found = _run(report, _SOAK, minutes, full_hour=True)
    return {f"soak_{name}": value for name, value in found.items()}


def _find_soak_warm_up_s(now: datetime) -> float:
    """Return how long it takes until everything that a soak repeats has been done once.

    A lake that was empty keeps more snapshots by the minute until the oldest are too old, and a
    full hour has to have been closed and sorted.
    """
    next_hour = _floor_hour(now) + timedelta(hours=1)
    until = max(now + SNAPSHOT_AGE, next_hour + CLOSED_AFTER) + _COMPILING
    return (until - now).total_seconds()


def _floor_hour(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)


def _run(
    report: Report, rates: Mapping[str, int], minutes: float, *, full_hour: bool = False
) -> dict[str, float]:
    """Stream for some minutes after a warm-up; in it, a `full_hour` is to be closed and sorted."""
    with _open_stack(rates) as stack:
        hour = _floor_hour(datetime.now(UTC))
        closed = hour - timedelta(hours=2)
        sent = {name: _produce_hour(stack, name, closed, _CLOSED_TRADES) for name in rates}
        if full_hour:
            for name, per_s in rates.items():
                count = int((datetime.now(UTC) - hour).total_seconds() * per_s)
                sent[name] = _produce_hour(stack, name, hour, count, sent[name], per_s)
        stack.start_lake()
        _wait_for_gold(stack, sum(sent.values()))
        now = datetime.now(UTC)
        warm_up_s = _find_soak_warm_up_s(now) if full_hour else _STEADY_WARM_UP_S
        freshness, samples = _stream(stack, sent, minutes, warm_up_s)
        catalog = open_catalog(stack.home)
        closed_files = _count_files(catalog, closed)
        manifests = _count_manifests(catalog, rates)
        failures = stack.count_failures()
    memory = [sample.rss_mb for sample in samples]
    slope = _find_slope(memory)
    open_files = max(sample.open_files for sample in samples)
    tables = {
        name: (freshness.quantile(name, 50), freshness.quantile(name, 99))
        for name in freshness.ages
    }
    told = " + ".join(f"{rate:,}" for rate in rates.values())
    report.table(
        f"{told} trades/s for {minutes:g} minutes: age of a row when it becomes visible, s",
        ["table", "p50", "p99"],
        [[name, f"{p50:.2f}", f"{p99:.2f}"] for name, (p50, p99) in tables.items()],
    )
    report.table(
        "Memory of driver and broker, files of Gold's open hour, by tenth of the time",
        ["", *map(str, range(1, 11))],
        [
            ["MB", *(f"{mean:,.0f}" for mean in _average(memory))],
            ["files", *(f"{m:.0f}" for m in _average([sample.open_files for sample in samples]))],
        ],
    )
    report.note(
        f"After {warm_up_s / 60:.0f} minutes of the same, which do not count: "
        f"files in Gold's open hour {open_files} at most, in a closed hour {closed_files}; "
        f"manifests {manifests}; memory of driver and broker {max(memory):,.0f} MB at most, its "
        f"slope over the time {slope:+.1%}; failures in the log {failures}."
    )
    return {
        "bronze_p99_s": round(max(tables[name][1] for name in tables if "bronze" in name), 2),
        "silver_p99_s": round(max(tables[name][1] for name in tables if "silver" in name), 2),
        "freshness_p99_s": round(tables["gold"][1], 2),
        "files_open_hour": open_files,
        "files_closed_hour": closed_files,
        "manifests": manifests,
        "rss_mb": round(max(memory)),
        "rss_slope": round(slope, 4),
        "failures": failures,
    }


def run_recovery(report: Report) -> dict[str, float]:
    """Kill the driver with kill -9 in mid-stream; time its successor to the first new Gold row."""
    (name,) = _STEADY
    with _open_stack(_STEADY) as stack:
        now_us = time.time_ns() // 1000
        produce_trades(stack.broker.address, name, 0, 100_000, now_us - 60_000_000)
        stack.start_lake()
        _wait_for_gold(stack, 100_000)
        produce_trades(stack.broker.address, name, 100_000, 20_000, now_us)
        stack.kill_lake(signal.SIGKILL)
        before = _count_gold(stack)
        began = time.monotonic()
        stack.start_lake()
        _wait_for_gold(stack, before + 1)
        taken = time.monotonic() - began
    report.note(f"From the start after kill -9 to the first new Gold row: {taken:.1f} s.")
    return {"recovery_s": round(taken, 1)}


class Sample(NamedTuple):
    """What the machine and the table had at one time."""

    rss_mb: float
    open_files: int


class _Stream:
    """One exchange's trades in real time."""

    def __init__(self, exchange: str, per_s: int, first: int) -> None:
        self._exchange = exchange
        self._per_s = per_s
        self._first = first
        self._sent = 0
        # A trade's time is when it was due: one that had to wait here is as old as it would be.
        self._begin_us = find_begin_us(first, time.time_ns() // 1000, per_s)

    def list_due(self, elapsed_s: float) -> Iterator[Trade]:
        first, due = self._first + self._sent, int(elapsed_s * self._per_s) - self._sent
        self._sent += due
        return make_trades(self._exchange, first, due, self._begin_us, self._per_s)


def _produce_hour(
    stack: Process, name: str, hour: datetime, count: int, first: int = 0, per_s: int = TRADES_PER_S
) -> int:
    """Produce trades from the beginning of an hour on; return the number of the next one."""
    begin_us = find_begin_us(first, int(hour.timestamp() * 1e6), per_s)
    produce_trades(stack.broker.address, name, first, count, begin_us, per_s)
    return first + count


def _stream(
    stack: Process, sent: Mapping[str, int], minutes: float, warm_up_s: float
) -> tuple[Freshness, list[Sample]]:
    """Produce in real time; sample what becomes visible, after a time that does not count.

    `sent` are the trades that each exchange's topic has before.
    """
    producer = Producer({"bootstrap.servers": stack.broker.address, "linger.ms": 5})
    codec, samples = TradeCodec(), []
    freshness = Freshness(stack.home, _list_tables(stack.rates))
    began = time.monotonic()
    streams = {
        trades_topic(name): _Stream(name, per_s, sent[name]) for name, per_s in stack.rates.items()
    }
    next_look = next_sample = began + warm_up_s
    while (elapsed := time.monotonic() - began) < minutes * 60 + warm_up_s:
        for topic, stream in streams.items():
            for trade in stream.list_due(elapsed):
                produce(producer, topic, codec.encode(trade), trade.symbol.encode())
        producer.poll(0)
        if time.monotonic() > next_look:
            freshness.look()
            next_look = time.monotonic() + 2
        if time.monotonic() > next_sample:
            stack.check()
            samples.append(_take_sample(stack))
            next_sample = time.monotonic() + 5
        time.sleep(_TICK_S)
    producer.flush()
    return freshness, samples


def _list_tables(exchanges: Iterable[str]) -> dict[str, tuple[TableSpec, str]]:
    tables = {"gold": (GOLD_TRADES, "timestamp")}
    for name in exchanges:
        tables[f"bronze {name}"] = bronze_trades(name), "kafka_timestamp"
        tables[f"silver {name}"] = silver_trades(name), "timestamp"
    return dict(sorted(tables.items()))


def _take_sample(stack: Process) -> Sample:
    catalog = open_catalog(stack.home)
    now = datetime.now(UTC)
    # In the first seconds of an hour there is no file of it yet.
    files = max(_count_files(catalog, now - timedelta(hours=back)) for back in (0, 1))
    catalog.close()
    return Sample(stack.rss_mb(), files)


def _find_slope(values: Sequence[float]) -> float:
    """Return the rise of a fitted line over the whole of the time, as a part of the mean."""
    fitted = statistics.linear_regression(range(len(values)), values)
    return fitted.slope * len(values) / statistics.mean(values)


def _average(values: Sequence[float], parts: int = 10) -> list[float]:
    size = len(values) / parts
    cuts = [values[int(size * n) : max(int(size * (n + 1)), int(size * n) + 1)] for n in range(10)]
    return [statistics.mean(cut) for cut in cuts]


def _count_files(catalog: SqlCatalog, time: datetime) -> int:
    """Return how many files Gold has of the hour of a time."""
    table = load_table(catalog, GOLD_TRADES)
    assert table is not None
    snapshot = table.current_snapshot()
    assert snapshot is not None
    hours = [int(file.partition[0]) for file in plan_data_files(table, snapshot.snapshot_id)]
    return hours.count(int(time.timestamp()) // 3600)


def _count_manifests(catalog: SqlCatalog, exchanges: Iterable[str]) -> int:
    """Return the manifests of the table that has most."""
    counts = []
    for spec, _ in _list_tables(exchanges).values():
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
    deadline = time.monotonic() + 900
    while True:
        stack.check()
        try:
            if _count_gold(stack) >= count:
                return
        except CatalogError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(stack.log.read_text()[-2000:])
        time.sleep(0.1)
