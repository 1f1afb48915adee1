"""k2 verify: an exit code that tells, and every fault by its name."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from k2_cli.verify import find_breaches
from k2_medallion import GOLD_TRADES, LakeHome, bronze_trades, silver_trades
from k2_medallion.audit import OffsetRange, audit_lake
from k2_schemas import TradeCodec
from k2_schemas.testing import make_trade
from k2_schemas.topics import trades_topic
from k2_schemas.trade_codec import trade_to_record

NOW = datetime.now(UTC)
TOPIC = trades_topic("binance")


@pytest.fixture
def trade(append):
    """Return what writes a trade to all layers, at the offset that its number is."""

    def write(number, numbered=True):
        trade = make(number, numbered)
        row = trade_to_record(trade)
        append(bronze_trades("binance"), bronze_row(number, trade))
        append(silver_trades("binance"), row | {"bronze_ingestion_timestamp": NOW, "schema_id": 1})
        append(GOLD_TRADES, row)

    return write


def make(number, numbered=True):
    """Return a trade of now; some venues number none."""
    at_us = (NOW - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    trade = make_trade(number, timestamp_us=at_us)
    return trade if numbered else structs.replace(trade, source_sequence=None)


def bronze_row(offset, trade=None):
    """Return a Bronze row of the one batch."""
    return {
        "topic": TOPIC,
        "partition": 0,
        "offset": offset,
        "raw_bytes": TradeCodec().encode(trade or make(offset)),
        "ingestion_timestamp": NOW,
        "ingestion_date": NOW.date(),
    }


def test_a_lake_that_adds_up_ends_with_0(run_k2, trade):
    """Every law is shown, with what was counted."""
    trade(1)
    code, out, _ = run_k2("verify", "--offline")

    assert code == 0
    assert "✗" not in out
    assert "each trade of silver_binance_trades is there" in out
    assert "every law holds; Kafka was not asked" in out


def test_a_breach_ends_with_1_and_is_named(run_k2, trade, append):
    """The table, the law, and the very row."""
    trade(1)
    append(bronze_trades("binance"), bronze_row(1))
    code, out, _ = run_k2("verify", "--offline")

    assert code == 1
    assert "✗" in out
    assert "partition 0 offset 1" in out
    assert "3 of " in out
    assert "laws broken" in out


def test_a_breach_counts_for_more_than_a_hole(run_k2, trade):
    """Trades 3 and 4 never came, nor did their offsets: both are shown, the exit code is 1."""
    trade(1)
    trade(2)
    trade(5)
    code, out, _ = run_k2("verify", "--offline", "--json")
    report = json.loads(out)

    assert (code, report["breaches"]) == (1, 1)
    assert [(hole["first"], hole["last"]) for hole in report["holes"]] == [(3, 4)]


def test_holes_alone_end_with_3(run_k2, trade):
    """No row is amiss between the tables: that trades never came is another kind of bad news."""
    trade(1)
    trade(5)
    for offset in (2, 3, 4):
        trade(offset, numbered=False)
    code, out, _ = run_k2("verify", "--offline")

    assert code == 3
    assert "BINANCE BTC/USDT: 3 missing, ids 2 to 4" in out
    assert "every law holds; 3 trades never came (see k2 gaps)" in out


def test_what_is_not_read_yet_is_a_breach_only_if_strict(trade, tmp_path):
    """A lake at work is always a little behind."""
    trade(0)
    report = audit_lake(LakeHome(tmp_path), lambda topics: {(TOPIC, 0): OffsetRange(0, 3)})

    assert find_breaches(report, strict=False) == []
    assert find_breaches(report, strict=True) == [f"{TOPIC}/0: 2 offsets not read yet, from 1"]


def test_since_a_day_nothing_older_is_read(run_k2, trade):
    """Of a lake that has grown old; a day that is none is a usage error."""
    trade(1)
    tomorrow = (NOW + timedelta(days=1)).date().isoformat()
    today = NOW.date().isoformat()
    laws = {
        day: {law["name"]: law["expected"] for law in json.loads(out)["laws"]}
        for day in (today, tomorrow)
        for code, out, _ in [run_k2("verify", "--offline", "--json", "--since", day)]
        if code == 0
    }
    name = "each trade of silver_binance_trades is there"

    assert (laws[today][name], laws[tomorrow][name]) == (1, 0)
    assert run_k2("verify", "--since", "yesterday")[0] == 2


def test_a_kafka_that_is_silent_is_one_sentence(run_k2, trade, monkeypatch):
    """It names the address and the way out, and nothing is printed as if it were a result."""
    monkeypatch.setattr("k2_cli.watermarks._TIMEOUT_S", 0.2)
    trade(1)
    code, out, err = run_k2("verify", "--json", "--bootstrap", "127.0.0.1:9")

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("k2: Kafka at 127.0.0.1:9 does not answer us (")
    assert "--offline" in err


def test_no_lake_is_one_sentence(run_k2):
    """There is nothing to compare, and nothing is made."""
    code, out, err = run_k2("verify", "--offline")

    assert (code, out) == (1, "")
    assert "no lake in" in err
