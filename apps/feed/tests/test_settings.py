"""What the feed can be told, and how it says that it was told something wrong."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from k2_feed.settings import read_settings

SHARED = """
[kafka]
bootstrap_servers = "kafka.example:9092"

[[exchanges]]
name = "binance"
symbols = ["BTC/USDT", "ETH/USDT"]
url = "ws://127.0.0.1:1/binance"

[[exchanges]]
name = "kraken"
symbols = ["BTC/USD"]

[lake]
home = "/var/k2"
driver_memory = "2g"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "k2.toml"
    path.write_text(SHARED)
    return path


def problems(config: Path) -> list[str]:
    """Return the dotted names of what pydantic refuses in a file."""
    with pytest.raises(ValidationError) as caught:
        read_settings(config)
    return [".".join(map(str, problem["loc"])) for problem in caught.value.errors()]


def test_the_file_of_both_apps_is_read(config: Path):
    """The feed takes its part of the shared file and leaves [lake] to k2-lake."""
    settings = read_settings(config)

    assert settings.kafka.bootstrap_servers == "kafka.example:9092"
    assert [(e.name, e.symbols, e.url) for e in settings.exchanges] == [
        ("binance", ["BTC/USDT", "ETH/USDT"], "ws://127.0.0.1:1/binance"),
        ("kraken", ["BTC/USD"], None),
    ]


def test_the_environment_overrides_the_file(config: Path, monkeypatch: pytest.MonkeyPatch):
    """A K2_ variable wins over the file, key by key."""
    monkeypatch.setenv("K2_KAFKA__BOOTSTRAP_SERVERS", "other:1")
    settings = read_settings(config)

    assert settings.kafka.bootstrap_servers == "other:1"
    assert len(settings.exchanges) == 2


def test_exchanges_can_come_from_the_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """K2_EXCHANGES holds the same list as JSON; Kafka then has its default address."""
    config = tmp_path / "empty.toml"
    config.touch()
    monkeypatch.setenv("K2_EXCHANGES", '[{"name": "kraken", "symbols": ["BTC/USD"]}]')
    settings = read_settings(config)

    assert [exchange.name for exchange in settings.exchanges] == ["kraken"]
    assert settings.kafka.bootstrap_servers == "127.0.0.1:9092"


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("retries = 3", "retries"),
        ("[feeds]\nsymbols = []", "feeds"),
        ("[feed]\nsymbols = []", "feed.symbols"),
        ("[feed]\nconnections = 0", "feed.connections"),
        ("[kafka]\nbootstrap_server = 'typo'", "kafka.bootstrap_server"),
    ],
)
def test_an_unknown_key_is_refused_by_name(tmp_path: Path, line: str, key: str):
    """A misspelt key is an error that names it, never a setting silently ignored."""
    config = tmp_path / "k2.toml"
    config.write_text(line + '\n[[exchanges]]\nname = "kraken"\nsymbols = ["BTC/USD"]\n')

    assert [key] == problems(config)


def test_an_unknown_key_of_an_exchange_is_refused_with_its_place(tmp_path: Path):
    """The error says which of the exchanges has the key."""
    config = tmp_path / "k2.toml"
    config.write_text('[[exchanges]]\nname = "kraken"\nsymbols = ["BTC/USD"]\nurls = "x"\n')

    assert problems(config) == ["exchanges.0.urls"]


def test_an_unknown_key_in_the_environment_is_refused_by_name(
    config: Path, monkeypatch: pytest.MonkeyPatch
):
    """Variables below a known section are checked like the file."""
    monkeypatch.setenv("K2_KAFKA__BOOTSTRAP", "typo:1")

    assert problems(config) == ["kafka.bootstrap"]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", ["exchanges"]),
        ("exchanges = []", ["exchanges"]),
        ('[[exchanges]]\nname = "kraken"\nsymbols = []', ["exchanges.0.symbols"]),
        ("[[exchanges]]\n", ["exchanges.0.name", "exchanges.0.symbols"]),
    ],
)
def test_a_feed_of_nothing_is_refused(tmp_path: Path, text: str, keys: list[str]):
    """Without an exchange or a symbol there is nothing to feed."""
    config = tmp_path / "k2.toml"
    config.write_text(text)

    assert keys == problems(config)


@pytest.mark.parametrize(
    "url", ["WS://evil.example/x", " ws://evil.example/x", "HTTP://evil.example", "evil.example"]
)
def test_only_tls_is_tls(config: Path, url: str):
    """Whatever the letters: what is not known to be safe is refused."""
    config.write_text(SHARED.replace("ws://127.0.0.1:1/binance", url))
    with pytest.raises(ValidationError, match="is not TLS"):
        read_settings(config)
