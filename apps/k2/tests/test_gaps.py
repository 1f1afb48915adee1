"""k2 gaps: what is missing, from when to when, and the request that fetches it."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from k2_connectors import ConnectorError
from k2_medallion import DEAD_LETTERS, silver_trades
from k2_schemas.topics import DEADLETTER_TOPIC

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
START_US = (START - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.fixture
def trades(append):
    """Return what writes trades of these numbers to Silver, one a second."""

    def write(*numbers, symbol="BTC/USDT"):
        rows = (
            {
                "symbol": symbol,
                "source_sequence": number,
                "timestamp": START + timedelta(seconds=number),
            }
            for number in numbers
        )
        append(silver_trades("binance"), *rows)

    return write


def test_without_a_gap_the_exit_code_is_0(run_k2, trades):
    """And one line says so; in JSON there is none."""
    trades(1, 2, 3)

    code, out, _ = run_k2("gaps")
    assert (code, out.startswith("no gap")) == (0, True)
    assert run_k2("gaps", "--json")[:2] == (0, "")


def test_a_gap_comes_with_times_and_cure(run_k2, trades):
    """The exit code is 3; the request is the venue's own, the position what the feed keeps."""
    trades(1, 2, 5)
    trades(7, 9, symbol="ETH/USDT")
    code, out, _ = run_k2("gaps", "--json")
    bitcoin, ether = map(json.loads, out.splitlines())

    assert code == 3
    assert bitcoin == {
        "exchange": "BINANCE",
        "symbol": "BTC/USDT",
        "first": 3,
        "last": 4,
        "count": 2,
        "before": "2026-11-23T12:00:02+00:00",
        "after": "2026-11-23T12:00:05+00:00",
        "url": bitcoin["url"],
        "pair": "BTCUSDT",
        "position": [2, START_US + 2_000_000],
    }
    assert bitcoin["url"].startswith("https://api.binance.com/api/v3/historicalTrades?")
    assert "fromId=3" in bitcoin["url"]
    assert (ether["symbol"], ether["first"], ether["last"]) == ("ETH/USDT", 8, 8)


def test_people_get_a_table_and_the_cure_once_a_symbol(run_k2, trades):
    """Two gaps of a symbol: the feed begins at the first, and fetches both."""
    trades(1, 3, 5)
    _, out, _ = run_k2("gaps")

    assert out.count("GET ") == 1
    assert "fromId=2" in out
    assert f'positions."binance"."BTCUSDT" = [1, {START_US + 1_000_000}]' in out


def test_only_what_is_asked_for_is_listed(run_k2, trades):
    """By exchange and by symbol; an exchange that the lake does not have is an error."""
    trades(1, 3)
    trades(7, 9, symbol="ETH/USDT")

    assert len(run_k2("gaps", "--json", "--symbol", "ETH/USDT")[1].splitlines()) == 1
    assert len(run_k2("gaps", "--json", "--exchange", "BINANCE")[1].splitlines()) == 2
    code, out, err = run_k2("gaps", "--exchange", "krakn")
    assert (code, out) == (1, "")
    assert "no exchange 'krakn'" in err


def test_a_trade_that_came_as_a_dead_frame_is_not_missing(run_k2, trades, append):
    """The feed could not decode it, but its number can be read; other frames are passed over."""
    trades(1, 4)
    frame = b'{"stream":"btcusdt@trade","data":{"e":"trade","s":"BTCUSDT","t":2}}'
    frames = (frame, b"<html>502", b'{"error":{"code":2,"msg":"Invalid request"},"id":1}')
    reasons = {"kafka_topic": DEADLETTER_TOPIC, "error_reason": "binance: because"}
    append(DEAD_LETTERS, *({"raw_record": raw} | reasons for raw in frames))
    # Another venue's reason: its numbers are others.
    other = frame.replace(b":2}", b":3}")
    append(DEAD_LETTERS, {"raw_record": other} | reasons | {"error_reason": "kraken: because"})
    (hole,) = map(json.loads, run_k2("gaps", "--json")[1].splitlines())

    assert (hole["first"], hole["last"]) == (3, 3)


def test_a_venue_that_is_not_installed_is_said(run_k2, trades, monkeypatch):
    """The gap is there all the same."""

    def refuse(name, symbols):
        raise ConnectorError(f"no venue {name}")

    monkeypatch.setattr("k2_cli.gaps.open_venue", refuse)
    trades(1, 3)
    code, out, _ = run_k2("gaps")

    assert code == 3
    assert "BINANCE BTC/USDT: no venue of that name is installed here" in out
    assert json.loads(run_k2("gaps", "--json")[1])["url"] is None
