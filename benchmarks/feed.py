"""The feed beside cryptofeed and a plain loop: same trades, one run, CPU time."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from cryptofeed.defines import TRADES
from cryptofeed.exchanges import Binance as CryptofeedBinance
from cryptofeed.symbols import Symbols

from k2_connectors import Binance, Position
from k2_connectors.venue_feed import VenueFeed
from k2_schemas import Trade

from .feed_exchange import FIRST_ID, FIRST_MS, PAIR, write_trade
from .feed_rig import Took, open_broker, run_client, soak
from .measure import Spread, interleave
from .report import Report

FRAMES = 20_000
TOGETHER = 64
"""Frames that one read of a busy socket brings; a quiet one brings one."""
CLIENT_TRADES = {"picows": 600_000, "websockets": 300_000, "plain": 60_000}
ROUNDS = 3
SOAK_TRADES = 10_000_000
SOAK_TRADES_PER_S = 25_000
STALL_S = 5.0


def run(report: Report, arguments: Sequence[str]) -> dict[str, float]:
    """Measure text to trades, socket to Kafka, and memory; `--quick` for a tenth, `--no-soak`."""
    share = 10 if "--quick" in arguments else 1
    report.versions(
        "k2-connectors", "cryptofeed", "picows", "websockets", "confluent-kafka", "fastavro"
    )
    report.note(
        f"Frames of {len(write_trade(0))} bytes. Exchange and broker are processes of their "
        "own; CPU is that of the client's process, Kafka's threads among it. Each client's records "
        "are counted by the broker. Memory is the median of a sample a second, of the trades from "
        "20 to 30 % and from 90 to 100 %."
    )
    figures = measure_parse(report)
    with open_broker() as broker:
        clients = {name: count // share for name, count in CLIENT_TRADES.items()}
        rounds: dict[str, list[Took]] = {name: [] for name in clients}
        for _ in range(1 if share > 1 else ROUNDS):
            for name, count in clients.items():
                rounds[name].append(run_client(name, broker, count))
        figures |= report_clients(report, rounds)
        if "--no-soak" not in arguments:
            found = soak(broker, SOAK_TRADES // share, SOAK_TRADES_PER_S, STALL_S)
            sizes = (found.warm_bytes, found.most_bytes, found.end_bytes)
            report.table(
                f"Memory over {found.took.trades:,} trades at {SOAK_TRADES_PER_S:,}/s, the broker "
                f"stopped twice for {STALL_S:.0f} s",
                ["RSS after warm-up, MB", "at most", "at the end", "CPU s", "wall s"],
                [
                    [f"{size / 1e6:.1f}" for size in sizes]
                    + [f"{found.took.cpu_s:.0f}", f"{found.took.wall_s:.0f}"]
                ],
            )
            figures["rss_drift"] = round(found.drift, 4)
    report.table("Figures", ["key", "value"], [[k, f"{v:,}"] for k, v in figures.items()])
    return figures


def measure_parse(report: Report) -> dict[str, float]:
    """Make trades of text on one core: ours with its ids checked, cryptofeed's without."""
    spreads = interleave(parse_candidates())
    report.spreads("Text → trade, CPU time of one core", "trades", spreads)
    ours, theirs = spreads[_NAMES["together"]], spreads[_NAMES["cryptofeed"]]
    return {
        "parse_per_s": round(ours.per_s),
        "parse_vs_cryptofeed": round(_median_ratio(theirs, ours), 2),
    }


_NAMES = {
    "together": f"K2, 15 fields, ids checked, {TOGETHER} frames a read",
    "alone": "K2, 15 fields, ids checked, one frame a read",
    "decoder": "K2, decoder alone",
    "cryptofeed": "cryptofeed message_handler (aggTrade), no ids checked",
}


def parse_candidates() -> dict[str, tuple[int, Callable[[], object]]]:
    """Return what makes trades of the same frames, each checked to make all of them."""
    frames = [write_trade(number) for number in range(FRAMES)]
    venue = Binance(["BTC/USDT"])

    def hear(together: int) -> None:
        # As after a restart: what follows the position goes on at once.
        now_ns = time.monotonic_ns()
        before = Position(FIRST_ID - 1, FIRST_MS * 1000 - 1)
        feed = VenueFeed(venue, now_ns, {PAIR: before})
        feed.act(now_ns)
        for place in range(0, FRAMES, together):
            some = frames[place : place + together]
            feed.hear_all(0, some, time.time_ns(), time.monotonic_ns())
        assert feed.trades == FRAMES

    def decode() -> None:
        trades: list[Trade] = []
        for frame in frames:
            trades += venue.decode(frame, time.time_ns() // 1000).trades
        assert len(trades) == FRAMES

    functions: dict[str, Callable[[], object]] = {
        "together": lambda: hear(TOGETHER),
        "alone": lambda: hear(1),
        "decoder": decode,
        "cryptofeed": open_cryptofeed(),
    }
    return {_NAMES[name]: (FRAMES, function) for name, function in functions.items()}


def open_cryptofeed() -> Callable[[], None]:
    """Return cryptofeed's own handler on the same trades, as the one stream of trades it reads.

    It knows `aggTrade` alone: the same text but for that name and the id's key.
    """
    frames = [write_trade(n, b"aggTrade", b"a").decode() for n in range(FRAMES)]
    Symbols.set("BINANCE", {"BTC-USDT": PAIR}, {"instrument_type": {"BTC-USDT": "spot"}})
    heard = 0

    async def note(trade: Any, receipt_s: float) -> None:
        nonlocal heard
        heard += 1

    feed = CryptofeedBinance(symbols=["BTC-USDT"], channels=[TRADES], callbacks={TRADES: note})

    async def handle_all() -> None:
        for frame in frames:
            await feed.message_handler(frame, None, time.time())

    def run_all() -> None:
        before = heard
        asyncio.run(handle_all())
        assert heard - before == FRAMES

    return run_all


def report_clients(report: Report, rounds: dict[str, list[Took]]) -> dict[str, float]:
    """Report trades a CPU second; the ratio is of rounds, so that a busy one is so for all."""
    names = {
        "picows": "K2, picows",
        "websockets": "K2, websockets",
        "plain": "json + fastavro + confluent-kafka, websockets",
    }
    rows, rates = [], {}
    for name, title in names.items():
        per_cpu_s = [took.trades / took.cpu_s for took in rounds[name]]
        per_wall_s = statistics.median(took.trades / took.wall_s for took in rounds[name])
        rates[name] = statistics.median(per_cpu_s)
        figures = (rates[name], min(per_cpu_s), max(per_cpu_s), per_wall_s)
        rows.append([title, *(f"{figure:,.0f}" for figure in figures)])
    report.table(
        f"Loopback socket → acknowledged by Kafka, one process, {len(rounds['plain'])} rounds",
        ["", "trades / CPU s, median", "worst round", "best round", "trades / s, wall"],
        rows,
    )
    return {
        "socket_to_kafka_per_cpu_s": round(rates["picows"]),
        "socket_to_kafka_websockets_per_cpu_s": round(rates["websockets"]),
        "plain_loop_per_cpu_s": round(rates["plain"]),
    }


def _median_ratio(theirs: Spread, ours: Spread) -> float:
    return statistics.median(a / b for a, b in zip(theirs.seconds, ours.seconds, strict=True))
