"""TradeFeed over real sockets: what an exchange emitted is what comes out, whatever it drops."""

import asyncio
import json
import random
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from k2_connectors import (
    DRAIN_S,
    Binance,
    CheckpointFile,
    DeadLetter,
    Feed,
    Gap,
    Position,
    RestRequest,
    RestResponse,
    SubscriptionRejectedError,
    TradeFeed,
    VenueTwiceError,
)
from k2_connectors.event import ORIGIN
from k2_connectors.testing import MemoryPublisher, SentTrade
from k2_connectors.testing.dialects import DIALECTS
from k2_schemas import Trade

DEADLINE_S = 30.0
FIRST_ID = 1_000


@dataclass
class LiveExchange:
    """Binance that trades on whether or not anybody listens; by its script it drops and cuts."""

    seed: int = 7
    drop: float = 0.0
    cut: float = 0.0
    forget_before: int = 0
    """Ids below this are no longer served over REST."""
    emitted: list[SentTrade] = field(default_factory=list)
    sockets: set[ServerConnection] = field(default_factory=set)
    rest_calls: int = 0
    limited: int = 0
    """So many REST calls are answered with 429 first."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.dialect = DIALECTS["binance"]

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Serve WebSocket and REST on one port; yields the base URL."""
        async with serve(
            self._converse, "127.0.0.1", 0, compression=None, process_request=self._answer_http
        ) as server:
            yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"

    async def trade(self, count: int, pause_s: float = 0.0) -> None:
        """Match trades and send them to whoever listens."""
        for _ in range(count):
            number = FIRST_ID + len(self.emitted)
            sent = SentTrade(
                *("BINANCE", "BTCUSDT", str(number), "BTC/USDT"),
                *(f"{60_000 + number}.10000000", "0.02000000", "BUY"),
                1_790_000_000_000_000 + number * 1000,
            )
            self.emitted.append(sent)
            for socket in list(self.sockets):
                await self._send(socket, self.dialect.render([sent]))
            await asyncio.sleep(pause_s)

    async def trade_over_hole(self, lost: int, sent: int) -> None:
        """Match trades whose frames are dropped, and then some that are sent."""
        self.drop = 1.0
        await self.trade(lost)
        self.drop = 0.0
        await self.trade(sent)

    async def _send(self, socket: ServerConnection, frame: str) -> None:
        dice = self.random.random()
        if dice < self.cut:
            self.sockets.discard(socket)
            socket.transport.abort()
        elif dice >= self.cut + self.drop:
            await socket.send(frame)

    async def _converse(self, socket: ServerConnection) -> None:
        async for message in socket:
            request = json.loads(message)
            await socket.send(json.dumps({"result": None, "id": request["id"]}))
            self.sockets.add(socket)
        await socket.wait_closed()  # Python 3.11's servers do not wait for their sockets
        self.sockets.discard(socket)

    def _answer_http(self, socket: ServerConnection, request: Request) -> Response | None:
        url = urlsplit(request.path)
        if url.path != "/api/v3/historicalTrades":
            return None
        self.rest_calls += 1
        if self.limited:
            self.limited -= 1
            response = socket.respond(HTTPStatus.TOO_MANY_REQUESTS, "slow down")
            response.headers["Retry-After"] = "1"
            return response
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        first = max(int(query["fromId"]), self.forget_before)
        rows = [
            {
                **{"id": int(t.trade_id), "price": t.price, "qty": t.quantity},
                **{"time": t.timestamp_us // 1000, "isBuyerMaker": t.side == "SELL"},
            }
            for t in self.emitted
            if int(t.trade_id) >= first
        ]
        return socket.respond(HTTPStatus.OK, json.dumps(rows[: int(query["limit"])]))


async def until(reached: Callable[[], bool]) -> None:
    """Poll until something is so; fail at the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not reached():
            await asyncio.sleep(0.01)


async def collect(feed: TradeFeed, into: list[object], complete: Callable[[], bool]) -> None:
    """Keep every event until something is so."""
    async with asyncio.timeout(DEADLINE_S):
        async for event in feed:
            into.append(event)
            if complete():
                feed.stop()


def trades_of(events: list[object]) -> dict[int, tuple[str, str]]:
    """The trades among events by id, with their digits; none may come twice."""
    trades = [event for event in events if isinstance(event, Trade)]
    found = {t.source_sequence or 0: (t.price_text, t.quantity_text) for t in trades}
    assert len(found) == len(trades)
    return found


def ledger_of(exchange: LiveExchange, first_id: int = FIRST_ID) -> dict[int, tuple[str, str]]:
    """What the exchange emitted from an id on."""
    return {
        int(t.trade_id): (t.price, t.quantity)
        for t in exchange.emitted
        if int(t.trade_id) >= first_id
    }


@pytest.mark.parametrize(("drop", "cut"), [(0.0, 0.0), (0.1, 0.0), (0.05, 0.01)])
def test_every_trade_arrives_once_and_exact(drop: float, cut: float):
    """Dropped frames and cut sockets are made good over REST, to the last digit."""
    exchange = LiveExchange(drop=drop, cut=cut)
    events: list[object] = []

    def is_complete() -> bool:
        found = trades_of(events)
        return found == ledger_of(exchange, min(found, default=0))

    async def play() -> TradeFeed:
        async with (
            exchange.serve() as url,
            TradeFeed([Binance(["BTC/USDT"], url)]) as feed,
            asyncio.TaskGroup() as tasks,
        ):

            async def trade() -> None:
                await until(lambda: bool(exchange.sockets))
                await exchange.trade(1, 0.4)  # the first one is where the promise begins
                await exchange.trade(400, 0.002)

            tasks.create_task(trade())
            await collect(feed, events, lambda: len(exchange.emitted) == 401 and is_complete())
        return feed

    feed = asyncio.run(play())
    stats = feed.stats()["binance"]
    found = trades_of(events)
    fetched = [e for e in events if isinstance(e, Trade) and ORIGIN in e.vendor_data]

    assert found == ledger_of(exchange, min(found))
    assert [e for e in events if isinstance(e, Gap)] == []
    assert bool(fetched) is (drop > 0)
    assert stats.backfilled == len(fetched)
    assert (stats.reconnects > 0) is (cut > 0)
    for part in (fetched, [e for e in events if isinstance(e, Trade) and e not in fetched]):
        ids = [t.source_sequence for t in part]
        assert ids == sorted(ids)  # type: ignore[type-var]


def test_what_the_venue_has_forgotten_is_a_gap_by_name():
    """No silence: the ids that nobody has any more are told."""
    exchange = LiveExchange(forget_before=FIRST_ID + 8)
    events: list[object] = []

    async def play() -> None:
        await exchange.trade(10)
        positions = {"binance": {"BTCUSDT": Position(FIRST_ID + 3, 0)}}
        async with (
            exchange.serve() as url,
            TradeFeed(
                [Binance(["BTC/USDT"], url)], positions=positions, max_backfill_trades=4
            ) as feed,
            asyncio.TaskGroup() as tasks,
        ):

            async def trade() -> None:
                await until(lambda: bool(exchange.sockets))
                await exchange.trade(1)

            tasks.create_task(trade())
            await collect(feed, events, lambda: len(trades_of(events)) == 3)

    asyncio.run(play())
    gaps = [e for e in events if isinstance(e, Gap)]
    assert [(g.venue, g.pair, g.first_id, g.last_id) for g in gaps] == [
        ("binance", "BTCUSDT", FIRST_ID + 4, FIRST_ID + 5)
    ]
    assert sorted(trades_of(events)) == [FIRST_ID + 8, FIRST_ID + 9, FIRST_ID + 10]


def test_a_rate_limit_is_waited_for():
    """429 with Retry-After: the page comes later, nothing is given up."""
    exchange = LiveExchange(limited=1)
    events: list[object] = []

    async def play() -> None:
        await exchange.trade(5)
        positions = {"binance": {"BTCUSDT": Position(FIRST_ID + 1, 0)}}
        async with (
            exchange.serve() as url,
            TradeFeed([Binance(["BTC/USDT"], url)], positions=positions) as feed,
        ):
            await collect(feed, events, lambda: len(trades_of(events)) == 3)

    asyncio.run(play())
    assert trades_of(events) == ledger_of(exchange, FIRST_ID + 2)
    assert exchange.rest_calls >= 2


def test_nobody_reading_is_a_hole_that_is_filled_later():
    """Memory stays bounded while the consumer sleeps; afterwards everything is there."""
    exchange = LiveExchange()
    events: list[object] = []

    async def play() -> None:
        async with (
            exchange.serve() as url,
            TradeFeed([Binance(["BTC/USDT"], url)], max_pending_bytes=20 * 1024) as feed,
        ):
            await until(lambda: bool(exchange.sockets))
            await exchange.trade(300, 0.001)
            await asyncio.sleep(0.5)
            assert len(feed._pending) <= 25
            await collect(feed, events, lambda: trades_of(events) == ledger_of(exchange))

    asyncio.run(play())
    assert trades_of(events) == ledger_of(exchange)


async def stop_unread(exchange: LiveExchange, **options: Any) -> tuple[list[object], int, int]:
    """Let nobody read 100 trades, of which 30 have room, then stop.

    Returns what comes out, and what is missing before it was stopped and at the end.
    """
    async with (
        exchange.serve() as url,
        TradeFeed([Binance(["BTC/USDT"], url)], max_pending_bytes=30 * 1024, **options) as feed,
    ):
        await until(lambda: bool(exchange.sockets))
        await exchange.trade(100)
        await until(lambda: feed.stats()["binance"].trades == 100)
        before = feed.stats()["binance"].missing
        feed.stop()
        events: list[object] = [event async for event in feed]
        return events, before, feed.stats()["binance"].missing


def test_trades_that_were_let_go_are_missing_until_they_are_fetched():
    """Nobody reads, and then the feed ends: what it let go it does not call complete."""
    exchange = LiveExchange(limited=10**6)
    events, before, missing = asyncio.run(stop_unread(exchange, drain_s=0.3))

    assert before >= 70
    assert len(trades_of(events)) + missing == 100
    assert [event for event in events if isinstance(event, Gap)] == []


def test_without_backfill_trades_that_were_let_go_are_gaps():
    """At the end too: nobody will fetch them."""
    events, _, _ = asyncio.run(stop_unread(LiveExchange(), backfill=False))

    lost = sum(event.count for event in events if isinstance(event, Gap))
    assert lost >= 70
    assert len(trades_of(events)) + lost == 100


def test_dead_letters_are_bounded_by_not_reading():
    """They are as large as frames can be, and nobody could send them again."""
    exchange = LiveExchange()
    events: list[object] = []
    frames = [f'{{"junk":"{number:04}{"x" * 50_000}"}}' for number in range(400)]

    async def send_all() -> None:
        (socket,) = exchange.sockets
        for frame in frames:
            await socket.send(frame)

    async def play() -> None:
        async with (
            exchange.serve() as url,
            TradeFeed([Binance(["BTC/USDT"], url)], max_pending_bytes=1_000_000) as feed,
        ):
            await until(lambda: bool(exchange.sockets))
            sending = asyncio.create_task(send_all())
            await asyncio.sleep(0.5)
            held = feed.pending_bytes
            assert held == feed.stats()["binance"].memory_bytes
            assert 1_000_000 <= held < 6_000_000, "and what was read together with the last"
            await collect(feed, events, lambda: sum(map(is_letter, events)) == len(frames))
            await sending
            assert feed.pending_bytes == 0

    asyncio.run(play())
    assert [e.frame.decode() for e in events if isinstance(e, DeadLetter)] == frames


class DeadRest:
    """A REST whose rows have numbers, and nothing else that a trade needs."""

    pages = 0

    async def get(self, request: RestRequest) -> RestResponse:
        """A full page of rows of a kB from the first id that was asked for."""
        self.pages += 1
        first_id = int(request.cursor)
        rows = [{"id": first_id + n, "junk": "x" * 1000} for n in range(1000)]
        return RestResponse(200, {}, json.dumps(rows).encode())


def test_dead_rows_are_bounded_by_not_asking():
    """What REST has and nobody can read is as large, and comes as fast as it is asked for."""
    exchange, rest = LiveExchange(), DeadRest()

    async def play() -> None:
        async with (
            exchange.serve() as url,
            TradeFeed(
                [Binance(["BTC/USDT"], url)],
                positions={"binance": {"BTCUSDT": Position(0, 1)}},
                max_pending_bytes=5_000_000,
                rest=rest,
            ) as feed,
        ):
            await until(lambda: feed.pending_bytes > 5_000_000)
            await asyncio.sleep(1)
            assert feed.pending_bytes < 10_000_000, "and the page under way"
            pages = rest.pages
            await collect(feed, [], lambda: rest.pages > pages)

    asyncio.run(play())


def is_letter(event: object) -> bool:
    """Whether it is a dead letter."""
    return isinstance(event, DeadLetter)


def test_statistics_can_be_asked_for_from_another_thread():
    """As Prometheus does, above all when much is pending."""
    exchange = LiveExchange()
    failures: list[Exception] = []
    asked = [0]

    def ask(feed: TradeFeed, ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                feed.stats()
                asked[0] += 1
            except RuntimeError as error:
                failures.append(error)

    async def play() -> None:
        ended = threading.Event()
        async with (
            exchange.serve() as url,
            TradeFeed([Binance(["BTC/USDT"], url)]) as feed,
        ):
            asking = threading.Thread(target=ask, args=(feed, ended))
            asking.start()
            await until(lambda: bool(exchange.sockets))
            await exchange.trade(3000)
            await collect(feed, [], lambda: feed.stats()["binance"].trades == 3000)
            ended.set()
            asking.join()

    asyncio.run(play())
    assert failures == []
    assert asked[0] > 100


def test_two_venues_of_one_name_are_refused():
    """The trades of one of them would be nobody's."""
    with pytest.raises(VenueTwiceError, match="binance is there twice"):
        TradeFeed([Binance(["BTC/USDT"]), Binance(["ETH/USDT"])])


def test_without_contiguity_the_sockets_wait_for_a_reader():
    """What could not be fetched again is not let go: memory is bounded by not reading."""
    exchange = LiveExchange()
    events: list[object] = []

    async def play() -> None:
        async with (
            exchange.serve() as url,
            TradeFeed(
                [Binance(["BTC/USDT"], url)], contiguity=False, max_pending_bytes=20 * 1024
            ) as feed,
        ):
            await until(lambda: bool(exchange.sockets))
            await exchange.trade(300)
            await asyncio.sleep(0.5)
            assert 20 <= len(feed._pending) < 150
            await collect(feed, events, lambda: trades_of(events) == ledger_of(exchange))

    asyncio.run(play())
    assert trades_of(events) == ledger_of(exchange)
    assert exchange.rest_calls == 0


def test_a_restart_goes_on_after_the_checkpoint(tmp_path: Path):
    """Stopped, missed fifty trades, started again: the publisher has them all."""
    exchange = LiveExchange()
    file = CheckpointFile(tmp_path / "positions.json")
    publisher = MemoryPublisher()

    async def run_feed(url: str, reached: Callable[[], bool], trades: int) -> None:
        stop = asyncio.Event()
        feed = Feed([Binance(["BTC/USDT"], url)], publisher, checkpoint=file)
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
            tasks.create_task(feed.run(stop))
            await until(lambda: bool(exchange.sockets))
            await exchange.trade(trades)
            await until(reached)
            stop.set()
        await until(lambda: not exchange.sockets)

    async def play() -> None:
        async with exchange.serve() as url:
            await run_feed(url, lambda: len(publisher.trades) >= 50, 50)
            await exchange.trade(50)
            await run_feed(url, lambda: len(publisher.trades) >= 101, 1)

    asyncio.run(play())
    assert trades_of(list(publisher.trades)) == ledger_of(exchange)
    positions = file.read()
    assert positions is not None
    assert positions["binance"]["BTCUSDT"].trade_id == FIRST_ID + 100


async def stop_behind_hole(
    exchange: LiveExchange, *, lost: int, held: int, drain_s: float = DRAIN_S
) -> tuple[list[object], float]:
    """Stop a feed that holds trades behind lost ones; return its events, and the seconds taken."""
    events: list[object] = []
    async with (
        exchange.serve() as url,
        TradeFeed([Binance(["BTC/USDT"], url)], drain_s=drain_s) as feed,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(collect(feed, events, lambda: False))
        await until(lambda: bool(exchange.sockets))
        await exchange.trade(3)
        await until(lambda: len(trades_of(events)) == 3)
        await exchange.trade_over_hole(lost, held)
        await until(lambda: feed.stats()["binance"].held == held)
        feed.stop()
        began = time.monotonic()
    return events, time.monotonic() - began


@pytest.mark.parametrize("limited", [0, 1])
def test_a_feed_that_is_stopped_fetches_what_it_misses_first(limited: int):
    """Told to stop with a hole before its newest trade, it leaves none, 429 or not."""
    exchange = LiveExchange(limited=limited)
    events, _ = asyncio.run(stop_behind_hole(exchange, lost=40, held=2))

    assert trades_of(events) == ledger_of(exchange)


def test_a_feed_that_is_stopped_does_not_wait_for_a_venue_that_is_unwell():
    """What it received goes out within the time to drain; the hole waits for the next start."""
    exchange = LiveExchange(limited=10**6)
    events, seconds = asyncio.run(stop_behind_hole(exchange, lost=1, held=1, drain_s=0.5))
    expected = ledger_of(exchange)
    del expected[FIRST_ID + 3]

    assert trades_of(events) == expected
    assert [e for e in events if isinstance(e, Gap)] == []
    assert seconds < 5


def test_whoever_stops_reading_waits_for_nothing():
    """A reader that leaves the block takes no more events: none are fetched for it."""
    exchange = LiveExchange(limited=10**6)

    async def play() -> float:
        async with exchange.serve() as url, asyncio.timeout(DEADLINE_S):
            async with TradeFeed([Binance(["BTC/USDT"], url)], drain_s=DEADLINE_S) as feed:
                await until(lambda: bool(exchange.sockets))
                await exchange.trade(1)
                await until(lambda: feed.stats()["binance"].trades == 1)
                await exchange.trade_over_hole(1, 1)
                await until(lambda: feed.stats()["binance"].missing == 1)
                began = time.monotonic()
            return time.monotonic() - began

    assert asyncio.run(play()) < 5


def test_a_refused_symbol_ends_the_iteration_with_its_error():
    """Waiting would bring nothing but silence."""

    async def refuse(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"code":2,"msg":"Invalid request: unknown stream"}')
        await socket.wait_closed()

    async def play() -> None:
        async with serve(refuse, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with (
                asyncio.timeout(DEADLINE_S),
                TradeFeed([Binance(["BTC/USDT"], f"ws://127.0.0.1:{port}")]) as feed,
            ):
                async for _ in feed:
                    pass

    with pytest.raises(SubscriptionRejectedError, match="unknown stream"):
        asyncio.run(play())
