"""One reader of `feed_exchange` into Kafka: `python -m benchmarks.feed_client NAME URL BROKER N`.

A process of its own, so that its CPU time and memory are nobody else's. The last line of stdout is
what it took: trades, and CPU and wall seconds from the first connection to the last
acknowledgement. A line `N published` comes every second.
"""

from __future__ import annotations

import asyncio
import io
import json
import resource
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import fastavro
from confluent_kafka import KafkaError, Message, Producer
from websockets.asyncio.client import connect

from k2_connectors import (
    Binance,
    CheckpointFile,
    Feed,
    KafkaPublisher,
    Position,
    TransportName,
    open_transport,
)
from k2_schemas import FileRegistry
from k2_schemas.topics import SUBJECT, trades_topic
from k2_schemas.trade import MESSAGE_ID_NAMESPACE

from .feed_exchange import FIRST_ID, FIRST_MS, PAIR

_PRODUCER = {
    "enable.idempotence": True,
    "acks": "all",
    "compression.type": "lz4",
    "linger.ms": 20,
    "queue.buffering.max.messages": 100_000,
}
"""As `KafkaPublisher` has it: the loop is plain, not its client."""
_STEP_S = 0.05


async def run_feed(name: TransportName, url: str, broker: str, count: int) -> None:
    """Read `count` trades by k2-connectors, with ids checked and a checkpoint, as k2-feed does."""
    before = Position(FIRST_ID - 1, FIRST_MS * 1000 - 1)
    stop = asyncio.Event()
    with tempfile.TemporaryDirectory() as folder:
        feed = Feed(
            [Binance(["BTC/USDT"], url)],
            KafkaPublisher(broker),
            checkpoint=CheckpointFile(Path(folder) / "checkpoint.json"),
            positions={"binance": {PAIR: before}},
            transport=open_transport(name),
        )
        running = asyncio.create_task(feed.run(stop))
        due_s = 0.0
        while not running.done() and not _is_complete(feed, count):
            await asyncio.sleep(_STEP_S)
            if time.monotonic() >= due_s:
                due_s = time.monotonic() + 1
                print(feed.stats()["binance"].trades, "published", flush=True)
        stop.set()
        await running


def _is_complete(feed: Feed, count: int) -> bool:
    """Tell whether `count` trades went on; those let go and fetched again are counted twice."""
    stats = feed.stats()["binance"]
    return stats.trades - stats.backfilled >= count and not feed.pending_bytes


async def run_plain(url: str, broker: str, count: int) -> None:
    """Read `count` trades as one would write it with json, fastavro and confluent-kafka."""
    text = FileRegistry.packaged().latest(SUBJECT).text
    schema = fastavro.parse_schema(json.loads(text), named_schemas={})
    topic, failures = trades_topic("binance"), list[str]()
    producer = Producer({"bootstrap.servers": broker, **_PRODUCER})

    def note(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failures.append(error.str())

    async with connect(f"{url}/stream", compression=None, max_queue=1024) as socket:
        streams = [f"{PAIR.lower()}@trade"]
        await socket.send(json.dumps({"method": "SUBSCRIBE", "params": streams, "id": 1}))
        await socket.recv()
        for number in range(count):
            record = _build_record(json.loads(await socket.recv()), number)
            out = io.BytesIO(b"\0\0\0\0\1")
            out.seek(5)
            fastavro.schemaless_writer(out, schema, record)
            while True:
                try:
                    producer.produce(topic, out.getvalue(), record["symbol"], on_delivery=note)
                    break
                except BufferError:
                    producer.poll(0.01)
            producer.poll(0)
    producer.flush()
    assert not failures, failures[0]


def _build_record(frame: dict[str, dict[str, object]], number: int) -> dict[str, object]:
    data = frame["data"]
    name = f"BINANCE|{data['s']}|{data['t']}"
    return {
        "message_id": uuid.uuid5(MESSAGE_ID_NAMESPACE, name),
        "trade_id": str(data["t"]),
        "symbol": "BTC/USDT",
        "exchange": "BINANCE",
        "asset_class": "crypto",
        "timestamp": datetime.fromtimestamp(int(str(data["T"])) / 1000, UTC),
        "price": Decimal(str(data["p"])),
        "quantity": Decimal(str(data["q"])),
        "currency": "USDT",
        "side": "SELL" if data["m"] else "BUY",
        "trade_conditions": [],
        "source_sequence": data["t"],
        "ingestion_timestamp": datetime.now(UTC),
        "platform_sequence": number,
        "vendor_data": {"pair": data["s"], "event_time": str(data["E"])},
    }


CLIENTS: dict[str, Callable[[str, str, int], Awaitable[None]]] = {
    "picows": partial(run_feed, "picows"),
    "websockets": partial(run_feed, "websockets"),
    "plain": run_plain,
}


def _cpu_s() -> float:
    """CPU seconds of this process, Kafka's threads among them."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _measure(name: str, url: str, broker: str, count: int) -> None:
    cpu_s, wall_s = _cpu_s(), time.monotonic()
    await CLIENTS[name](url, broker, count)
    took = {"cpu_s": _cpu_s() - cpu_s, "wall_s": time.monotonic() - wall_s}
    print(json.dumps({"trades": count, **took}), flush=True)


if __name__ == "__main__":
    asyncio.run(_measure(*sys.argv[1:4], int(sys.argv[4])))  # type: ignore[call-arg]
