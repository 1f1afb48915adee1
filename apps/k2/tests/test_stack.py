"""The local stack's claims on the machine: its ports and its home. No broker is started here."""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prometheus_client import CollectorRegistry, start_http_server

import k2_feed.settings
import k2_lake.settings
from k2_cli.errors import HomeInUseError, PortTakenError
from k2_cli.stack import Stack, check_ports
from k2_connectors import Binance, Kraken, TradeFeed
from k2_connectors.metrics import FeedCollector
from k2_medallion.jvm import Java

EXCHANGES = {"binance": ["BTC/USDT"], "kraken": ["BTC/USD", "ETH/USD"]}


def make_stack(home: Path, port: int, *earlier: str) -> Stack:
    """A stack that never gets as far as Java."""
    return Stack(home, port, Java(Path("/no/java"), 21, "test"), [], EXCHANGES, earlier)


@pytest.fixture
def port() -> int:
    """The first of three ports that were free a moment ago."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        try:
            check_ports(port)
        except (PortTakenError, OverflowError):
            continue
        return port


@pytest.fixture(params=[0, 1, 2])
def taken(request: pytest.FixtureRequest, port: int) -> Iterator[tuple[int, int]]:
    """(first port, the one of the three that another program listens on)."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", port + request.param))
        other.listen()
        yield port, port + request.param


def test_free_ports_pass(port: int):
    """Three free ports are all the stack wants."""
    assert check_ports(port) is None


def test_a_taken_port_is_named_with_purpose_and_cure(taken: tuple[int, int]):
    """Whichever of the three it is, the sentence has its number, its use and a way out."""
    first, blocked = taken
    purpose = ("Kafka", "Kafka's controller", "the replay exchange")[blocked - first]
    with pytest.raises(PortTakenError) as caught:
        check_ports(first)

    assert caught.value.port == blocked
    assert f"port {blocked} ({purpose}) is taken by another program" in str(caught.value)
    assert "--port " in str(caught.value)


def test_a_second_stack_on_one_home_is_refused(tmp_path: Path, port: int):
    """Two brokers in one folder would ruin each other: the second is told to wait."""
    first, second = make_stack(tmp_path, port), make_stack(tmp_path, port + 3)
    with first:
        with pytest.raises(HomeInUseError) as caught:
            second.__enter__()
        second.__exit__(None, None, None)

    assert caught.value.home == tmp_path.resolve()
    assert "wait for it, or take another --home" in str(caught.value)


def test_a_home_is_free_again_after_its_stack(tmp_path: Path, port: int):
    """The lock ends with the stack, whether it was used or not."""
    for _ in range(2):
        with make_stack(tmp_path, port) as stack:
            assert stack.home == tmp_path.resolve()


def test_the_apps_are_told_what_the_stack_is(tmp_path: Path, port: int):
    """Both read their files; hostile characters in a path do no harm."""
    home = tmp_path / 'a "quoted" \\ home'
    with make_stack(home, port, "coinbase") as stack:
        stack.start_feed()
        stack.start_lake()
    feed = k2_feed.settings.read_settings(home / "feed.toml")
    lake = k2_lake.settings.read_settings(home / "lake.toml")

    assert [feed.kafka.bootstrap_servers, lake.kafka.bootstrap_servers] == [f"127.0.0.1:{port}"] * 2
    assert [(e.name, e.symbols, e.url) for e in feed.exchanges] == [
        (name, symbols, f"ws://127.0.0.1:{port + 2}/{name}") for name, symbols in EXCHANGES.items()
    ]
    assert [e.name for e in lake.exchanges] == ["binance", "coinbase", "kraken"]
    assert lake.lake.home == home.resolve()


@pytest.mark.parametrize("url", [None, "ws://127.0.0.1:7"])
def test_a_live_feed_goes_on_from_its_checkpoint_and_shows_its_metrics(
    tmp_path: Path, port: int, url: str | None
):
    """At the exchanges themselves, unless it is told where to find a replay."""
    with make_stack(tmp_path, port) as stack:
        stack.start_live_feed(url)
    feed = k2_feed.settings.read_settings(tmp_path / "feed.toml")

    assert [(e.name, e.symbols, e.url) for e in feed.exchanges] == [
        (name, symbols, None if url is None else f"{url}/{name}")
        for name, symbols in EXCHANGES.items()
    ]
    assert (feed.feed.contiguity, feed.feed.backfill) == (True, True)
    assert feed.feed.checkpoint == tmp_path.resolve() / "positions.json"
    assert feed.metrics.port == port + 2


def test_the_metrics_of_a_feed_are_summed_over_its_venues(tmp_path: Path, port: int):
    """As a scrape gives them; none while no feed is up."""
    stack = make_stack(tmp_path, port)
    assert stack.read_feed_metrics() is None
    registry = CollectorRegistry()
    registry.register(FeedCollector(TradeFeed([Binance(["BTC/USDT"]), Kraken(["BTC/USD"])])))
    server, thread = start_http_server(port + 2, "127.0.0.1", registry)
    found = stack.read_feed_metrics()
    server.shutdown()
    server.server_close()
    thread.join()

    assert found is not None
    assert (found["k2_feed_symbols"], found["k2_feed_missing"], found["k2_feed_held"]) == (2, 0, 0)


def is_taken(port: int) -> bool:
    """Tell whether the stack would refuse this port."""
    try:
        check_ports(port)
    except PortTakenError:
        return True
    return False


def test_entering_a_stack_reaps_what_a_killed_one_left(tmp_path: Path, port: int):
    """A leftover that still holds a port is ended before the ports are looked at."""
    killed = make_stack(tmp_path, port)
    listen = f"from socket import *; s = create_server(('127.0.0.1', {port})); s.accept()"
    killed.feed.start([sys.executable, "-c", listen], os.environ)
    deadline = time.monotonic() + 15
    while not is_taken(port):
        assert time.monotonic() < deadline, "the leftover never listened"
        time.sleep(0.01)
    leftover = psutil.Process(json.loads((tmp_path / "run" / "feed.json").read_text())["pid"])
    with make_stack(tmp_path, port):
        assert not leftover.is_running()
    killed.stop()


def test_the_exchange_that_is_not_up_has_no_status(tmp_path: Path, port: int):
    """Nothing listens there yet: that is an answer, not an error."""
    assert make_stack(tmp_path, port).read_exchange_status() is None
