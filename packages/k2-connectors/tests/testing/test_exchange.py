"""ReplayExchange: a real server that speaks as the venues do."""

import asyncio
import json
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from k2_connectors import LedgerConflictError, Venue, open_venue
from k2_connectors.testing import Emission, Ledger, MarketModel, ReplayExchange, play_model

DEADLINE_S = 15.0
PAIRS = {"binance": ["BTCUSDT", "ETHUSDT"], "kraken": ["BTC/USD", "ETH/USD"]}
SYMBOLS = {"binance": ["BTC/USDT", "ETH/USDT"], "kraken": ["BTC/USD", "ETH/USD"]}
EMISSIONS = play_model(MarketModel(seed=9, epoch_us=1_790_000_000_000_000), 300)


def converse(
    folder: Path, path: str, talk: Callable[[ClientConnection], Awaitable[Any]]
) -> tuple[Any, Ledger]:
    """Talk to an exchange that plays EMISSIONS; return what the talk returned, and the ledger."""
    ledger = Ledger(folder / "ledger.db")

    async def play() -> Any:
        exchange = ReplayExchange(EMISSIONS, PAIRS, ledger)
        async with (
            asyncio.timeout(DEADLINE_S),
            exchange.serve(0) as port,
            connect(f"ws://127.0.0.1:{port}{path}", proxy=None) as socket,
        ):
            return await talk(socket)

    return asyncio.run(play()), ledger


def subscriptions(venue: Venue) -> Sequence[str]:
    """Return the frames that subscribe all that a venue has."""
    return venue.subscribe_frames([instrument.pair for instrument in venue.instruments])


async def subscribe_and_read(socket: ClientConnection, venue: str) -> list[bytes]:
    """Subscribe as the client does, and read as many frames as the exchange has to play."""
    for text in subscriptions(open_venue(venue, SYMBOLS[venue])):
        await socket.send(text)
    wanted, played = {e.frame for e in EMISSIONS[venue]}, []
    while len(played) < len(EMISSIONS[venue]):
        frame = await socket.recv(decode=False)
        if frame in wanted:
            played.append(frame)
    return played


@pytest.mark.parametrize("venue", PAIRS)
def test_a_subscriber_is_played_every_frame_in_order(venue: str, tmp_path: Path):
    """The frames are those of the plan, and the ledger holds all of their trades."""
    played, ledger = converse(
        tmp_path, f"/{venue}/stream", lambda socket: subscribe_and_read(socket, venue)
    )
    with ledger:
        in_ledger = {trade for trade, _ in ledger.trades()}

    assert played == [e.frame for e in EMISSIONS[venue]]
    assert in_ledger == {trade for e in EMISSIONS[venue] for trade in e.trades}


def test_a_client_that_comes_back_is_played_everything_again(tmp_path: Path):
    """A trade may come twice, never less; the ledger does not change."""

    async def play(ledger: Ledger) -> list[list[bytes]]:
        exchange = ReplayExchange(EMISSIONS, PAIRS, ledger)
        rounds = []
        async with asyncio.timeout(DEADLINE_S), exchange.serve(0) as port:
            for _ in range(2):
                async with connect(f"ws://127.0.0.1:{port}/kraken/v2", proxy=None) as socket:
                    rounds.append(await subscribe_and_read(socket, "kraken"))
        return rounds

    with Ledger(tmp_path / "ledger.db") as ledger:
        first, second = asyncio.run(play(ledger))
        count = ledger.count_trades()

    assert first == second == [e.frame for e in EMISSIONS["kraken"]]
    assert count == len({trade for e in EMISSIONS["kraken"] for trade in e.trades})


def test_nothing_is_played_before_a_subscription(tmp_path: Path):
    """Only the greeting comes unasked, and the ledger stays empty."""

    async def ping(socket: ClientConnection) -> object:
        greeting = await socket.recv()
        await socket.send('{"method":"ping"}')
        await (await socket.ping())
        return json.loads(greeting)["channel"]

    greeting, ledger = converse(tmp_path, "/kraken/v2", ping)
    with ledger:
        assert (greeting, ledger.count_trades()) == ("status", 0)


