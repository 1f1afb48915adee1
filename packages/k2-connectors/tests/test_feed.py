"""Feed: over real sockets, what is published is what the ledger says was sent."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from k2_connectors import (
    CheckpointError,
    CheckpointFile,
    Feed,
    Position,
    PublishError,
    SubscriptionRejectedError,
    WebSocketTransport,
    open_venue,
)
from k2_connectors.testing import (
    Emission,
    Ledger,
    MarketModel,
    MemoryPublisher,
    ReplayExchange,
    SentTrade,
    play_model,
)
from k2_connectors.testing.dialects import DIALECTS
from k2_schemas import FieldError, Trade

DEADLINE_S = 20.0
SYMBOLS = {"binance": ["BTC/USDT", "ETH/USDT"], "kraken": ["BTC/USD", "ETH/USD"]}
PAIRS = {"binance": ["BTCUSDT", "ETHUSDT"], "kraken": ["BTC/USD", "ETH/USD"]}

every_venue = pytest.mark.parametrize("name", SYMBOLS)


async def until(reached: Callable[[], bool]) -> None:
    """Poll until something is so; fail at the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not reached():
            await asyncio.sleep(0.005)


async def run_until(feed: Feed, reached: Callable[[], bool]) -> None:
    """Run a feed until something is so, then stop it and let it drain."""
    stop = asyncio.Event()
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        running = group.create_task(feed.run(stop))
        await until(lambda: running.done() or reached())
        stop.set()


@asynccontextmanager
async def serve_frames(
    converse: Callable[[ServerConnection], Awaitable[None]],
) -> AsyncIterator[str]:
    """A bare server whose every move the test decides; yields its URL."""
    async with serve(converse, "127.0.0.1", 0, compression=None) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


def open_feed(name: str, publisher: MemoryPublisher, url: str, *symbols: str) -> Feed:
    """A feed of a venue that lives at `url`."""
    # The replay exchange repeats itself and leaves ids out on purpose.
    return Feed([open_venue(name, symbols or SYMBOLS[name], url)], publisher, contiguity=False)


def make_frames(name: str, count: int) -> list[Emission]:
    """The model's frames of one venue, faults and duplicates among them."""
    return play_model(MarketModel(seed=5, epoch_us=1_790_000_000_000_000), count)[name]


def to_sent(trade: Trade) -> tuple[object, ...]:
    """A published trade in the ledger's terms, numbers as Decimals."""
    return (
        *(trade.exchange, trade.pair, trade.trade_id, trade.symbol),
        *(trade.price, trade.quantity, trade.side, trade.timestamp_us),
    )


def to_values(sent: SentTrade) -> tuple[object, ...]:
    """A ledger trade with its texts as Decimals."""
    return (*sent[:4], Decimal(sent.price), Decimal(sent.quantity), sent.side, sent.timestamp_us)


@every_venue
def test_what_is_published_is_what_the_ledger_holds(name: str, tmp_path: Path):
    """Every trade with its digits, every bad frame byte for byte, each as often as it was sent."""
    emissions = make_frames(name, 1500)
    publisher = MemoryPublisher()
    bad = Counter(e.frame for e in emissions if e.bad_frame)
    trades = Counter(
        to_values(t) for e in emissions for t in [*e.trades, *(b for b, _ in e.bad_trades)]
    )

    async def play(ledger: Ledger) -> None:
        exchange = ReplayExchange({name: emissions}, PAIRS, ledger)
        async with exchange.serve(0) as port:
            feed = open_feed(name, publisher, f"ws://127.0.0.1:{port}/{name}")
            await run_until(
                feed,
                lambda: (
                    len(publisher.trades) + len(publisher.dead_letters)
                    >= trades.total() + bad.total()
                ),
            )

    with Ledger(tmp_path / "ledger.db") as ledger:
        asyncio.run(play(ledger))
        in_ledger = {to_values(t) for t, _ in ledger.trades()}
        bad_in_ledger = {to_values(t) for t, _ in ledger.bad_trades()}
        frames_in_ledger = {raw for raw, _ in ledger.bad_records()}
    published = Counter(map(to_sent, publisher.trades))

    assert set(published) == in_ledger | bad_in_ledger
    assert published == trades
    assert {frame for frame, *_ in publisher.dead_letters} == frames_in_ledger
    assert Counter(frame for frame, *_ in publisher.dead_letters) == bad
    assert {venue for _, venue, *_ in publisher.dead_letters} == {name}
    assert [reason for *_, reason, _ in publisher.dead_letters if not reason] == []


