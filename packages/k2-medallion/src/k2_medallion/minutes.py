"""Minutes: the lake's one-minute candles, those that are stored and those that are not yet.

The writer stores a minute once a later one has begun on its exchange. What is newer than an
exchange's newest stored candle is computed from Gold; before the first batch that is everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

import duckdb
from pyiceberg.expressions import And
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from .data_files import plan_data_files
from .lake import Lake
from .rollup import CANDLE_COLUMNS, MINUTE, of_trades_sql, pick_versions_sql
from .scan import is_equal, is_equal_sql, is_within, is_within_sql, scan_sql
from .snapshots import AsOf, find_snapshot
from .tables import GOLD_CANDLES, GOLD_TRADES
from .window import Window

NewestStarts = Mapping[str, datetime]
"""Per exchange, the start of its newest stored candle."""


class Minutes:
    """Writes SQL for one-minute candles, and remembers how far each exchange's are stored."""

    def __init__(self, lake: Lake, duck: duckdb.DuckDBPyConnection) -> None:
        self._lake = lake
        self._duck = duck
        # Rows are only added, so only files that were not there before need to be looked into.
        self._seen: set[str] = set()
        self._newest: dict[str, datetime] = {}
        self._newest_of: int | None = None

    def select(self, symbol: str, window: Window, exchange: str | None, as_of: AsOf | None) -> str:
        """Return SQL for the candles of a symbol whose minutes begin within a window."""
        # Gold is published before its candles: of one reading of the catalog it is never older.
        tables = self._lake.load(GOLD_CANDLES, GOLD_TRADES)
        parts = []
        newest: NewestStarts = {}
        if GOLD_CANDLES.name in tables:
            table = tables[GOLD_CANDLES.name]
            snapshot_id = find_snapshot(GOLD_CANDLES.name, tables, as_of)
            newest = self._find_newest(table, snapshot_id, as_of)
            condition = And(is_within("start", window), is_equal("exchange", exchange))
            scan = scan_sql(table.schema(), self._lake.plan(table, snapshot_id, condition))
            where = f"{is_within_sql('start', window)} AND {is_equal_sql('exchange', exchange)}"
            stored = f"SELECT * FROM ({scan}) WHERE {where} AND {is_equal_sql('symbol', symbol)}"
            parts.append(pick_versions_sql(stored))
        parts += self._compute(tables, symbol, window, exchange, newest, as_of)
        columns = ", ".join(CANDLE_COLUMNS)
        return " UNION ALL ".join(f"SELECT {columns} FROM ({part})" for part in parts)

    def _compute(
        self,
        tables: Mapping[str, Table],
        symbol: str,
        window: Window,
        exchange: str | None,
        newest: NewestStarts,
        as_of: AsOf | None,
    ) -> Iterator[str]:
        """Yield SQL for the candles of each exchange that are not stored yet."""
        exchanges = [exchange] if exchange else self._lake.list_exchanges()
        for name in exchanges:
            later = window.begin_at(newest[name] + MINUTE) if name in newest else window
            if later.empty:
                continue
            table = self._lake.require(tables, GOLD_TRADES)
            snapshot_id = find_snapshot(GOLD_TRADES.name, tables, as_of)
            condition = And(is_within("timestamp", later), is_equal("exchange", name))
            scan = scan_sql(table.schema(), self._lake.plan(table, snapshot_id, condition))
            where = f"{is_within_sql('timestamp', later)} AND {is_equal_sql('exchange', name)}"
            trades = f"SELECT * FROM ({scan}) WHERE {where} AND {is_equal_sql('symbol', symbol)}"
            yield of_trades_sql(trades)

    def _find_newest(
        self, table: Table, snapshot_id: int | None, as_of: AsOf | None
    ) -> NewestStarts:
        if as_of is not None:
            return self._read_newest(table, plan_data_files(table, snapshot_id))
        if snapshot_id != self._newest_of:
            files = plan_data_files(table, snapshot_id)
            new = [file for file in files if file.file_path not in self._seen]
            for name, start in self._read_newest(table, new).items():
                self._newest[name] = max(start, self._newest.get(name, start))
            self._seen = {file.file_path for file in files}
            self._newest_of = snapshot_id
        return self._newest

    def _read_newest(self, table: Table, files: list[DataFile]) -> NewestStarts:
        scan = scan_sql(table.schema(), files)
        query = f"SELECT exchange, max(start) AS start FROM ({scan}) GROUP BY exchange"
        rows = self._duck.sql(query).to_arrow_table().to_pylist()
        return {row["exchange"]: row["start"] for row in rows}
