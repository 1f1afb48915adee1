"""Symbols that come and go while a feed runs, over real sockets, on every venue."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from k2_connectors import (
    CheckpointFile,
    Feed,
    Gap,
    Status,
    SubscriptionChangeError,
    SubscriptionRejectedError,
    TradeFeed,
    UnknownVenueError,
    open_venue,
)
from k2_connectors.testing import (
    Fault,
    Ledger,
    MarketModel,
    MemoryPublisher,
    ReplayExchange,
    play_model,
)
from k2_connectors.testing.market import EVERY_LISTING, EVERY_PATTERN, exchanges
from k2_schemas import InstrumentList, SchemaError, Trade

DEADLINE_S = 60.0
EMISSIONS = play_model(
    MarketModel(11, 1_790_000_000_000_000, EVERY_LISTING, EVERY_PATTERN), 12_000, bad_input=False
)
SYMBOLS = exchanges(EVERY_LISTING)
PAIRS = {name: [i.pair for i in InstrumentList(name, SYMBOLS[name])] for name in SYMBOLS}

every_venue = pytest.mark.parametrize("name", SYMBOLS)


class Reader:
    """A running feed of one venue's first symbol, and what has come out of it."""

    def __init__(self, name: str, feed: TradeFeed) -> None:
        self.name = name
        self.feed = feed
        self.ids: dict[str, list[int]] = defaultdict(list)
        self.gaps: list[Gap] = []
        self.said: list[Status] = []

    async def read(self) -> None:
        """Keep every event."""
        async for event in self.feed:
            if isinstance(event, Trade):
                self.ids[event.symbol].append(event.source_sequence or 0)
            elif isinstance(event, Gap):
                self.gaps.append(event)
            elif isinstance(event, Status):
                self.said.append(event)

    async def wait_for(self, symbol: str, more: int = 5) -> None:
        """Wait for some more trades of a symbol."""
        before = len(self.ids[symbol])
        while len(self.ids[symbol]) < before + more:
            await asyncio.sleep(0.01)


def read_live(
    name: str,
    folder: Path,
    talk: Callable[[Reader], Awaitable[None]],
    faults: Sequence[Fault] = (),
) -> Reader:
    """Run a feed of a venue's first symbol on a live exchange while `talk` does what it does."""

    async def run(ledger: Ledger) -> Reader:
        exchange = ReplayExchange(
            EMISSIONS, PAIRS, ledger, live=True, trades_per_s=800.0, faults={name: faults}
        )
        async with asyncio.timeout(DEADLINE_S), exchange.serve(0) as port:
            venue = open_venue(name, SYMBOLS[name][:1], f"ws://127.0.0.1:{port}/{name}")
            async with TradeFeed([venue]) as feed:
                reader = Reader(name, feed)
                reading = asyncio.create_task(reader.read())
                await reader.wait_for(SYMBOLS[name][0])
                await talk(reader)
                while feed.stats()[name].missing or feed.stats()[name].held:
                    await asyncio.sleep(0.01)
                feed.stop()
                await reading
        return reader

    with Ledger(folder / "ledger.db") as ledger:
        return asyncio.run(run(ledger))


def find_holes(ids: Sequence[int]) -> set[int]:
    """Return what is missing between the first and the last id; none may come twice."""
    assert len(ids) == len(set(ids))
    return set(range(min(ids), max(ids) + 1)) - set(ids)


def emitted_ids(name: str, symbol: str) -> list[int]:
    """Return what the exchange emits of a symbol."""
    trades = [trade for emission in EMISSIONS[name] for trade in emission.trades]
    return sorted(int(trade.trade_id) for trade in trades if trade.symbol == symbol)


@every_venue
def test_a_symbol_comes_and_goes_while_another_runs(name: str, tmp_path: Path):
    """It begins live, not with the venue's past, and ends without a gap."""
    first, second = SYMBOLS[name]

    async def talk(reader: Reader) -> None:
        await reader.feed.subscribe(name, [second])
        await reader.wait_for(second)
        assert reader.feed.stats()[name].symbols == 2
        await reader.feed.unsubscribe(name, [second])
        await reader.wait_for(first, 200)
        reader.ids["at the end"] = list(reader.ids[second])
        await reader.wait_for(first, 50)

    reader = read_live(name, tmp_path, talk)

    assert reader.ids["at the end"] == reader.ids[second]
    assert (find_holes(reader.ids[first]), find_holes(reader.ids[second])) == (set(), set())
    assert min(reader.ids[second]) > emitted_ids(name, second)[0]
    assert reader.gaps == []
    kinds = [(s.kind, s.detail) for s in reader.said if s.pairs]
    assert kinds == [("subscribed", second), ("unsubscribed", second)]