@every_venue
def test_statistics_are_of_what_was_published(name: str, tmp_path: Path):
    """Frames, trades, dead letters and control frames add up."""
    emissions = make_frames(name, 300)
    publisher = MemoryPublisher()
    planned = sum(len(e.trades) + len(e.bad_trades) + bool(e.bad_frame) for e in emissions)

    async def play(ledger: Ledger) -> Feed:
        async with ReplayExchange({name: emissions}, PAIRS, ledger).serve(0) as port:
            feed = open_feed(name, publisher, f"ws://127.0.0.1:{port}/{name}")
            await run_until(
                feed, lambda: len(publisher.trades) + len(publisher.dead_letters) >= planned
            )
        return feed

    with Ledger(tmp_path / "ledger.db") as ledger:
        stats = asyncio.run(play(ledger)).stats()[name]
    assert (stats.trades, stats.dead_letters) == (
        len(publisher.trades),
        len(publisher.dead_letters),
    )
    assert stats.frames == len(emissions) + sum(stats.control.values())
    assert stats.control["acknowledgement"] == {"binance": 1, "kraken": 2}[name]
    assert stats.reconnects == 0


def test_stopping_publishes_what_had_arrived_and_flushes():
    """All frames wait in the socket's queue when the feed is told to stop: none is lost."""
    frames = [e.frame.decode() for e in make_frames("binance", 400) if not e.bad_frame]
    expected = [
        to_sent(t)
        for frame in frames
        for t in open_venue("binance", SYMBOLS["binance"]).decode(frame.encode(), 0).trades
    ]
    publisher = MemoryPublisher()

    async def play() -> None:
        sent_all, stop = asyncio.Event(), asyncio.Event()

        async def converse(socket: ServerConnection) -> None:
            await socket.recv()
            for frame in frames:
                await socket.send(frame)
            # The answer to a ping comes behind every frame, so all of them are in the queue.
            await (await socket.ping())
            sent_all.set()
            await socket.wait_closed()

        class Gate(WebSocketTransport):
            """Holds the reader back until everything has arrived and the feed was stopped."""

            @asynccontextmanager
            async def connect(self, url: str):
                async with super().connect(url) as connection:
                    receive = connection.receive

                    async def receive_late() -> bytes:
                        await sent_all.wait()
                        stop.set()
                        return await receive()

                    connection.receive = receive_late  # type: ignore[method-assign]
                    yield connection

        async with asyncio.timeout(DEADLINE_S), serve_frames(converse) as url:
            venue = open_venue("binance", SYMBOLS["binance"], url)
            await Feed([venue], publisher, contiguity=False, transport=Gate()).run(stop)

    asyncio.run(play())
    assert list(map(to_sent, publisher.trades)) == expected
    assert publisher.flushes == 1


def test_a_dropped_connection_is_taken_up_again():
    """The server cuts the socket in the middle; after reconnecting everything has arrived."""
    frames = [e.frame.decode() for e in make_frames("binance", 60) if not e.bad_frame]
    halves: list[Sequence[str]] = [frames[:25], frames[25:]]
    publisher = MemoryPublisher()
    expected = [
        to_sent(t)
        for frame in frames
        for t in open_venue("binance", SYMBOLS["binance"]).decode(frame.encode(), 0).trades
    ]

    async def play() -> Feed:
        async def converse(socket: ServerConnection) -> None:
            await socket.recv()
            for frame in halves.pop(0):
                await socket.send(frame)
            if halves:
                # Wait for the pong so that what was sent has arrived, then cut without a goodbye.
                await (await socket.ping())
                socket.transport.abort()
            await socket.wait_closed()

        async with serve_frames(converse) as url:
            feed = open_feed("binance", publisher, url)
            await run_until(feed, lambda: len(publisher.trades) >= len(expected))
        return feed

    feed = asyncio.run(play())
    assert list(map(to_sent, publisher.trades)) == expected
    assert feed.stats()["binance"].reconnects == 1


