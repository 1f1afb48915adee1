"""Read: trades, candles and SQL over the lake, in milliseconds. No Spark, no server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import duckdb
from pyiceberg.expressions import And

from .catalog import LakeHome
from .data_files import find_path
from .duck import open_duck
from .errors import CatalogError, QueryError
from .lake import Lake
from .minutes import Minutes
from .result import Result, translate_errors
from .rollup import roll_up_sql
from .sandbox import Sandbox
from .scan import (
    choose_columns,
    is_equal,
    is_equal_sql,
    is_within,
    is_within_sql,
    quote_name,
    scan_sql,
)
from .snapshots import AsOf, find_snapshot
from .tables import GOLD_TRADES
from .window import Window, find_interval

_TRADE_ORDER = '"timestamp", exchange, source_sequence'
_CANDLE_ORDER = "exchange, symbol, start"


class LakeReader:
    """Answers from the lake as it is when asked, or as it was: `as_of` a snapshot, time or tag.

    `as_of` given here holds for every question that does not bring its own. An answer is of one
    state: what is published after the question is not in it. Nothing can be written through a
    reader. Use it as a context manager or close it, and in one thread at a time.
    """

    def __init__(self, home: LakeHome, *, as_of: AsOf | None = None) -> None:
        self._as_of = as_of
        self._lake = Lake(home)
        self._duck: duckdb.DuckDBPyConnection | None = open_duck(home.file_io)
        self._minutes = Minutes(self._lake, self._duck)
        self._sandbox: Sandbox | None = None

    def __enter__(self) -> LakeReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; results that are not read yet cannot be read any more."""
        if self._duck is None:
            return
        self._duck.close()
        self._lake.close()
        if self._sandbox is not None:
            self._sandbox.close()
        # Freed now: a connection that lives until Python ends makes DuckDB report leaks.
        self._duck = self._sandbox = None
        del self._minutes

    def trades(
        self,
        symbol: str,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        columns: Sequence[str] | None = None,
        exchange: str | None = None,
        as_of: AsOf | None = None,
    ) -> Result:
        """Return the trades of a symbol (`BTC/USDT`) from `start` to before `end`.

        Ordered by time, exchange and the exchange's own number; of every exchange unless one is
        named. An unknown symbol has no trades. Raises `QueryError` for an unknown column, a time
        without zone, a start after the end, or a state that is not kept.
        """
        duck, window = self._connection, Window.make(start, end)
        tables = self._lake.load(GOLD_TRADES)
        table = self._lake.require(tables, GOLD_TRADES)
        names = [field.name for field in table.schema().fields]
        chosen = ", ".join(map(quote_name, choose_columns(names, columns)))
        exchange = exchange and exchange.upper()
        files = self._lake.plan(
            table,
            find_snapshot(GOLD_TRADES.name, tables, self._choose(as_of)),
            And(is_within("timestamp", window), is_equal("exchange", exchange)),
        )
        where = " AND ".join(
            (
                is_within_sql("timestamp", window),
                is_equal_sql("symbol", symbol),
                is_equal_sql("exchange", exchange),
            )
        )
        rows = f"SELECT * FROM ({scan_sql(table.schema(), files)}) WHERE {where}"
        return Result(duck, f"SELECT {chosen} FROM ({rows})", _TRADE_ORDER)

    def candles(
        self,
        symbol: str,
        interval: str = "1m",
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        exchange: str | None = None,
        as_of: AsOf | None = None,
    ) -> Result:
        """Return the candles of a symbol that begin from `start` to before `end`.

        `interval` is 1m, 5m, 15m, 30m, 1h or 1d (UTC). All are exact and whole: one that begins
        before `start` is left out, one that begins before `end` is not cut. Ordered by exchange and
        start; the last one may still be growing. Raises `QueryError` as `trades` does.
        """
        duck, step = self._connection, find_interval(interval)
        window = Window.make(start, end).align(step)
        with translate_errors():
            minutes = self._minutes.select(
                symbol, window, exchange and exchange.upper(), self._choose(as_of)
            )
        return Result(duck, f"SELECT * FROM ({roll_up_sql(minutes, step)})", _CANDLE_ORDER)

    def sql(self, query: str, *, as_of: AsOf | None = None) -> Result:
        """Run one SELECT over the tables, each by its own name; raise `QueryError` for all else.

        It is run at once, on a connection that can neither write nor see anything but the tables.
        """
        duck, meant = self._connection, self._choose(as_of)
        self._sandbox = self._sandbox or Sandbox()
        tables = self._lake.load_all()
        for name, table in tables.items():
            try:
                self._sandbox.show(name, table, find_snapshot(name, tables, meant))
            except QueryError:
                # Not kept as it was then: an error for who asks for it, nobody else's business.
                if name in query:
                    raise
                self._sandbox.hide(name)
        return Result(duck, self._sandbox.run(query))

    @property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        if self._duck is None:
            raise QueryError("the reader is closed; open the lake again")
        return self._duck

    def _choose(self, as_of: AsOf | None) -> AsOf | None:
        return self._as_of if as_of is None else as_of


def open(uri: str | Path, *, as_of: AsOf | None = None) -> LakeReader:
    """Open the lake in a folder, named by its path or a `file:` URI, for reading.

    Raises `CatalogError` when there is none.
    """
    text = str(uri)
    scheme, colon, _ = text.partition(":/")
    if colon and scheme != "file" and "/" not in scheme:
        raise CatalogError(f"cannot open {text}: a lake is a folder of this machine, or file:/…")
    return LakeReader(LakeHome(Path(find_path(text))), as_of=as_of)
