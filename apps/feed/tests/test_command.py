"""The k2-feed command: what it prints and how it ends. Kafka is never reached here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from k2_feed.__main__ import app

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


def test_check_accepts_a_good_file_and_touches_no_kafka(config: Path):
    """As a real process: --check says which venues it would feed and ends with 0."""
    result = subprocess.run(
        [sys.executable, "-m", "k2_feed", "--config", str(config), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"K2_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"},
    )

    assert (f"{config} is fine: kraken, binance\n", "", 0) == (
        result.stdout,
        result.stderr,
        result.returncode,
    )


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
