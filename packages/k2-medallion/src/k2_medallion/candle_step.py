"""Candle step: which minutes a batch has closed or changed, and their candles into the table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog.sql import SqlCatalog
from pyspark.sql import SparkSession

from .catalog import require_table
from .duck import open_duck
from .gold import Tally, select_rows
from .publish import Guard, publish_rows
from .rollup import MINUTE, of_trades_sql
from .tables import GOLD_CANDLES, GOLD_TRADES, TableSpec
from .time_range import TimeRange, from_micros, merge_ranges

_MICROSECOND = timedelta(microseconds=1)
_BEGIN = datetime(2, 1, 1, tzinfo=UTC)
"""Before any trade that decodes."""


class CandleStep:
    """The candles of one exchange (lower-case name).

    A minute closes when a later one begins on its exchange. Candles are computed from Gold as it is
    once the batch is in, by the very query that readers use for the minute that is still open: what
    is published is what a recomputation gives. DuckDB does it in milliseconds where a Spark job
    takes a second.
    """

    def __init__(self, exchange: str, catalog: SqlCatalog) -> None:
        self._exchange = exchange.upper()
        self._catalog = catalog
        # Start of the newest stored candle. Unknown until asked for; None when there is none.
        self._newest: datetime | None = None
        self._asked = False

    def publish(
        self, spark: SparkSession, guard: Guard, tally: Tally, times: pa.ChunkedArray
    ) -> int:
        """Publish a candle of every minute that has closed, and of every older one that changed.

        `times` are those of the batch's rows. Returns how many candles were published.
        """
        if GOLD_CANDLES.name in guard.held or not tally.rows:
            return 0
        ranges = self._list_ranges(tally, times)
        return self.publish_ranges(spark, guard, ranges) if ranges else 0

    def publish_ranges(self, spark: SparkSession, guard: Guard, ranges: Sequence[TimeRange]) -> int:
        """Publish the candles of whole minutes that the table lacks, or holds of fewer trades."""
        candles = self._compute(ranges)
        if candles.num_rows:
            rows = spark.createDataFrame(candles)
            publish_rows(rows, GOLD_CANDLES, guard, candles.num_rows)
            newest = max(candles["start"].to_pylist())
            self._newest = max(newest, self._newest or newest)
        return int(candles.num_rows)

    def _compute(self, ranges: Sequence[TimeRange]) -> pa.Table:
        trades = of_trades_sql(self._select(GOLD_TRADES, "timestamp", ranges))
        held = self._select(GOLD_CANDLES, "start", ranges)
        columns = ", ".join(name for name in GOLD_CANDLES.column_names if name != "version")
        with self._open_duck() as duck:
            return duck.sql(
                f"SELECT {columns}, trade_count AS version FROM ({trades}) candle"
                " WHERE trade_count > coalesce((SELECT max(version) FROM"
                f" ({held}) held WHERE held.symbol = candle.symbol AND held.start = candle.start)"
                ", 0) ORDER BY start, symbol"
            ).to_arrow_table()

    def _open_duck(self) -> duckdb.DuckDBPyConnection:
        return open_duck(require_table(self._catalog, GOLD_CANDLES).io)

    def _select(self, spec: TableSpec, column: str, ranges: Sequence[TimeRange]) -> str:
        table = require_table(self._catalog, spec)
        return select_rows(table, self._exchange, column, ranges)

    def _list_ranges(self, tally: Tally, times: pa.ChunkedArray) -> list[TimeRange]:
        """Return the closed minutes without a candle, and the older ones that the batch touches."""
        newest = self._find_newest()
        begin = _BEGIN if newest is None else newest + MINUTE
        open_minute = _floor_minute(tally.last)
        ranges = []
        if begin < open_minute:
            ranges.append(TimeRange(begin, open_minute - _MICROSECOND))
        if tally.first < begin:
            ranges += _list_minutes(times, begin)
        return merge_ranges(ranges, timedelta())

    def _find_newest(self) -> datetime | None:
        """Return the start of the newest stored candle of the exchange, or None."""
        if not self._asked:
            everything = [TimeRange(_BEGIN, datetime(9999, 1, 1, tzinfo=UTC))]
            held = self._select(GOLD_CANDLES, "start", everything)
            with self._open_duck() as duck:
                row = duck.sql(f"SELECT epoch_us(max(start)) FROM ({held})").fetchall()[0]
            self._newest = None if row[0] is None else from_micros(row[0])
            self._asked = True
        return self._newest


def _floor_minute(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0)


def _list_minutes(times: pa.ChunkedArray, before: datetime) -> list[TimeRange]:
    """Return the whole minutes before a time that some times fall into."""
    starts = pc.unique(pc.floor_temporal(times, unit="minute")).to_pylist()
    return [TimeRange(start, start + MINUTE - _MICROSECOND) for start in starts if start < before]
