"""Live: the whole pipeline on the exchanges themselves, judged by their own trade numbers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from k2_connectors import check_endpoints, open_venue
from k2_medallion import LakeHome, LakeReader
from k2_medallion.audit import OffsetRanges, audit_lake
from k2_medallion.jvm import find_java
from k2_validation import find_missing_ids

from .demo import fetch_broker_jars, list_earlier, make_home
from .errors import StalledError
from .memory import PeakMemory
from .progress import Progress
from .screen import Screen
from .stack import Stack
from .verify import find_breaches

LIVE_SYMBOLS = {
    "binance": ["BTC/USDT", "ETH/USDT"],
    "coinbase": ["BTC/USD", "ETH/USD"],
    "kraken": ["BTC/USD", "ETH/USD"],
}
_QUIET_TIMEOUT_S = 120.0
_GOLD_IDS = """
SELECT lower(exchange) AS exchange, symbol, list(source_sequence) AS ids
FROM gold_crypto_trades WHERE source_sequence IS NOT NULL GROUP BY ALL ORDER BY ALL
"""


@dataclass(frozen=True, slots=True)
class SymbolAudit:
    """What Gold holds of one symbol; `missing` are the trade numbers between that it lacks."""

    exchange: str
    symbol: str
    trades: int
    first_id: int
    last_id: int
    missing: int


@dataclass(frozen=True, slots=True)
class LiveResult:
    """What a live demo found. `breaches` say where rows were lost or doubled between the tables."""

    symbols: list[SymbolAudit]
    breaches: list[str]
    kafka: int
    seconds: float
    peak_rss_mb: float

    @property
    def missing(self) -> int:
        """How many trades Gold lacks, over all symbols."""
        return sum(symbol.missing for symbol in self.symbols)

    @property
    def absent(self) -> list[str]:
        """The symbols of which no trade came at all."""
        found = {(audit.exchange, audit.symbol) for audit in self.symbols}
        wanted = [(name, symbol) for name in LIVE_SYMBOLS for symbol in LIVE_SYMBOLS[name]]
        return [f"{name} {symbol}" for name, symbol in wanted if (name, symbol) not in found]

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        figures = {"kafka": self.kafka, "gold": sum(s.trades for s in self.symbols)}
        spent = {"seconds": self.seconds, "peak_rss_mb": self.peak_rss_mb}
        symbols = [asdict(symbol) for symbol in self.symbols]
        return figures | {"missing": self.missing, "symbols": symbols} | spent


def run_live(
    home: Path,
    *,
    for_s: float,
    port: int,
    cache: Path,
    screen: Screen,
    exchange_url: str | None = None,
) -> LiveResult:
    """Feed the exchanges for a while, or until Ctrl-C; then look for holes in what is in Gold.

    With `exchange_url` a replay exchange is taken for them. Raises
    `k2_connectors.EndpointError` before anything is started if one cannot be reached.
    """
    began = time.monotonic()
    make_home(home)
    with screen.step("Asking the exchanges"):
        asyncio.run(_check(exchange_url))
    with PeakMemory() as memory:
        java = find_java(cache, os.environ)
        jars = fetch_broker_jars(cache, screen)
        with Stack(home, port, java, jars, LIVE_SYMBOLS, list_earlier(home)) as stack:
            ranges = _feed(stack, screen, for_s, exchange_url)
            with screen.step("Stopping the processes"):
                stack.stop()
        with screen.step("Looking for holes"):
            breaches = find_breaches(audit_lake(LakeHome(home), lambda _: ranges), strict=True)
            symbols = audit_gold(LakeHome(home))
    return LiveResult(
        symbols=symbols,
        breaches=breaches,
        kafka=sum(high - low for low, high in ranges.values()),
        seconds=round(time.monotonic() - began, 1),
        peak_rss_mb=round(memory.peak_mb, 1),
    )


def audit_gold(home: LakeHome) -> list[SymbolAudit]:
    """Return what Gold holds of every symbol."""
    with LakeReader(home) as lake:
        rows = lake.sql(_GOLD_IDS).to_arrow().to_pylist()
    return [_audit(row["exchange"], row["symbol"], row["ids"]) for row in rows]


def tabulate_live(result: LiveResult) -> Table:
    """Return the audit as a table for people."""
    table = Table(title="Gold against the exchanges' own trade numbers")
    for name in ("exchange", "symbol"):
        table.add_column(name)
    for name in ("trades", "first id", "last id", "missing"):
        table.add_column(name, justify="right")
    for audit in result.symbols:
        ids = (str(audit.first_id), str(audit.last_id))
        style = "bold red" if audit.missing else ""
        table.add_row(
            audit.exchange,
            audit.symbol,
            f"{audit.trades:,}",
            *ids,
            f"{audit.missing:,}",
            style=style,
        )
    table.caption = f"{result.seconds:.0f} s in all · peak {result.peak_rss_mb:,.0f} MB"
    return table


def _audit(exchange: str, symbol: str, ids: Sequence[int]) -> SymbolAudit:
    missing = sum(hole.size for hole in find_missing_ids(ids))
    return SymbolAudit(exchange, symbol, len(ids), min(ids), max(ids), missing)


async def _check(exchange_url: str | None) -> None:
    venues = [
        open_venue(name, symbols, None if exchange_url is None else f"{exchange_url}/{name}")
        for name, symbols in LIVE_SYMBOLS.items()
    ]
    await asyncio.gather(*(check_endpoints(venue) for venue in venues))


def _feed(stack: Stack, screen: Screen, for_s: float, exchange_url: str | None) -> OffsetRanges:
    """Run the pipeline; return what Kafka holds at the end."""
    progress = Progress(stack, screen)
    with screen.step("Starting Kafka and Spark"):
        stack.broker.start()
        stack.start_lake()
        stack.broker.wait()
        stack.start_live_feed(exchange_url)
        # By then it has read the topics to their ends: every partition has its leader.
        progress.wait_for(
            lambda: stack.read_feed_metrics() is not None, "k2-feed has not started", 60
        )
    with screen.step(f"Feeding for {for_s:.0f} s (Ctrl-C ends it sooner)"):
        deadline = time.monotonic() + for_s
        with contextlib.suppress(KeyboardInterrupt):
            for _ in progress.poll():
                if time.monotonic() > deadline:
                    break
    with screen.step("Waiting for what is being fetched"):
        _wait_until_quiet(stack)
        stack.feed.stop_cleanly()
    with screen.step("Bronze, Silver, dead letters, Gold"):
        return progress.settle()


def _wait_until_quiet(stack: Stack) -> None:
    """Return at a moment when the feed misses nothing: what opens after it has time to be filled.

    It may have much to fetch, more than its time to drain: it goes on from an earlier run.
    """
    deadline = time.monotonic() + _QUIET_TIMEOUT_S
    while True:
        stack.check()
        found = stack.read_feed_metrics()
        if found is not None and not found["k2_feed_missing"] and not found["k2_feed_held"]:
            return
        if time.monotonic() > deadline:
            raise StalledError("k2-feed still misses trades", _QUIET_TIMEOUT_S, stack.feed.log)
        time.sleep(0.02)
