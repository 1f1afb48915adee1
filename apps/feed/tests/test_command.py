"""The k2-feed command: what it prints and how it ends. Kafka is never reached here."""

import asyncio
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from k2_connectors import CheckpointFile, Kraken, Position
from k2_connectors.testing import (
    Ledger,
    MarketModel,
    MemoryPublisher,
    ReplayExchange,
    play_model,
)
from k2_feed.__main__ import _open_feed, app
from k2_feed.settings import ContinuitySettings, ExchangeSettings, FeedSettings

PAIRS = {"binance": ["BTCUSDT", "ETHUSDT"], "kraken": ["BTC/USD", "ETH/USD"]}
KRAKEN = '[[exchanges]]\nname = "kraken"\nsymbols = ["BTC/USD"]\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "k2.toml"
    path.write_text(KRAKEN + '[[exchanges]]\nname = "binance"\nsymbols = ["BTC/USDT"]\n')
    return path


def check(config: Path, environment: dict[str, str] | None = None) -> Result:
    """Run `k2-feed --check` in this process."""
    return CliRunner().invoke(app, ["--config", str(config), "--check"], env=environment)


def assert_one_sentence(result: Result, sentence: str) -> None:
    """Nothing but this on stderr, nothing on stdout, exit code 1."""
    assert (f"k2-feed: {sentence}\n", "", 1) == (result.stderr, result.stdout, result.exit_code)


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[int]:
    """A live replay exchange of two venues; gives its port."""
    ports: queue.Queue[int] = queue.Queue()
    ended = threading.Event()
    emissions = play_model(MarketModel(7, 1_790_000_000_000_000), 200, bad_input=False)

    async def serve() -> None:
        with Ledger(tmp_path / "ledger.db") as ledger:
            async with ReplayExchange(emissions, PAIRS, ledger, live=True).serve(0) as port:
                ports.put(port)
                while not ended.is_set():
                    await asyncio.sleep(0.02)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    yield ports.get(timeout=30)
    ended.set()
    thread.join(30)


def write_config(path: Path, port: int, kraken: str = "BTC/USD", binance: str = "BTC/USDT") -> None:
    """Configure both venues at the replay exchange, and a Kafka that is not there."""
    path.write_text(
        f"""
[kafka]
bootstrap_servers = "127.0.0.1:1"
[[exchanges]]
name = "kraken"
symbols = ["{kraken}"]
url = "ws://127.0.0.1:{port}/kraken"
[[exchanges]]
name = "binance"
symbols = ["{binance}"]
url = "ws://127.0.0.1:{port}/binance"
"""
    )


