"""Rollup: candles as DuckDB reads them, out of trades or out of smaller candles, exact.

Open and close, first and last are by (timestamp, source_sequence): trade ids are text, and "9" is
not above "10". Only where a venue has no numbers the text decides, so that the same trades make the
same candle in whatever order they are read. No float is used: sums are of decimals, and the VWAP is
the quotient of whole numbers, rounded half up to 8 digits. A turnover beyond decimal(38,16) is
NULL, and so is its VWAP: no trade, however absurd, may stop whoever makes or reads candles.
"""

from __future__ import annotations

from datetime import timedelta

CANDLE_COLUMNS = (
    "exchange",
    "symbol",
    "start",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "vwap",
    "trade_count",
    "first_trade_id",
    "last_trade_id",
)

MINUTE = timedelta(minutes=1)


def pick_versions_sql(candles: str) -> str:
    """Return SQL for the candles that hold: of each minute the highest version.

    It is the one that another minute follows; to number each minute's versions takes twice as long.
    """
    follower = "lead(start) OVER (PARTITION BY exchange, symbol ORDER BY start, version)"
    return (
        f"SELECT {', '.join(CANDLE_COLUMNS)} FROM ({candles}) "
        f"QUALIFY {follower} IS DISTINCT FROM start"
    )


def of_trades_sql(trades: str) -> str:
    """Return SQL for one-minute candles of trades."""
    place = '("timestamp", source_sequence, trade_id)'
    whole = "sum(price::DECIMAL(38, 8) * trunc(quantity))"
    rest = "sum(price::DECIMAL(38, 8) * (quantity - trunc(quantity))::DECIMAL(18, 8))"
    return f"""
SELECT exchange, symbol, start, open, high, low, close, volume, quote_volume,
  {_divide_sql()} AS vwap, trade_count, first_trade_id, last_trade_id
FROM (
  SELECT
    exchange,
    symbol,
    {_begin_sql("timestamp", MINUTE)} AS start,
    arg_min(price, {place}) AS open,
    max(price) AS high,
    min(price) AS low,
    arg_max(price, {place}) AS close,
    sum(quantity)::DECIMAL(38, 8) AS volume,
    {_add_sql(whole, rest)} AS quote_volume,
    count(*) AS trade_count,
    arg_min(trade_id, {place}) AS first_trade_id,
    arg_max(trade_id, {place}) AS last_trade_id
  FROM ({trades})
  GROUP BY ALL
)"""


def roll_up_sql(minutes: str, step: timedelta) -> str:
    """Return SQL for candles of `step` out of one-minute candles."""
    if step == MINUTE:
        return minutes
    whole = "sum(trunc(minutes.quote_volume))"
    rest = "sum(minutes.quote_volume - trunc(minutes.quote_volume)::DECIMAL(38, 16))"
    return f"""
SELECT exchange, symbol, start, open, high, low, close, volume, quote_volume,
  {_divide_sql()} AS vwap, trade_count, first_trade_id, last_trade_id
FROM (
  SELECT
    exchange,
    symbol,
    {_begin_sql("start", step)} AS start,
    arg_min(minutes.open, minutes.start) AS open,
    max(minutes.high) AS high,
    min(minutes.low) AS low,
    arg_max(minutes.close, minutes.start) AS close,
    sum(minutes.volume)::DECIMAL(38, 8) AS volume,
    -- A sum with a turnover that is beyond is beyond too.
    if(count(minutes.quote_volume) = count(*), {_add_sql(whole, rest)}, NULL) AS quote_volume,
    sum(minutes.trade_count)::BIGINT AS trade_count,
    arg_min(minutes.first_trade_id, minutes.start) AS first_trade_id,
    arg_max(minutes.last_trade_id, minutes.start) AS last_trade_id
  FROM ({minutes}) AS minutes
  GROUP BY exchange, symbol, {_begin_sql("start", step)}
)"""


def _begin_sql(column: str, step: timedelta) -> str:
    """Return SQL for where the candle of a time begins: whole numbers know no time zone."""
    micros = step // timedelta(microseconds=1)
    return f'make_timestamptz(epoch_us("{column}") // {micros} * {micros})'


def _add_sql(whole: str, rest: str) -> str:
    """Return SQL for two parts of a sum as decimal(38,16), or NULL when it does not fit.

    DuckDB raises when a sum of decimals overflows; neither of the parts can.
    """
    fits = f"{whole}::DECIMAL(38, 8) + trunc({rest}) < 10000000000000000000000"
    return f"if({fits}, {whole}::DECIMAL(38, 16) + {rest}::DECIMAL(38, 16), NULL)"


def _divide_sql() -> str:
    """Return SQL for quote_volume / volume, half up. DuckDB's own division gives a double.

    Turnover in 1e-16 by volume in 1e-8 is in 1e-8. Twice the remainder is not compared with the
    divisor: it may not fit.
    """
    turnover, units = _to_units_sql("quote_volume"), _to_units_sql("volume")
    whole, rest = f"({turnover} // {units})", f"({turnover} % {units})"
    rounded = f"({whole} + if({rest} >= {units} - {rest}, 1, 0))"
    return f"({rounded}::DECIMAL(38, 0) * 0.00000001::DECIMAL(38, 8))::DECIMAL(18, 8)"


def _to_units_sql(column: str) -> str:
    """Return SQL for a decimal as the whole number of its last digits."""
    return f"replace({column}::VARCHAR, '.', '')::HUGEINT"
