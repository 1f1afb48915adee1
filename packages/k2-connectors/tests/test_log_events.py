"""The vocabulary of logs: nothing is logged that is not in it, and with the fields it names."""

import ast
import asyncio
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import k2_connectors
from k2_connectors import LOG_EVENTS, Feed, PublishError, open_venue
from k2_connectors.testing import (
    Fault,
    Ledger,
    MarketModel,
    MemoryPublisher,
    ReplayExchange,
    play_model,
)
from k2_schemas import FieldError, Trade

SOURCES = sorted(Path(k2_connectors.__file__).parent.rglob("*.py"))
LEVELS = {"debug", "info", "warning", "warn", "error", "critical", "exception", "log", "msg"}
EMISSIONS = play_model(MarketModel(7, 1_790_000_000_000_000), 3_000, bad_input=False)
PAIRS = {"binance": ["BTCUSDT", "ETHUSDT"], "kraken": ["BTC/USD", "ETH/USD"]}


def find_log_calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield every call of a logger's method in this package's source: where, and the call."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LEVELS
                and ast.unparse(node.func.value).endswith("_log")
            ):
                yield f"{path.name}:{node.lineno}", node


def test_every_log_call_is_in_the_vocabulary():
    """A literal name that is listed, at the level that is listed."""
    calls = list(find_log_calls())
    wrong = [
        where
        for where, call in calls
        if not isinstance(call.args[0], ast.Constant)
        or LOG_EVENTS[str(call.args[0].value)].level != call.func.attr  # type: ignore[attr-defined]
    ]

    assert len(calls) >= len(LOG_EVENTS)
    assert wrong == []


def test_every_word_of_the_vocabulary_is_used():
    """A name that nobody logs would be waited for in vain."""
    used = {call.args[0].value for _, call in find_log_calls()}  # type: ignore[attr-defined]

    assert used == set(LOG_EVENTS)


def test_no_module_logs_in_another_way():
    """A logger of another name, or of another library, would go round the check."""
    for path in SOURCES:
        text = path.read_text("utf-8")
        assert not re.search(r"logging\.(debug|info|warning|error|exception|critical)\(", text), (
            path
        )
        assert "structlog.get_logger" not in text.replace("_log = structlog.get_logger()", ""), path


class FailingPublisher(MemoryPublisher):
    """Takes a hundred trades, finds one without bytes, and then loses its broker."""

    def publish(self, trades: Sequence[Trade]) -> int:
        """Take a trade."""
        if len(self.trades) == 100 and not self.dead_letters:
            raise FieldError("price", 1, "is what it is")
        if len(self.trades) == 500:
            raise PublishError("market.crypto.trades.binance", "broker is gone")
        return super().publish(trades[:1])


def test_what_a_feed_logs_has_exactly_the_fields_of_the_vocabulary(tmp_path: Path):
    """Through reconnects, a REST that fails, a gap, and a broker that goes."""

    async def run(ledger: Ledger) -> None:
        faults = [Fault(50, "reset"), Fault(60, "http_error", count=3, code=500)]
        exchange = ReplayExchange(
            EMISSIONS, PAIRS, ledger, live=True, trades_per_s=500.0, faults={"binance": faults}
        )
        async with asyncio.timeout(60), exchange.serve(0) as port:
            url = f"ws://127.0.0.1:{port}"
            binance = open_venue("binance", ["BTC/USDT"], f"{url}/binance", "http://127.0.0.1:1")
            kraken = open_venue("kraken", ["BTC/USD"], f"{url}/kraken")
            feed = Feed([binance, kraken], FailingPublisher())
            with pytest.raises(PublishError):
                await feed.run(asyncio.Event())
        assert sum(stats.publish_errors for stats in feed.stats().values()) == 2

    with Ledger(tmp_path / "ledger.db") as ledger, capture_logs() as logged:
        asyncio.run(run(ledger))
    fields = {entry["event"]: set(entry) - {"event", "log_level"} for entry in logged}

    assert {"connected", "status", "rest_failed", "trade_refused", "publish_failed"} <= set(fields)
    assert fields == {name: set(LOG_EVENTS[name].fields) for name in fields}
    assert {e["event"]: e["log_level"] for e in logged} == {
        name: LOG_EVENTS[name].level for name in fields
    }
