"""Candles: one-minute candles from SQL over Gold, drawn in the terminal."""

from __future__ import annotations

import plotext
import pyarrow as pa

from k2_medallion import LakeReader
from k2_medallion.read import CANDLES_SQL

_MAX_CANDLES = 45
_HEIGHT = 12


def draw_candles(lake: LakeReader, width: int) -> list[str]:
    """Return one drawing per exchange and symbol: its newest candles, `width` columns wide."""
    table = lake.sql(CANDLES_SQL)
    keys = sorted(set(zip(table["exchange"].to_pylist(), table["symbol"].to_pylist(), strict=True)))
    return [_draw(*key, _select(table, *key), width) for key in keys]


def _select(table: pa.Table, exchange: str, symbol: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = table.to_pylist()
    mine = [row for row in rows if row["exchange"] == exchange and row["symbol"] == symbol]
    return mine[-_MAX_CANDLES:]


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
