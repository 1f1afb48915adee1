"""Exchange: the replay exchange as a process of its own."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from k2_connectors.testing import Ledger, ReplayExchange

from .plan import Plan, list_pairs
from .stack import check_port


def serve_plan(plan: Plan, port: int) -> None:
    """Serve a plan on 127.0.0.1 until SIGTERM or Ctrl-C."""
    check_port(port, "the replay exchange")
    with Ledger(Path(plan.ledger)) as ledger:
        exchange = ReplayExchange(plan.play(ledger), list_pairs(plan.list_exchanges()), ledger)
        asyncio.run(_serve(exchange, port))


async def _serve(exchange: ReplayExchange, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with exchange.serve(port):
        await stop.wait()