@every_venue
def test_a_reconnect_brings_the_symbols_that_are_in_force(name: str, tmp_path: Path):
    """The connection is cut after the change; what both symbols lost is fetched."""
    first, second = SYMBOLS[name]

    async def talk(reader: Reader) -> None:
        await reader.feed.subscribe(name, [second])
        await reader.wait_for(second)
        while not reader.feed.stats()[name].reconnects:
            await asyncio.sleep(0.01)
        await reader.wait_for(second, 20)
        await reader.wait_for(first, 20)

    reader = read_live(name, tmp_path, talk, [Fault(1_000, "reset")])

    assert (find_holes(reader.ids[first]), find_holes(reader.ids[second])) == (set(), set())
    assert reader.gaps == []


@every_venue
def test_a_symbol_that_the_exchange_does_not_have_is_refused_by_name(name: str, tmp_path: Path):
    """Binance's socket accepts it, so REST is asked; the feed goes on as before."""
    first, second = SYMBOLS[name]

    async def talk(reader: Reader) -> None:
        with pytest.raises(SubscriptionRejectedError, match=rf"{name} refused .*NOSUCH"):
            await reader.feed.subscribe(name, [second, "NOSUCH/USD"])
        assert reader.feed.stats()[name].symbols == 1
        await reader.wait_for(first, 20)

    reader = read_live(name, tmp_path, talk)

    assert find_holes(reader.ids[first]) == set()
    assert reader.gaps == []
    assert [s.kind for s in reader.said if s.pairs] == ["refused"]


def test_what_cannot_be_changed_is_an_error_that_says_so(tmp_path: Path):
    """Venue, symbol, last symbol, a feed that has stopped."""

    async def talk(reader: Reader) -> None:
        feed = reader.feed
        with pytest.raises(UnknownVenueError, match="choose one of: kraken"):
            await feed.subscribe("binance", ["BTC/USDT"])
        with pytest.raises(SchemaError, match="BTCUSD"):
            await feed.subscribe("kraken", ["BTCUSD"])
        with pytest.raises(SubscriptionChangeError, match="not subscribed"):
            await feed.unsubscribe("kraken", ["ETH/USD"])
        with pytest.raises(SubscriptionChangeError, match="no symbol would be left"):
            await feed.unsubscribe("kraken", ["BTC/USD"])
        await feed.subscribe("kraken", ["BTC/USD"])  # is, already
        feed.stop()
        with pytest.raises(SubscriptionChangeError, match="the feed has stopped"):
            await feed.subscribe("kraken", ["ETH/USD"])

    read_live("kraken", tmp_path, talk)


def test_a_subscription_that_nobody_waits_for_any_more_is_undone():
    """A timeout of the caller's: the symbol is not left half subscribed."""

    async def play() -> None:
        venue = open_venue("kraken", ["BTC/USD"], "ws://127.0.0.1:1")
        async with TradeFeed([venue]) as feed:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(feed.subscribe("kraken", ["ETH/USD"]), 0.2)
            assert feed.stats()["kraken"].symbols == 1

    asyncio.run(play())


def test_the_position_of_a_symbol_that_is_left_is_forgotten(tmp_path: Path):
    """Taken up again it begins live, and a restart does not fetch the time between."""
    file, publisher = CheckpointFile(tmp_path / "positions.json"), MemoryPublisher()
    first, second = SYMBOLS["kraken"]

    def ids_of(symbol: str) -> list[int]:
        return [t.source_sequence or 0 for t in publisher.trades if t.symbol == symbol]

    async def until(reached: Callable[[], bool]) -> None:
        while not reached():
            await asyncio.sleep(0.01)

    async def run(ledger: Ledger) -> None:
        exchange = ReplayExchange(EMISSIONS, PAIRS, ledger, live=True, trades_per_s=800.0)
        async with asyncio.timeout(DEADLINE_S), exchange.serve(0) as port:
            venue = open_venue("kraken", [first, second], f"ws://127.0.0.1:{port}/kraken")
            feed, stop = Feed([venue], publisher, checkpoint=file), asyncio.Event()
            running = asyncio.create_task(feed.run(stop))
            await until(lambda: len(ids_of(second)) > 5 and len(ids_of(first)) > 5)
            await feed.unsubscribe("kraken", [second])
            await until(lambda: second not in (file.read() or {}).get("kraken", {}))
            before, seen = len(ids_of(second)), len(ids_of(first))
            await until(lambda: len(ids_of(first)) > seen + 100)
            await feed.subscribe("kraken", [second])
            await until(lambda: len(ids_of(second)) > before + 5)
            stop.set()
            await running
        (hole,) = _ranges(find_holes(ids_of(second)))
        positions = file.read()
        assert positions is not None
        assert positions["kraken"][second].trade_id == max(ids_of(second)) > hole[1]

    with Ledger(tmp_path / "ledger.db") as ledger:
        asyncio.run(run(ledger))


def _ranges(ids: set[int]) -> list[tuple[int, int]]:
    starts = sorted(i for i in ids if i - 1 not in ids)
    ends = sorted(i for i in ids if i + 1 not in ids)
    return list(zip(starts, ends, strict=True))
