"""k2 exchange: what k2-feed recorded is a live exchange again, as a process of its own."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from k2_cli.__main__ import app
from k2_connectors import Binance, Kraken, TradeFeed
from k2_connectors.recording import FrameRecorder
from k2_connectors.testing import MarketModel, SentTrade, play_model
from k2_schemas import Trade

DEADLINE_S = 60.0
STEP_NS = 5_000_000
NOW_NS = 1_795_000_000_000_000_000
MODEL = MarketModel(seed=5, epoch_us=NOW_NS // 1000 - 86_400_000_000)


def record_market(folder: Path, count: int) -> dict[str, list[SentTrade]]:
    """Write a recording of both venues, side by side; return the trades of each."""
    emissions = play_model(MODEL, count, bad_input=False)
    urls = {"binance": "wss://a.example:9443/stream", "kraken": "wss://b.example/v2"}
    with FrameRecorder(folder, max_file_age_s=0.0) as recorder:
        for name, frames in emissions.items():
            for number, emission in enumerate(frames):
                recorder.record(urls[name], [emission.frame], NOW_NS + number * STEP_NS)
    return {name: [t for e in frames for t in e.trades] for name, frames in emissions.items()}


@contextmanager
def serve(*arguments: object) -> Iterator[int]:
    """Run `k2 exchange …` until the block ends; it must end well when it is asked to."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "k2_cli", "exchange", "--port", str(port)]
    process = subprocess.Popen([*command, *map(str, arguments)], stderr=subprocess.PIPE, text=True)
    try:
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, said) == (0, "")


async def read_trades(venue: Binance | Kraken, count: int) -> list[Trade]:
    """Return the first `count` trades of a venue, ids checked, holes fetched over REST."""
    trades: list[Trade] = []
    async with asyncio.timeout(DEADLINE_S), TradeFeed([venue]) as feed:
        async for event in feed:
            if isinstance(event, Trade):
                trades.append(event)
            if len(trades) >= count:
                feed.stop()
                return trades
    return trades


def describe(trades: Sequence[Trade | SentTrade]) -> set[tuple[str, str, str]]:
    """What a replay must not change."""
    return {(trade.pair, trade.trade_id, trade.side) for trade in trades}


def test_a_recording_of_two_venues_is_served_as_both(tmp_path: Path):
    """By the real command, in many small files: every trade, once, in the exchanges' own words."""
    sent = record_market(tmp_path / "frames", 400)

    async def read_both(port: int) -> list[list[Trade]]:
        url = f"ws://127.0.0.1:{port}"
        venues = [
            Binance(["BTC/USDT", "ETH/USDT"], f"{url}/binance"),
            Kraken(["BTC/USD", "ETH/USD"], f"{url}/kraken"),
        ]
        return await asyncio.gather(
            *(read_trades(venue, len(sent[venue.name])) for venue in venues)
        )

    with serve("--recording", tmp_path / "frames", "--speed", 10) as port:
        binance, kraken = asyncio.run(read_both(port))

    assert len(list((tmp_path / "frames").iterdir())) > 2
    assert describe(binance) == describe(sent["binance"])
    assert len(binance) == len(sent["binance"])
    assert describe(kraken) == describe(sent["kraken"])
    assert len(kraken) == len(sent["kraken"])


@pytest.mark.parametrize("both", [True, False])
def test_one_thing_is_played(tmp_path: Path, both: bool):
    """A plan or a recording: which one of two was meant cannot be known."""
    (tmp_path / "plan.json").write_text("{}")
    wanted = ["--plan", str(tmp_path / "plan.json"), "--recording", str(tmp_path)]
    result = CliRunner().invoke(app, ["exchange", *(wanted if both else [])])

    assert result.exit_code == 2
    assert "give one of --plan and --recording" in result.stderr
