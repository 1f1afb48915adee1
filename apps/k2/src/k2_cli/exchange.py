"""Exchange: the replay exchange as a process of its own."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from k2_connectors.testing import Ledger, ReplayExchange, open_recordings

from .plan import Plan, list_pairs
from .stack import check_port


def serve_plan(plan: Plan, port: int) -> None:
    """Serve a plan on 127.0.0.1 until SIGTERM or Ctrl-C."""
    check_port(port, "the replay exchange")
    with Ledger(Path(plan.ledger)) as ledger:
        exchange = ReplayExchange(plan.play(ledger), list_pairs(plan.list_exchanges()), ledger)
        asyncio.run(_serve(exchange, port))


def serve_recording(
    path: Path, symbols: Mapping[str, Sequence[str]], speed: float, port: int
) -> None:
    """Serve what k2-feed recorded, as live as it was, `speed` times as fast, until SIGTERM.

    `symbols` are those it may hold, per exchange. Times are shifted so that the newest trade is
    of now. Raises `RecordingError`.
    """
    check_port(port, "the replay exchange")
    now_us = time.time_ns() // 1000
    with TemporaryDirectory() as home, Ledger(Path(home) / "ledger.db") as ledger:
        recordings = open_recordings(path, symbols)
        emissions = {
            r.dialect.name: list(r.play(r.keep_shift(ledger, now_us), now_us)) for r in recordings
        }
        pairs = {r.dialect.name: [i.pair for i in r.instruments] for r in recordings}
        exchange = ReplayExchange(emissions, pairs, ledger, live=True, speed=speed)
        asyncio.run(_serve(exchange, port))


async def _serve(exchange: ReplayExchange, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with exchange.serve(port):
        await stop.wait()