def test_an_unlisted_pair_is_refused_and_not_played(tmp_path: Path):
    """Kraken answers each symbol by itself."""

    async def subscribe(socket: ClientConnection) -> list[tuple[str, bool]]:
        await socket.recv()
        params = {"channel": "trade", "symbol": ["BTC/USD", "XYZ/USD"]}
        await socket.send(json.dumps({"method": "subscribe", "params": params}))
        replies = [json.loads(await socket.recv()) for _ in range(2)]
        await (await socket.ping())
        return [(r.get("symbol") or r["result"]["symbol"], r["success"]) for r in replies]

    replies, ledger = converse(tmp_path, "/kraken/v2", subscribe)
    with ledger:
        assert replies == [("BTC/USD", True), ("XYZ/USD", False)]
        assert ledger.count_trades() == 0


@pytest.mark.parametrize("message", ["not JSON", "[]", "null", "7", b"\xff"])
def test_a_request_that_is_no_json_object_ends_the_connection(message: str | bytes, tmp_path: Path):
    """The client learns why."""

    async def send(socket: ClientConnection) -> None:
        await socket.send(message)
        while True:
            await socket.recv()

    with pytest.raises(ConnectionClosedError, match="not a JSON object"):
        converse(tmp_path, "/binance/stream", send)


def test_an_unknown_venue_is_refused_with_the_known_ones(tmp_path: Path):
    """The path's first part is the venue."""
    with pytest.raises(ConnectionClosedError, match="'okx' here; known: binance, coinbase, kraken"):
        converse(tmp_path, "/okx/v5", lambda socket: socket.recv())


def test_status_counts_the_records_that_the_frames_make(tmp_path: Path):
    """A record per trade, one dead letter for what is left of a frame."""
    planned = sum(
        len(e.trades) + len(e.bad_trades) + bool(e.bad_frame)
        for emissions in EMISSIONS.values()
        for e in emissions
    )

    plan = {"planned_records": planned, "planned_frames": sum(map(len, EMISSIONS.values()))}

    def read_status(port: int) -> object:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status") as response:
            return json.load(response)

    async def play(ledger: Ledger) -> list[object]:
        exchange = ReplayExchange(EMISSIONS, PAIRS, ledger)
        async with asyncio.timeout(DEADLINE_S), exchange.serve(0) as port:
            found = [await asyncio.to_thread(read_status, port)]
            for venue in PAIRS:
                async with connect(f"ws://127.0.0.1:{port}/{venue}", proxy=None) as socket:
                    await subscribe_and_read(socket, venue)
            found.append(await asyncio.to_thread(read_status, port))
        return found

    with Ledger(tmp_path / "ledger.db") as ledger:
        assert asyncio.run(play(ledger)) == [
            {"sent_records": 0, "emitted_frames": 0} | plan,
            {"sent_records": planned, "emitted_frames": plan["planned_frames"]} | plan,
        ]


def test_frames_that_contradict_the_ledger_end_the_exchange(tmp_path: Path):
    """A lie is never sent: the process ends with the reason instead of falling silent."""
    trade = EMISSIONS["binance"][0].trades[0]
    contradicting = {"binance": [Emission(b"{}", trades=[trade._replace(price="1")])]}

    async def play(ledger: Ledger) -> None:
        async with (
            asyncio.timeout(DEADLINE_S),
            ReplayExchange(contradicting, PAIRS, ledger).serve(0) as port,
            connect(f"ws://127.0.0.1:{port}/binance", proxy=None) as socket,
        ):
            await socket.send(subscriptions(open_venue("binance", ["BTC/USDT"]))[0])
            await asyncio.Event().wait()

    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.write([Emission(b"", trades=[trade])], 1)
        with pytest.raises(LedgerConflictError):
            asyncio.run(play(ledger))
        assert [sent for sent, _ in ledger.trades()] == [trade]
