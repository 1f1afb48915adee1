"""k2-feed as a process, killed again and again: Kafka has every trade that the exchange emitted."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from platformdirs import user_cache_path

from k2_cli.broker import Broker, kafka_jars
from k2_connectors.testing import Ledger, MarketModel, ReplayExchange, play_model
from k2_connectors.testing.market import LISTINGS
from k2_medallion.jvm import fetch_jars, find_java
from k2_schemas import TradeCodec
from k2_schemas.topics import PARTITIONS, trades_topic

pytestmark = pytest.mark.pipeline

TRADES = 200_000
TRADES_PER_S = 4_000.0
KILLS = 10
DEADLINE_S = 240
PAIRS = {"binance": ["BTCUSDT", "ETHUSDT"]}


class Market(threading.Thread):
    """A live replay exchange in a thread of its own."""

    def __init__(self, folder: Path):
        super().__init__(daemon=True)
        model = MarketModel(7, time.time_ns() // 1000 - 10**9, LISTINGS[:2], (0, 1, 0))
        self.emissions = play_model(model, TRADES, bad_input=False)
        self._path = folder / "ledger.db"
        self._ended = threading.Event()
        self.started = threading.Event()
        self.port = 0
        self.exchange = None

    def run(self):
        """Serve until told to end."""
        asyncio.run(self._serve())

    async def _serve(self):
        with Ledger(self._path) as ledger:
            self.exchange = ReplayExchange(
                self.emissions, PAIRS, ledger, live=True, trades_per_s=TRADES_PER_S
            )
            async with self.exchange.serve(0) as self.port:
                self.started.set()
                while not self._ended.is_set():
                    await asyncio.sleep(0.05)

    def is_over(self):
        """Whether every trade has been emitted."""
        return self.exchange.tapes["binance"].is_over

    def end(self):
        """Stop serving."""
        self._ended.set()
        self.join(30)


@pytest.fixture
def broker(tmp_path, free_port):
    """Start a broker of this test's own."""
    cache = user_cache_path("k2")
    jars = fetch_jars(kafka_jars(), Path(cache))
    broker = Broker(tmp_path / "broker", free_port, find_java(cache, os.environ), jars)
    broker.start()
    broker.wait()
    yield broker
    broker.child.stop()


def write_config(path, broker, market):
    """Write the settings of a feed that keeps its positions."""
    path.write_text(
        f"""
[kafka]
bootstrap_servers = "{broker.address}"

[[exchanges]]
name = "binance"
symbols = ["BTC/USDT", "ETH/USDT"]
url = "ws://127.0.0.1:{market.port}/binance"

[feed]
checkpoint = "{path.parent / "positions.json"}"
"""
    )


def start_feed(config, log):
    """Start k2-feed; it leaves nothing behind but its checkpoint."""
    return subprocess.Popen(
        [sys.executable, "-m", "k2_feed", "--config", str(config)], stderr=log, stdout=log
    )


def read_ids(broker):
    """Return how often each (pair, id) is in Kafka."""
    topic, codec = trades_topic("binance"), TradeCodec()
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "test"})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    held, _ = broker.count_records([topic])[topic]
    found = Counter()
    while found.total() < held:
        for message in consumer.consume(10_000, timeout=10):
            assert message.error() is None
            trade = codec.decode(message.value())
            found[trade.pair, trade.source_sequence] += 1
    consumer.close()
    return found


def test_ten_kills_in_two_hundred_thousand_trades_lose_nothing(broker, tmp_path):
    """Kill -9 in mid-stream, every few seconds; each start goes on where Kafka was safe."""
    market = Market(tmp_path)
    market.start()
    assert market.started.wait(30)
    config = tmp_path / "feed.toml"
    write_config(config, broker, market)
    expected = {(t.pair, int(t.trade_id)) for e in market.emissions["binance"] for t in e.trades}
    with (tmp_path / "feed.log").open("w") as log:
        for _ in range(KILLS):
            feed = start_feed(config, log)
            time.sleep(4.5)
            assert feed.poll() is None, (tmp_path / "feed.log").read_text()[-2000:]
            feed.send_signal(signal.SIGKILL)
            feed.wait()
        feed = start_feed(config, log)
        deadline_s = time.monotonic() + DEADLINE_S
        topic = trades_topic("binance")
        while not market.is_over() or broker.count_records([topic])[topic][1] < len(expected):
            assert time.monotonic() < deadline_s
            assert feed.poll() is None, (tmp_path / "feed.log").read_text()[-2000:]
            time.sleep(0.5)
        time.sleep(20)  # what is still missing is looked for within ten seconds of silence
        feed.terminate()
        assert feed.wait(60) == 0
    found = read_ids(broker)
    market.end()
    first = {pair: min(i for p, i in found if p == pair) for pair in PAIRS["binance"]}

    assert {key for key in expected if key[1] >= first[key[0]]} - set(found) == set()
    assert set(found) <= expected
    assert len(found) > TRADES * 0.95
