"""Feed rig: a real broker, a flooding exchange and one client, each a process of its own."""

from __future__ import annotations

import json
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
from dataclasses import dataclass
from pathlib import Path

import psutil
from platformdirs import user_cache_path

from k2_cli.broker import Broker, kafka_jars
from k2_cli.errors import CommandError
from k2_connectors import create_topics
from k2_medallion.jvm import fetch_jars, find_java
from k2_schemas.topics import trades_topic

TOPIC = trades_topic("binance")
_PORT = 29_292


@contextmanager
def open_broker() -> Iterator[Broker]:
    """Start a broker with a feed's topics in a folder that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="k2-bench-"))
    cache = user_cache_path("k2")
    broker = Broker(folder, _PORT, find_java(cache, os.environ), fetch_jars(kafka_jars(), cache))
    broker.start()
    try:
        broker.wait()
        create_topics(broker.address, ["binance"])
        _await_leaders(broker)
        # The first idempotent producer waits for a coordinator that is still loading.
        run_client("picows", broker, 1_000)
        yield broker
    finally:
        broker.child.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _await_leaders(broker: Broker) -> None:
    """Return once every partition that was just made can be asked."""
    for pause_s in (0.1, 0.5, 2.0, 5.0):
        try:
            broker.count_records([TOPIC])
        except CommandError:
            time.sleep(pause_s)
        else:
            return


@contextmanager
def open_exchange(count: int, trades_per_s: float = 0) -> Iterator[str]:
    """Start an exchange that sends `count` trades; yields its URL. 0 a second: without limit."""
    command = [sys.executable, "-m", "benchmarks.feed_exchange", str(count), str(trades_per_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"ws://127.0.0.1:{process.stdout.readline().strip()}/binance"
        finally:
            process.kill()


@dataclass(frozen=True, slots=True)
class Took:
    """What a client took for its trades."""

    trades: int
    cpu_s: float
    wall_s: float


def run_client(name: str, broker: Broker, count: int) -> Took:
    """Let a client bring `count` trades into Kafka; check with the broker that they are there."""
    _, before = broker.count_records([TOPIC])[TOPIC]
    with open_exchange(count) as url, open_client(name, url, broker, count) as client:
        *_, last = _read_lines(client)
    _, after = broker.count_records([TOPIC])[TOPIC]
    assert after - before == count, f"{name}: {after - before:,} records of {count:,} trades"
    return Took(**json.loads(last))


@contextmanager
def open_client(name: str, url: str, broker: Broker, count: int) -> Iterator[subprocess.Popen[str]]:
    """Start a client; see `feed_client`."""
    command = [sys.executable, "-m", "benchmarks.feed_client", name, url, broker.address]
    with subprocess.Popen(
        [*command, str(count)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _read_lines(client: subprocess.Popen[str]) -> list[str]:
    out, err = client.communicate()
    assert client.returncode == 0, err[-2000:]
    return out.splitlines()


@dataclass(frozen=True, slots=True)
class Soak:
    """A long run: (trades published, bytes of memory) every second, and what it took."""

    samples: list[tuple[int, int]]
    took: Took

    @property
    def most_bytes(self) -> int:
        """The most memory it had at any time."""
        return max(rss for _, rss in self.samples)

    def median_bytes(self, first: float, last: float) -> int:
        """Return the median of what it had between two shares of its trades."""
        low, high = first * self.took.trades, last * self.took.trades
        return int(statistics.median(rss for done, rss in self.samples if low <= done <= high))

    @property
    def warm_bytes(self) -> int:
        """Memory after the warm-up, which has met every bound: it holds the first stall."""
        return self.median_bytes(0.2, 0.3)

    @property
    def end_bytes(self) -> int:
        """Memory at the end."""
        return self.median_bytes(0.9, 1.0)

    @property
    def drift(self) -> float:
        """How much of the warm memory was added by the end."""
        return (self.end_bytes - self.warm_bytes) / self.warm_bytes


def soak(broker: Broker, count: int, trades_per_s: float, stall_s: float) -> Soak:
    """Send `count` trades at a rate; the broker stands still at a twentieth and in the middle."""
    _, before = broker.count_records([TOPIC])[TOPIC]
    stalls, samples = [count // 2, count // 20], list[tuple[int, int]]()
    with open_exchange(count, trades_per_s) as url, open_client("picows", url, broker, count) as c:
        assert c.stdout is not None
        line = ""
        for line in c.stdout:
            if not line.endswith("published\n"):
                continue  # the feed's log; in the end what it took
            published = int(line.split()[0])
            samples.append((published, psutil.Process(c.pid).memory_info().rss))
            if stalls and published >= stalls[-1]:
                stalls.pop()
                _stall(broker, stall_s)
        c.wait()
        assert line.startswith("{"), c.stderr and c.stderr.read()[-2000:]
        took = Took(**json.loads(line))
    _, after = broker.count_records([TOPIC])[TOPIC]
    assert after - before == count, f"{after - before:,} records of {count:,} trades"
    return Soak(samples, took)


def _stall(broker: Broker, stall_s: float) -> None:
    os.kill(broker.child.pid, signal.SIGSTOP)
    try:
        time.sleep(stall_s)
    finally:
        os.kill(broker.child.pid, signal.SIGCONT)