def run_feed(config: Path, *options: str) -> tuple[int, str, list[str]]:
    """Run k2-feed as a real process to its end; return exit code, stdout, and stderr's lines."""
    result = subprocess.run(
        [sys.executable, "-m", "k2_feed", "--config", str(config), *options],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return result.returncode, result.stdout, result.stderr.splitlines()


def test_check_finds_that_no_broker_answers(config: Path, exchange: int):
    """Exchanges and symbols are right; Kafka's address is what is left to correct."""
    write_config(config, exchange)
    code, out, said = run_feed(config, "--check")

    assert (code, out, len(said)) == (1, "", 1)
    assert said[0].startswith("k2-feed: no Kafka broker answers at 127.0.0.1:1: ")
    assert said[0].endswith("username, password, ca_file")


def test_an_ordinary_start_finds_that_no_broker_answers(config: Path, exchange: int):
    """Before a socket is opened, in the same words."""
    write_config(config, exchange)
    code, out, said = run_feed(config)

    assert (code, out, len(said)) == (1, "", 1)
    assert said[0].startswith("k2-feed: no Kafka broker answers at 127.0.0.1:1: ")


@pytest.mark.parametrize(
    ("symbols", "sentence"),
    [
        (
            {"binance": "NOSUCH/USDT"},
            "binance refused NOSUCHUSDT: its REST knows no such pair (HTTP status 400: ",
        ),
        ({"kraken": "NOSUCH/USD"}, "kraken refused NOSUCH/USD: Currency pair not supported"),
    ],
)
def test_check_names_a_symbol_that_the_exchange_does_not_have(
    config: Path, exchange: int, symbols: dict[str, str], sentence: str
):
    """Kraken's socket says so, Binance's keeps silent and its REST answers 400."""
    write_config(config, exchange, **symbols)
    code, out, said = run_feed(config, "--check")

    assert (code, out, len(said)) == (1, "", 1)
    assert said[0].startswith(f"k2-feed: {sentence}")
    assert said[0].endswith("correct the symbols of this exchange in the configuration")


@pytest.mark.parametrize("key", ["url", "rest_url"])
def test_check_names_an_endpoint_that_does_not_answer(config: Path, exchange: int, key: str):
    """Sockets and REST alike, with what the network said."""
    write_config(config, exchange)
    wrong = "ws://127.0.0.1:1/binance" if key == "url" else "http://127.0.0.1:1"
    if key == "url":
        config.write_text(config.read_text().replace(f"ws://127.0.0.1:{exchange}/binance", wrong))
    else:
        config.write_text(config.read_text() + f'rest_url = "{wrong}"\n')
    code, out, said = run_feed(config, "--check")

    assert (code, out, len(said)) == (1, "", 1)
    assert said[0].startswith(f"k2-feed: binance cannot be used at {wrong}")
    assert "check the network" in said[0]


def test_an_endpoint_that_is_another_exchange_is_named(config: Path, exchange: int):
    """It answers, but nothing that this venue calls an acknowledgement."""
    write_config(config, exchange)
    text = config.read_text().replace(f"{exchange}/binance", f"{exchange}/nothing")
    config.write_text(text)
    code, out, said = run_feed(config, "--check")

    assert (code, out, len(said)) == (1, "", 1)
    assert f"k2-feed: binance cannot be used at ws://127.0.0.1:{exchange}/nothing" in said[0]


def test_the_checkpoint_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Between two reads another feed might have written it."""
    path = tmp_path / "positions.json"
    CheckpointFile(path).write({"kraken": {"BTC/USD": Position(7, 9)}})
    settings = FeedSettings(
        exchanges=[ExchangeSettings(name="kraken", symbols=["BTC/USD"])],
        feed=ContinuitySettings(checkpoint=path),
    )
    reads = []
    read = CheckpointFile.read
    monkeypatch.setattr(CheckpointFile, "read", lambda file: reads.append(file.path) or read(file))
    feed = _open_feed(settings, [Kraken(["BTC/USD"])], MemoryPublisher())

    assert reads == [path]
    assert feed._marks.positions() == {"kraken": {"BTC/USD": Position(7, 9)}}


def test_an_unknown_exchange_is_one_sentence(config: Path):
    """As a real process, without --check: refused before anything is connected."""
    config.write_text(KRAKEN.replace("kraken", "krakem"))
    result = subprocess.run(
        [sys.executable, "-m", "k2_feed", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (
        result.stderr,
        result.stdout,
        result.returncode,
    ) == ("k2-feed: no venue 'krakem'; choose one of: binance, coinbase, kraken\n", "", 1)


def test_text_that_is_not_toml_is_one_sentence(config: Path):
    """The sentence says where the TOML breaks."""
    config.write_text("[kafka\n")

    assert_one_sentence(
        check(config),
        f"{config}: not TOML: Expected ']' at the end of a table declaration (at line 1, column 7)",
    )


def test_bytes_that_are_not_text_are_one_sentence(config: Path):
    """A file in another encoding is no traceback."""
    config.write_bytes(b'name = "\xff"\n')
    result = check(config)

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith(f"k2-feed: {config}: not TOML: ")


def test_every_wrong_key_is_in_the_sentence(config: Path):
    """Several mistakes are told at once."""
    config.write_text("speed = 3\n[kafka]\nserver = 'x'\n" + KRAKEN)

    assert_one_sentence(
        check(config),
        f"{config}: kafka.server: Extra inputs are not permitted; "
        "speed: Extra inputs are not permitted",
    )


def test_a_variable_that_is_not_json_is_one_sentence(config: Path):
    """The sentence names the setting."""
    result = check(config, {"K2_EXCHANGES": "kraken"})

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "exchanges" in result.stderr


def test_a_symbol_that_is_none_is_one_sentence(config: Path):
    """BTCUSD cannot be split without guessing, so it is refused."""
    config.write_text(KRAKEN.replace("BTC/USD", "BTCUSD"))

    assert_one_sentence(
        check(config),
        "'BTCUSD' is not a symbol of the form BASE/QUOTE, such as BTC/USDT",
    )


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path, kind: str):
    """No file, or a folder: exit code 2 and the option's name."""
    result = check(tmp_path if kind == "folder" else tmp_path / "missing.toml")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "--config" in result.stderr


def test_help_shows_an_example_and_the_tables_of_the_file():
    """--help names the tables that the file has, and a command to copy."""
    result = CliRunner().invoke(app, ["--help"])

    assert result.exit_code == 0
    assert "Example: k2-feed --config k2.toml" in result.stdout
    assert "kafka and exchanges" in " ".join(result.stdout.replace("│", " ").split())
