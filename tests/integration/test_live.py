"""Three exchanges through the whole pipeline by configuration alone, complete whatever breaks.

The exchanges are live replays: their markets go on whether or not anybody listens, and by script
they drop, repeat, reorder, cut, and refuse REST. Their ledger is the judge.
"""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pytest

from k2_connectors.testing import Fault, Ledger, MarketModel, ReplayExchange, play_model
from k2_connectors.testing.market import EVERY_LISTING, EVERY_PATTERN, exchanges
from k2_schemas import InstrumentList

pytestmark = pytest.mark.pipeline

SYMBOLS = exchanges(EVERY_LISTING)
TRADES = 30_000
TRADES_PER_S = 120.0
"""Of each venue: it trades for more than a minute, the busiest for longer than the feed runs."""
FAULTS = [
    fault
    for at in range(600, TRADES, 1_500)
    for fault in (
        Fault(at, "drop", count=5),
        Fault(at + 100, "duplicate", count=5),
        Fault(at + 200, "reorder", count=4),
        Fault(at + 300, "http_error", code=503),
        Fault(at + 301, "reset"),
        Fault(at + 700, "drop", count=3),
        Fault(at + 1_000, "rate_limit"),
        Fault(at + 1_001, "close", code=1001),
        Fault(at + 1_300, "shutdown", seconds=0.5),
    )
]


class Exchanges(threading.Thread):
    """Three live replay exchanges on one port, in a thread of their own."""

    def __init__(self, folder: Path):
        super().__init__(daemon=True)
        model = MarketModel(7, time.time_ns() // 1000 - 10**10, EVERY_LISTING, EVERY_PATTERN)
        self.emissions = play_model(model, TRADES, bad_input=False)
        self._folder = folder
        self._ended = threading.Event()
        self.started = threading.Event()
        self.port = 0

    def run(self):
        """Serve until told to end."""
        asyncio.run(self._serve())

    async def _serve(self):
        pairs = {name: [i.pair for i in InstrumentList(name, SYMBOLS[name])] for name in SYMBOLS}
        with Ledger(self._folder / "ledger.db") as ledger:
            exchange = ReplayExchange(
                self.emissions,
                pairs,
                ledger,
                live=True,
                trades_per_s=TRADES_PER_S,
                faults=dict.fromkeys(SYMBOLS, FAULTS),
            )
            async with exchange.serve(0) as self.port:
                self.started.set()
                while not self._ended.is_set():
                    await asyncio.sleep(0.05)

    def read_ledger(self):
        """Return what the exchanges say they sent: `GET /ledger`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ledger") as answer:
            return [json.loads(line) for line in answer.read().decode().splitlines()]

    def end(self):
        """Stop serving."""
        self._ended.set()
        self.join(30)


@pytest.fixture
def market(tmp_path):
    """Three exchanges that have not begun to trade."""
    market = Exchanges(tmp_path)
    market.start()
    assert market.started.wait(30)
    yield market
    market.end()


def read_gold(command):
    """Return Gold's trades as the ledger writes them, by exchange and symbol."""
    found = defaultdict(list)
    for row in command.query(
        "SELECT exchange, symbol, trade_id, source_sequence, price, quantity, side, timestamp "
        "FROM gold_crypto_trades ORDER BY exchange, symbol, source_sequence"
    ):
        assert row["trade_id"] == str(row["source_sequence"])
        found[row["exchange"], row["symbol"]].append(
            (row["source_sequence"], Decimal(row["price"]), Decimal(row["quantity"]), row["side"])
        )
    return found


def test_three_exchanges_are_complete_in_gold_whatever_their_sockets_lose(command, market):
    """From each symbol's first trade on, Gold is the ledger: each trade once, to its last digit."""
    result = command.demo(
        "--live", "--seconds", "25", "--exchange-url", f"ws://127.0.0.1:{market.port}"
    )
    gold = read_gold(command)
    sent = defaultdict(list)
    for trade in market.read_ledger():
        numbers = (Decimal(trade["price"]), Decimal(trade["quantity"]))
        row = (int(trade["trade_id"]), *numbers, trade["side"])
        sent[trade["exchange"], trade["symbol"]].append(row)
    feed_log = [
        json.loads(line)
        for line in (command.home / "logs" / "feed.log").read_text().splitlines()
        if line.startswith("{")
    ]

    assert set(gold) == {(name.upper(), s) for name, symbols in SYMBOLS.items() for s in symbols}
    for key, rows in gold.items():
        first, last = rows[0][0], rows[-1][0]
        assert rows == sorted(row for row in sent[key] if first <= row[0] <= last), key
        assert [row[0] for row in rows] == list(range(first, last + 1)), key
    assert result["missing"] == 0
    assert result["gold"] == sum(map(len, gold.values())) > 1_000
    assert [s["trades"] for s in result["symbols"]] == [len(gold[key]) for key in sorted(gold)]
    # The faults did strike every venue, and nothing was given up.
    lost = {entry["venue"] for entry in feed_log if entry["event"] == "connection_lost"}
    assert lost == set(SYMBOLS)
    assert [entry for entry in feed_log if entry["event"] == "gap"] == []
    fetched = command.query(
        "SELECT DISTINCT lower(exchange) AS name FROM silver_binance_trades "
        "WHERE vendor_data['origin'] = 'backfill'"
    )
    assert [row["name"] for row in fetched] == ["binance"]


def test_ctrl_c_ends_the_feeding_and_not_the_audit(command, market):
    """What has come by then is looked at; exit code 0."""
    url = f"ws://127.0.0.1:{market.port}"
    with command.start("--live", "--seconds", "3600", "--exchange-url", url) as process:
        command.wait_for_log("lake", '"event": "positions"', process)
        time.sleep(12)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)

    assert process.returncode == 0, err
    assert json.loads(out)["missing"] == 0
    assert json.loads(out)["gold"] > 0


def test_exchanges_that_cannot_be_reached_are_one_sentence_and_no_process(tmp_path):
    """Before a broker is started, within the time a connection may take."""
    began, home = time.monotonic(), tmp_path / "home"
    options = ["--live", "--json", "--home", str(home), "--exchange-url", "ws://127.0.0.1:1"]
    result = subprocess.run(
        [sys.executable, "-m", "k2_cli", "demo", *options],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (result.returncode, result.stdout) == (1, "")
    said = [line for line in result.stderr.splitlines() if not line.startswith("…")]
    assert len(said) == 1
    assert said[0].startswith("k2: ")
    assert "cannot be used at ws://127.0.0.1:1/" in said[0]
    assert "check the network" in said[0]
    assert list(home.iterdir()) == []
    assert time.monotonic() - began < 40
