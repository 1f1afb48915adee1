"""Rig of the matrix: one broker for all cases; a home, a topic and driver processes for each."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from platformdirs import user_cache_path

from k2_cli.broker import Broker, kafka_jars
from k2_medallion import CatalogError, LakeHome, LakeReader, QueryError
from k2_medallion.jvm import fetch_jars, find_java
from k2_medallion.spark import SHORT_RUN_OPTIONS
from k2_schemas.topics import DEADLETTER_TOPIC, trades_topic

from .driver import ORDER
from .ledger import MatrixLedger

_TIMEOUT_S = 240.0
_ROOT = Path(__file__).parents[2]


class Rig:
    """A broker in a folder that is removed afterwards."""

    def __init__(self, port: int = 39_092) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="k2-matrix-"))
        cache = user_cache_path("k2")
        self.java = find_java(cache, os.environ)
        self.drivers: list[subprocess.Popen[bytes]] = []
        self.broker = Broker(self.folder, port, self.java, fetch_jars(kafka_jars(), cache))

    def __enter__(self) -> Self:
        self.broker.start()
        self.broker.wait()
        self.make_topic(DEADLETTER_TOPIC)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for driver in self.drivers:
            kill_group(driver)
        self.broker.child.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def make_topic(self, topic: str) -> None:
        """Create a topic of two partitions."""
        admin = AdminClient({"bootstrap.servers": self.broker.address})
        for future in admin.create_topics([NewTopic(topic, 2, 1)]).values():
            future.result()

    def produce(self, ledger: MatrixLedger, start: int = 0, end: int | None = None) -> None:
        """Produce a part of a ledger's records and wait until Kafka has them."""
        # In one request: a driver that waits for them then sees all or none.
        settings = {"enable.idempotence": True, "linger.ms": 100}
        producer = Producer({"bootstrap.servers": self.broker.address, **settings})
        for key, value in ledger.records[start:end]:
            producer.produce(trades_topic(ledger.exchange), value, key)
        assert producer.flush(30) == 0


