"""Candles: one-minute candles from SQL over Gold, drawn in the terminal."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter

import plotext

from k2_medallion import LakeReader
from k2_medallion.read import CANDLES_SQL

_MAX_CANDLES = 45
_HEIGHT = 12


def draw_candles(lake: LakeReader, width: int) -> list[str]:
    """Return one drawing per exchange and symbol: its newest candles, `width` columns wide."""
    # The query orders by exchange and symbol, so each pair's candles stand together.
    pairs = groupby(lake.sql(CANDLES_SQL).to_pylist(), itemgetter("exchange", "symbol"))
    return [
        _draw(exchange, symbol, list(candles)[-_MAX_CANDLES:], width)
        for (exchange, symbol), candles in pairs
    ]


def _draw(exchange: str, symbol: str, candles: list[dict[str, object]], width: int) -> str:
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(width, _HEIGHT)
    plotext.date_form("d/m H:M")
    times = [candle["start"].strftime("%d/%m %H:%M") for candle in candles]  # type: ignore[attr-defined]
    # Floats are for drawing only; the query's decimals are exact.
    series = {
        name.capitalize(): [float(str(candle[name])) for candle in candles]
        for name in ("open", "close", "high", "low")
    }
    plotext.candlestick(times, series)
    trades = sum(int(str(candle["trades"])) for candle in candles)
    plotext.title(f"{symbol} on {exchange}: {len(candles)} candles of 1 minute, {trades:,} trades")
    return str(plotext.build())
