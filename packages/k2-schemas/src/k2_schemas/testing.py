"""Example trades, for your tests and ours."""

from __future__ import annotations

from .trade import Side, Trade
from .units import parse_units

EXAMPLE_TIME_US = 1_723_161_255_342_000


def make_trade(
    trade_id: int = 3_735_683_259,
    *,
    price: str = "61837.63000000",
    quantity: str = "0.02000000",
    side: Side = "SELL",
    timestamp_us: int = EXAMPLE_TIME_US,
    exchange: str = "BINANCE",
    symbol: str = "BTC/USDT",
    pair: str = "BTCUSDT",
) -> Trade:
    """Return a valid trade that differs from the default only in what you name."""
    return Trade(
        trade_id=str(trade_id),
        symbol=symbol,
        exchange=exchange,
        timestamp_us=timestamp_us,
        price_units=parse_units("price", price),
        quantity_units=parse_units("quantity", quantity),
        currency=symbol.partition("/")[2],
        side=side,
        ingestion_us=timestamp_us + 1_000,
        vendor_data={"pair": pair},
        source_sequence=trade_id,
        platform_sequence=1,
    )
