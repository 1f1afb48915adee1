"""Candles: a symbol's candles in the terminal, as tables or drawn."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any

import plotext
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from k2_medallion import LakeReader

from .rows import escape_text

_MAX_ROWS_SHOWN = 200
_DEMO_HEIGHT = 12
_PRICES = ("open", "high", "low", "close")
_PAIRS_SQL = "SELECT DISTINCT exchange, symbol FROM gold_crypto_trades ORDER BY ALL"

Candle = dict[str, Any]


def draw_candles(lake: LakeReader, width: int) -> list[str]:
    """Return one drawing per exchange and symbol: its newest minutes, `width` columns wide."""
    pairs = lake.sql(_PAIRS_SQL).to_arrow().to_pylist()
    found = [lake.candles(pair["symbol"], exchange=pair["exchange"]) for pair in pairs]
    return [draw(result.to_arrow().to_pylist(), "1m", width, _DEMO_HEIGHT) for result in found]


def print_candles(result: pa.Table, interval: str, console: Console, *, plot: bool) -> None:
    """Print the newest candles of each exchange, at least one: a table, or as large as fits."""
    exchanges = [list(group) for _, group in groupby(result.to_pylist(), itemgetter("exchange"))]
    for candles in exchanges:
        if plot:
            # A line is left for the prompt that follows; several exchanges share the screen.
            height = max(_DEMO_HEIGHT, (console.height - 1) // len(exchanges))
            console.print(Text.from_ansi(draw(candles, interval, console.width, height)))
        else:
            console.print(tabulate(candles, interval))


def tabulate(candles: Sequence[Candle], interval: str) -> Table:
    """Return one exchange's newest candles for people: no digit more than a column needs.

    Of the VWAP two digits more than prices have.
    """
    shown = candles[-_MAX_ROWS_SHOWN:]
    table = Table(title=_entitle(shown, interval), box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("start (UTC)", no_wrap=True)
    for name in (*_PRICES, "volume", "vwap", "trades"):
        table.add_column(name, justify="right")
    digits = _count_digits([candle[name] for candle in shown for name in _PRICES])
    of_volume = _count_digits([candle["volume"] for candle in shown])
    times = "%Y-%m-%d" if interval == "1d" else "%Y-%m-%d %H:%M"
    for candle in shown:
        table.add_row(
            f"{candle['start']:{times}}",
            *(_write(candle[name], digits) for name in _PRICES),
            _write(candle["volume"], of_volume),
            _write(candle["vwap"], digits + 2),
            f"{candle['trade_count']:,}",
        )
    if len(shown) < len(candles):
        table.caption = f"the newest of {len(candles):,}; --csv or --json print all"
    return table


def draw(candles: Sequence[Candle], interval: str, width: int, height: int) -> str:
    """Return a drawing of one exchange's newest candles, as many as fit."""
    # A candle and the gap beside it; the axis takes about as many columns as a price has digits.
    shown = candles[-max(1, (width - 14) // 2) :]
    labels, dates = ("%d/%m/%Y", "d/m/Y") if interval == "1d" else ("%d/%m %H:%M", "d/m H:M")
    plotext.clear_figure()
    plotext.theme("clear")
    # Else plotext asks the terminal by itself, and takes a pipe for one of 80 columns.
    plotext.limit_size(False, False)
    plotext.plot_size(width, height)
    plotext.date_form(dates)
    # Floats are for drawing only; the candles' decimals are exact.
    series = {
        name.capitalize(): [float(candle[name]) for candle in shown]
        for name in ("open", "close", "high", "low")
    }
    plotext.candlestick([f"{candle['start']:{labels}}" for candle in shown], series)
    plotext.title(_entitle(shown, interval))
    return str(plotext.build()).rstrip("\n")


def _entitle(candles: Sequence[Candle], interval: str) -> str:
    trades = sum(candle["trade_count"] for candle in candles)
    symbol, exchange = (escape_text(candles[0][name]) for name in ("symbol", "exchange"))
    number = _count(len(candles), "candle")
    return f"{symbol} on {exchange}: {number} of {interval}, {_count(trades, 'trade')}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _count_digits(numbers: Sequence[Decimal]) -> int:
    """Return how many digits after the point the longest number needs."""
    exponents = (number.normalize().as_tuple().exponent for number in numbers)
    return max(0, *(-int(exponent) for exponent in exponents))


def _write(number: Decimal | None, digits: int) -> str:
    return "unknown" if number is None else f"{number:.{digits}f}"