def test_an_exchange_that_is_away_is_waited_for():
    """The feed starts before the exchange and connects once it is there."""
    publisher = MemoryPublisher()
    frame = next(e.frame for e in make_frames("binance", 5)).decode()

    async def converse(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(frame)
        await socket.wait_closed()

    async def play() -> Feed:
        async with serve(converse, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
        feed = open_feed("binance", publisher, f"ws://127.0.0.1:{port}")
        stop = asyncio.Event()
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            group.create_task(feed.run(stop))
            await until(lambda: feed.stats()["binance"].reconnects >= 1)
            async with serve(converse, "127.0.0.1", port):
                await until(lambda: bool(publisher.trades))
                stop.set()
        return feed

    feed = asyncio.run(play())
    assert [t.trade_id for t in publisher.trades] == [
        t.trade_id for t in make_frames("binance", 5)[0].trades
    ]
    assert feed.stats()["binance"].reconnects >= 1


def test_stopping_while_waiting_to_reconnect_ends_at_once():
    """SIGTERM during an outage does not wait for the next attempt."""
    publisher = MemoryPublisher()

    async def play() -> None:
        async with serve(lambda _: asyncio.sleep(0), "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
        feed = open_feed("binance", publisher, f"ws://127.0.0.1:{port}")
        await run_until(feed, lambda: feed.stats()["binance"].reconnects >= 1)

    asyncio.run(play())
    assert (publisher.trades, publisher.flushes) == ([], 1)


class FullPublisher(MemoryPublisher):
    """A broker that takes three records and then fails."""

    def publish(self, trades: Sequence[Trade]) -> int:
        """Take three trades."""
        if len(self.trades) == 3:
            raise PublishError("market.crypto.trades.binance", "broker is gone")
        return super().publish(trades[:1])


def test_a_publisher_that_fails_ends_the_feed(tmp_path: Path):
    """Reconnecting to the exchange cannot cure Kafka; what was taken stays as it was."""
    emissions = make_frames("binance", 4000)
    publisher = FullPublisher()

    async def play(ledger: Ledger) -> None:
        async with ReplayExchange({"binance": emissions}, PAIRS, ledger).serve(0) as port:
            feed = open_feed("binance", publisher, f"ws://127.0.0.1:{port}/binance")
            # Well before the ten seconds that a closing handshake behind unread frames would take.
            async with asyncio.timeout(5):
                await feed.run(asyncio.Event())

    with Ledger(tmp_path / "ledger.db") as ledger, pytest.raises(PublishError, match="is gone"):
        asyncio.run(play(ledger))
    sent = [to_values(t) for e in emissions for t in e.trades][:3]
    assert list(map(to_sent, publisher.trades)) == sent


def test_a_refused_subscription_ends_the_feed_and_flushes(tmp_path: Path):
    """An exchange that refuses a symbol would send nothing: that is an error, not silence."""
    publisher = MemoryPublisher()

    async def play(ledger: Ledger) -> None:
        exchange = ReplayExchange({"kraken": make_frames("kraken", 100)}, PAIRS, ledger)
        async with exchange.serve(0) as port, asyncio.timeout(DEADLINE_S):
            url = f"ws://127.0.0.1:{port}/kraken"
            await open_feed("kraken", publisher, url, "XRP/USD").run(asyncio.Event())

    with (
        Ledger(tmp_path / "ledger.db") as ledger,
        pytest.raises(SubscriptionRejectedError, match="not supported XRP/USD"),
    ):
        asyncio.run(play(ledger))
    assert publisher.flushes == 1


class BrokenCheckpoint(CheckpointFile):
    """A file on a disk that is full."""

    def write(self, positions: Mapping[str, Mapping[str, Position]]) -> None:
        """Fail."""
        raise CheckpointError(self.path, "No space left on device")


class CountingPublisher(MemoryPublisher):
    """Acknowledges when it is served."""

    def publish(self, trades: Sequence[Trade]) -> int:
        """Keep trades; they are acknowledged later."""
        acknowledge, self.on_acknowledged = self.on_acknowledged, None
        taken = super().publish(trades)
        self.on_acknowledged = acknowledge
        return taken

    def serve(self) -> None:
        """Acknowledge all."""
        if self.on_acknowledged is not None and self.trades:
            self.on_acknowledged(self.trades)


def test_positions_that_cannot_be_kept_end_the_feed(tmp_path: Path):
    """Also when it is the task beside the trades that finds out: nothing goes on in silence."""
    trades = [e for e in make_frames("binance", 20) if e.trades][:1]
    publisher = CountingPublisher()
    file = BrokenCheckpoint(tmp_path / "positions.json")

    async def play(ledger: Ledger) -> None:
        async with ReplayExchange({"binance": trades}, PAIRS, ledger).serve(0) as port:
            venue = open_venue("binance", SYMBOLS["binance"], f"ws://127.0.0.1:{port}/binance")
            feed = Feed([venue], publisher, checkpoint=file, positions={}, backfill=False)
            feed._marks.begin = lambda trades: False  # type: ignore[method-assign]
            async with asyncio.timeout(DEADLINE_S):
                await feed.run(asyncio.Event())

    with Ledger(tmp_path / "ledger.db") as ledger, pytest.raises(CheckpointError, match="No space"):
        asyncio.run(play(ledger))
    assert publisher.flushes == 1


class StuckPublisher(MemoryPublisher):
    """A broker that has been away for so long that the queue is full."""

    def publish(self, trades: Sequence[Trade]) -> int:
        """Take the first trades alone."""
        return super().publish(trades) if len(self.trades) < 5 else 0

    def flush(self, timeout_s: float | None = None) -> None:
        """Say what was not acknowledged."""
        super().flush(timeout_s)
        raise PublishError("every topic", f"nothing within {timeout_s:g} s")


def test_stopping_while_kafka_is_away_ends_in_time(tmp_path: Path):
    """With what it has not taken as the error, and positions as far as it has."""
    publisher = StuckPublisher()
    file = CheckpointFile(tmp_path / "positions.json")

    async def play(ledger: Ledger) -> float:
        frames = {"binance": make_frames("binance", 2000)}
        async with ReplayExchange(frames, PAIRS, ledger).serve(0) as port:
            venue = open_venue("binance", SYMBOLS["binance"], f"ws://127.0.0.1:{port}/binance")
            limits = {"drain_s": 0.3, "flush_s": 0.2}
            feed = Feed([venue], publisher, checkpoint=file, backfill=False, **limits)
            stop = asyncio.Event()
            running = asyncio.create_task(feed.run(stop))
            await until(lambda: feed.stats()["binance"].memory_bytes > 100_000)
            stop.set()
            began = time.monotonic()
            with pytest.raises(PublishError, match=r"nothing within 0\.2 s"):
                await running
            return time.monotonic() - began

    with Ledger(tmp_path / "ledger.db") as ledger:
        assert asyncio.run(play(ledger)) < 3
    assert publisher.flushes == 1
    assert file.read()


class ChoosyPublisher(MemoryPublisher):
    """Has no bytes for one trade: a venue of somebody else's made it."""

    refused: str | None = None

    def publish(self, trades: Sequence[Trade]) -> int:
        """Refuse the third trade."""
        if len(self.trades) == 2 and self.refused is None:
            self.refused = trades[0].trade_id
            raise FieldError("vendor_data", "?", "not text")
        return super().publish(trades[:1])


def test_a_trade_without_bytes_does_not_hold_up_the_positions(tmp_path: Path):
    """It is safe as a dead letter: the next start need not ask for it, nor for all after it."""
    frames = [e for e in make_frames("binance", 200) if len(e.trades) == 1][:30]
    rows = [
        e.trades[0]._replace(pair="BTCUSDT", symbol="BTC/USDT", trade_id=str(100 + n))
        for n, e in enumerate(frames)
    ]
    texts = [DIALECTS["binance"].render([row]) for row in rows]
    publisher = ChoosyPublisher()
    file = CheckpointFile(tmp_path / "positions.json")

    async def converse(socket: ServerConnection) -> None:
        request = json.loads(await socket.recv())
        await socket.send(json.dumps({"result": None, "id": request["id"]}))
        for text in texts:
            await socket.send(text)
        await socket.wait_closed()

    async def play() -> None:
        async with serve_frames(converse) as url:
            venue = open_venue("binance", ["BTC/USDT"], url)
            feed = Feed([venue], publisher, checkpoint=file, backfill=False)
            await run_until(feed, lambda: len(publisher.trades) == len(texts) - 1)

    asyncio.run(play())
    positions = file.read()
    assert positions is not None
    assert len(publisher.dead_letters) == 1
    assert positions["binance"]["BTCUSDT"].trade_id == 100 + len(texts) - 1


@every_venue
def test_a_trade_that_has_no_bytes_is_a_dead_letter(name: str):
    """A trade id beyond 64 bits decodes but cannot be encoded: one frame, not the feed, is lost."""
    good = next(e.trades[0] for e in make_frames(name, 20) if e.trades)
    beyond = good._replace(trade_id=str(2**63))
    frames = [DIALECTS[name].render([trade]) for trade in (beyond, good)]
    publisher = MemoryPublisher()

    async def converse(socket: ServerConnection) -> None:
        await socket.recv()
        for frame in frames:
            await socket.send(frame)
        await socket.wait_closed()

    async def play() -> None:
        async with serve_frames(converse) as url:
            feed = open_feed(name, publisher, url)
            await run_until(feed, lambda: bool(publisher.trades))

    asyncio.run(play())
    assert [to_sent(t) for t in publisher.trades] == [to_values(good)]
    assert [frame for frame, *_ in publisher.dead_letters] == [frames[0].encode()]
