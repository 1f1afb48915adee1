"""Lake rig: a real broker, a warm Spark session and topics of trades, for the lake's benchmarks."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from platformdirs import user_cache_path
from pyspark.sql import SparkSession

from k2_cli.broker import Broker, kafka_jars
from k2_medallion import LakeHome, all_tables, ensure_tables, open_catalog
from k2_medallion.batch_report import BatchReport
from k2_medallion.flow import Flow, Sink
from k2_medallion.jvm import fetch_jars, find_java, spark_jars
from k2_medallion.spark import open_session
from k2_schemas import Trade, TradeCodec
from k2_schemas.testing import make_trade
from k2_schemas.topics import trades_topic

SYMBOLS = tuple(
    f"{base}/USDT"
    for base in ["BTC", "ETH", "BNB", "SOL", "XRP", "DOGE", "ADA", "TRX", "LINK", "AVAX"]
)
TRADES_PER_S = 2_000
"""Event time: how many trades of an exchange one second holds."""

_PORT = 29_092


@dataclass(frozen=True, slots=True)
class Rig:
    """Where everything is."""

    home: LakeHome
    broker: Broker
    spark: SparkSession

    @property
    def kafka(self) -> dict[str, str]:
        """Settings by which Spark finds the broker."""
        return {"bootstrap.servers": self.broker.address}

    def add_exchange(self, name: str, count: int, *, begin_us: int | None = None) -> None:
        """Make an exchange's topic and tables, and produce `count` trades in event order."""
        admin = AdminClient({"bootstrap.servers": self.broker.address})
        admin.create_topics([NewTopic(trades_topic(name), 2, 1)])[trades_topic(name)].result()
        ensure_tables(open_catalog(self.home, create=True), all_tables([name]))
        if begin_us is None:
            begin_us = find_begin_us(count, time.time_ns() // 1000)
        produce_trades(self.broker.address, name, 0, count, begin_us)


@dataclass(slots=True)
class BatchLog:
    """What a flow's batches were, and when each ended (monotonic seconds)."""

    reports: list[BatchReport] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)

    def note(self, report: BatchReport, taken: float) -> None:
        """Take a batch's report; given to a flow as its `on_batch`."""
        self.reports.append(report)
        self.ended.append(time.monotonic())
        self.taken.append(taken)

    @property
    def read(self) -> int:
        """Rows read so far."""
        return sum(report.read for report in self.reports)

    def rate_after_first(self) -> float:
        """Rows a second from the end of the first batch to the end of the last."""
        rows = self.read - self.reports[0].read
        return rows / (self.ended[-1] - self.ended[0])


@contextmanager
def open_rig(driver_memory: str = "2g", settings: Mapping[str, str] | None = None) -> Iterator[Rig]:
    """Start a broker and a Spark session in a folder that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="k2-bench-"))
    cache = user_cache_path("k2")
    java = find_java(cache, os.environ)
    broker = Broker(folder, _PORT, java, fetch_jars(kafka_jars(), cache))
    broker.start()
    home = LakeHome(folder)
    open_catalog(home, create=True).close()
    try:
        broker.wait()
        spark = open_session(
            home,
            java_home=java.home,
            jars=fetch_jars(spark_jars(), cache),
            driver_memory=driver_memory,
            settings=settings,
        )
        yield Rig(home, broker, spark)
        spark.stop()
    finally:
        broker.child.stop()
        shutil.rmtree(folder, ignore_errors=True)


def make_trades(
    exchange: str, first: int, count: int, begin_us: int, per_s: int = TRADES_PER_S
) -> Iterator[Trade]:
    """Yield trades in ascending time, over ten symbols, each with ids that have no holes."""
    step_us = 1_000_000 // per_s
    for number in range(first, first + count):
        trade_id, place = divmod(number, len(SYMBOLS))
        symbol = SYMBOLS[place]
        yield make_trade(
            trade_id,
            exchange=exchange.upper(),
            symbol=symbol,
            pair=symbol.replace("/", ""),
            timestamp_us=begin_us + number * step_us,
        )


def find_begin_us(first: int, first_us: int, per_s: int = TRADES_PER_S) -> int:
    """Return the time of trade 0 (us since 1970) that puts trade `first` at a time."""
    return first_us - first * (1_000_000 // per_s)


def produce_trades(
    address: str,
    exchange: str,
    first: int,
    count: int,
    begin_us: int,
    per_s: int = TRADES_PER_S,
) -> None:
    """Produce trades to an exchange's topic and wait until Kafka has them."""
    codec = TradeCodec()
    producer = Producer(
        {
            "bootstrap.servers": address,
            "enable.idempotence": True,
            "linger.ms": 20,
            "batch.size": 1 << 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 500_000,
        }
    )
    topic = trades_topic(exchange)
    for trade in make_trades(exchange, first, count, begin_us, per_s):
        produce(producer, topic, codec.encode(trade), trade.symbol.encode())
    producer.flush()


def produce(producer: Producer, topic: str, value: bytes, key: bytes) -> None:
    """Produce a record; wait while the broker is slow."""
    while True:
        try:
            producer.produce(topic, value, key)
        except BufferError:
            producer.poll(0.1)
        else:
            return


def run_flow(rig: Rig, sink: Sink, count: int, log: BatchLog, timeout_s: float = 900) -> None:
    """Run a flow until it has read `count` rows."""
    done = threading.Event()

    def note(report: BatchReport, taken: float) -> None:
        log.note(report, taken)
        if log.read >= count:
            done.set()

    flow = Flow(sink, rig.home.checkpoints / sink.flow, rig.kafka, trigger_s=0.01, on_batch=note)
    flow.start(rig.spark)
    wait_for(done.is_set, flow.check, timeout_s)
    flow.stop()


def wait_for(done: Callable[[], bool], check: Callable[[], None], timeout_s: float) -> None:
    """Return once `done`; raise what `check` raises, or `TimeoutError`."""
    deadline = time.monotonic() + timeout_s
    while not done():
        check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"not done after {timeout_s:.0f} s")
        time.sleep(0.02)