class Lake:
    """One case's lake: a home, its settings, and the drivers that run on it."""

    def __init__(self, rig: Rig, exchange: str, topology: str = "fused") -> None:
        self.home = LakeHome(rig.folder / exchange)
        self.home.path.mkdir()
        self.exchange = exchange
        self.config = self.home.path / "lake.toml"
        self.log = self.home.path / "driver.log"
        self._reader: LakeReader | None = None
        self._rig = rig
        self.config.write_text(
            f'[kafka]\nbootstrap_servers = "{rig.broker.address}"\n'
            f'[[exchanges]]\nname = "{exchange}"\n'
            f'[lake]\nhome = "{self.home.path}"\ntopology = "{topology}"\ntrigger_s = 0.1\n'
            f"monitor = false\njava_options = {json.dumps(SHORT_RUN_OPTIONS)}\n"
        )

    def start(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a driver."""
        command = [sys.executable, "-m", "tests.matrix.driver", str(self.config), *options]
        inherited = {**os.environ, "JAVA_HOME": str(self._rig.java.home), **environment}
        with self.log.open("ab") as log:
            driver = subprocess.Popen(
                command, cwd=_ROOT, env=inherited, stdout=log, stderr=log, start_new_session=True
            )
        self._rig.drivers.append(driver)
        return driver

    def order(self, step: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Tell the driver to end, or to stop, at the second time of a step from now on."""
        path = self.home.path / "order.new"
        path.write_text(json.dumps([step, number]), encoding="utf-8")
        path.rename(path.with_name(ORDER))

    def cancel_order(self) -> None:
        """Let later drivers live."""
        (self.home.path / ORDER).unlink()

    def wait_for_death(self, driver: subprocess.Popen[bytes]) -> None:
        """Return once a driver has been killed by itself; end what it left behind."""
        try:
            code = driver.wait(_TIMEOUT_S)
        finally:
            kill_group(driver)
        self.cancel_order()
        assert code == -signal.SIGKILL, f"the driver ended with {code}: {self.tail()}"

    def wait_until_done(
        self, driver: subprocess.Popen[bytes], ledger: MatrixLedger, *, may_end: bool = False
    ) -> None:
        """Return once Bronze holds every record and nothing is left to promote."""
        deadline = time.monotonic() + _TIMEOUT_S
        while not self._is_done(len(ledger.records)):
            if driver.poll() is not None:
                if may_end:
                    return
                raise AssertionError(f"the driver ended with {driver.returncode}: {self.tail()}")
            assert time.monotonic() < deadline, f"not done in time: {self.tail()}"
            time.sleep(0.3)

    def stop(self, driver: subprocess.Popen[bytes]) -> None:
        """End a driver in order, once it listens: before, a signal kills it as it kills anybody."""
        deadline = time.monotonic() + _TIMEOUT_S
        while driver.poll() is None and not _catches(driver.pid, signal.SIGTERM):
            assert time.monotonic() < deadline, "it never listened for signals"
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            driver.terminate()
        try:
            code = driver.wait(60)
        finally:
            kill_group(driver)
        assert code == 0, f"the driver ended with {code}: {self.tail()}"

    def count_bronze(self) -> int:
        """Count the rows of Bronze; 0 while there is none."""
        return int(self._ask(f"SELECT count(*) FROM {self.tables['bronze']}") or 0)

    @property
    def tables(self) -> Mapping[str, str]:
        """The layers' tables."""
        return {
            "bronze": f"bronze_{self.exchange}_trades",
            "silver": f"silver_{self.exchange}_trades",
            "dlq": "silver_dlq_trades",
            "gold": "gold_crypto_trades",
        }

    def tail(self) -> str:
        """Return the end of the drivers' log."""
        return self.log.read_text(errors="replace")[-2500:]

    def find_differences(self, ledger: MatrixLedger) -> list[str]:
        """Compare Gold, dead letters and Bronze with the ledger, in content."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        with LakeReader(self.home) as lake:
            return [
                *_compare_gold(lake, ledger),
                *_compare_dead_letters(lake, ledger),
                *_compare_bronze(lake, self.tables["bronze"], ledger),
            ]

    def _is_done(self, records: int) -> bool:
        silver, gold = self.tables["silver"], self.tables["gold"]
        query = (
            f"SELECT (SELECT count(*) FROM {self.tables['bronze']}) = {records}"
            f" AND (SELECT count(*) FROM {silver})"
            f" + (SELECT count(*) FROM {self.tables['dlq']}) = {records}"
            f" AND NOT EXISTS"
            f" (SELECT message_id FROM {silver} EXCEPT SELECT message_id FROM {gold})"
        )
        return bool(self._ask(query))

    def _ask(self, query: str) -> Any:
        """Return a query's only value; None while the tables are not there."""
        try:
            # One reader for all questions: to open it takes from a driver what it starts with.
            if self._reader is None:
                self._reader = LakeReader(self.home)
            return self._reader.sql(query).to_arrow().column(0)[0].as_py()
        except (CatalogError, QueryError):
            return None


@dataclass(slots=True)
class Reader:
    """Somebody who reads Gold all the while."""

    reads: int = 0
    duplicates: int = 0


@contextmanager
def read_all_the_while(lake: Lake) -> Iterator[Reader]:
    """Read Gold again and again in a thread, and note every duplicate that is ever visible."""
    seen, stop = Reader(), threading.Event()

    def read() -> None:
        query = "SELECT count(*) - count(DISTINCT message_id) FROM gold_crypto_trades"
        reader: LakeReader | None = None
        while not stop.wait(0.3):
            with contextlib.suppress(CatalogError, QueryError):
                reader = reader or LakeReader(lake.home)
                seen.duplicates += int(reader.sql(query).to_arrow().column(0)[0].as_py())
                seen.reads += 1
        if reader is not None:
            reader.close()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def judge(lake: Lake, ledger: MatrixLedger, duplicates_seen: int, reads: int) -> list[str]:
    """Return what is wrong with a lake, and with what somebody saw who read it all the while."""
    found = lake.find_differences(ledger)
    if duplicates_seen:
        found.append(f"a reader saw {duplicates_seen} duplicates")
    if not reads:
        found.append("the concurrent reader has read nothing")
    return found


def kill_group(driver: subprocess.Popen[bytes]) -> None:
    """End what is left of a driver's own process group: its JVM outlives kill -9 for a moment."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGKILL)


def _compare_gold(lake: LakeReader, ledger: MatrixLedger) -> Iterator[str]:
    columns = "message_id, trade_id, symbol, price, quantity, side, source_sequence"
    rows = lake.sql(f"SELECT {columns} FROM gold_crypto_trades").to_arrow().to_pylist()
    for message_id, count in Counter(row["message_id"] for row in rows).items():
        if count > 1:
            yield f"Gold holds {message_id} {count} times"
    held = {row.pop("message_id"): row for row in rows}
    for message_id in ledger.trades.keys() - held.keys():
        yield f"Gold lacks trade {ledger.trades[message_id].trade_id}"
    for message_id, row in held.items():
        sent = ledger.trades.get(message_id)
        if sent is None:
            yield f"Gold holds a trade that nobody sent: {row}"
        elif row != _expect(sent):
            yield f"Gold holds {row}, sent was {_expect(sent)}"


def _expect(trade: Any) -> dict[str, object]:
    return {
        "trade_id": trade.trade_id,
        "symbol": trade.symbol,
        "price": Decimal(trade.price),
        "quantity": Decimal(trade.quantity),
        "side": trade.side,
        "source_sequence": trade.source_sequence,
    }


def _compare_dead_letters(lake: LakeReader, ledger: MatrixLedger) -> Iterator[str]:
    rows = lake.sql("SELECT raw_record, error_reason FROM silver_dlq_trades").to_arrow().to_pylist()
    held, sent = Counter(row["raw_record"] for row in rows), Counter(ledger.bad)
    for raw in held.keys() | sent.keys():
        if held[raw] != sent[raw]:
            yield f"dead letter {raw[:16]!r}… {held[raw]} times, sent {sent[raw]} times"
    if not all(row["error_reason"] for row in rows):
        yield "a dead letter has no reason"


def _compare_bronze(lake: LakeReader, table: str, ledger: MatrixLedger) -> Iterator[str]:
    rows = lake.sql(f"SELECT raw_bytes FROM {table}").to_arrow().to_pylist()
    held, sent = (
        Counter(row["raw_bytes"] for row in rows),
        Counter(value for _, value in ledger.records),
    )
    if held != sent:
        yield f"Bronze holds {held.total()} records, {sent.total()} were sent, or others"


def _catches(pid: int, number: signal.Signals) -> bool:
    """Tell whether a process has a handler of its own for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
