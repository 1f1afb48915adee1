"""The replay exchange as a server: `python -m k2_connectors.testing --trades 100000 --rate 500`.

Three exchanges of one seeded market, live: it goes on whether or not anybody listens. `/ledger`
says what was truly sent, `/status` how far it is.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from k2_schemas import InstrumentList

from .exchange import ReplayExchange
from .ledger import Ledger
from .market import EVERY_LISTING, EVERY_PATTERN, MarketModel, exchanges
from .playback import play_model

_SMALLEST_SHARE = 0.3
"""Of `EVERY_PATTERN`, by venue."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser("python -m k2_connectors.testing", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8765, help="%(default)s")
    parser.add_argument("--trades", type=int, default=100_000, help="in all (%(default)s)")
    parser.add_argument("--rate", type=float, default=100.0, help="a venue's trades a second")
    parser.add_argument("--venue", action="append", help="only this one; repeatable")
    parser.add_argument("--seed", type=int, default=7, help="of the market (%(default)s)")
    parser.add_argument("--ledger", type=Path, help="file to keep it in; else it goes with us")
    told = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        asyncio.run(_serve(told, told.ledger or Path(folder) / "ledger.db"))


async def _serve(told: argparse.Namespace, ledger_file: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with Ledger(ledger_file) as ledger:
        epoch_us = ledger.keep("served_since_us", time.time_ns() // 1000)
        # As fast as the venue with the fewest trades emits its own, so that none is of the future.
        spacing_us = ledger.keep("spacing_us", int(_SMALLEST_SHARE * 1_000_000 / told.rate))
        model = MarketModel(told.seed, epoch_us, EVERY_LISTING, EVERY_PATTERN, spacing_us)
        wanted = told.venue or list(exchanges(EVERY_LISTING))
        names = {
            name: symbols for name, symbols in exchanges(EVERY_LISTING).items() if name in wanted
        }
        frames = play_model(model, told.trades, bad_input=False)
        exchange = ReplayExchange(
            {name: frames[name] for name in names},
            {name: [i.pair for i in InstrumentList(name, names[name])] for name in names},
            ledger,
            live=True,
            trades_per_s=told.rate,
        )
        async with exchange.serve(told.port, told.host) as port:
            print(f"ws://{told.host}:{port}/<exchange>, {', '.join(names)}", flush=True)  # noqa: T201
            await stop.wait()


if __name__ == "__main__":
    main()
