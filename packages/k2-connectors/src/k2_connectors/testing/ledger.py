"""Ledger: everything that was truly sent, kept across runs. The judge of every reconciliation."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import LedgerConflictError
from .emission import Emission, SentTrade

_TABLES = """
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trades (
  exchange TEXT, pair TEXT, trade_id TEXT, symbol TEXT, price TEXT, quantity TEXT, side TEXT,
  timestamp_us INTEGER, first_sent_ns INTEGER, PRIMARY KEY (exchange, pair, trade_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bad_trades (
  exchange TEXT, pair TEXT, trade_id TEXT, symbol TEXT, price TEXT, quantity TEXT, side TEXT,
  timestamp_us INTEGER, label TEXT, PRIMARY KEY (exchange, pair, trade_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bad_records (raw BLOB PRIMARY KEY, label TEXT) WITHOUT ROWID;
"""


class Ledger:
    """An SQLite file. Written before a frame is sent, so a crash never leaves a trade unknown."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        # Must survive a killed process, not a power cut.
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def keep(self, key: str, value: int) -> int:
        """Return the setting kept under `key`: `value` the first time, and then for ever."""
        self._db.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (key, value))
        row = self._db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return int(row[0])

    def find(self, key: str) -> int | None:
        """Return the setting kept under `key`, or None."""
        row = self._db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return None if row is None else int(row[0])

    def write(self, emissions: Sequence[Emission], sent_ns: int) -> None:
        """Record emissions about to be sent at `sent_ns`; raise `LedgerConflictError`."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._write_trades(list(chain.from_iterable(e.trades for e in emissions)), sent_ns)
            self._db.executemany(
                "INSERT OR IGNORE INTO bad_trades VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(*trade, label) for e in emissions for trade, label in e.bad_trades],
            )
            self._write_bad_records((e.frame, e.bad_frame) for e in emissions if e.bad_frame)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def write_bad_records(self, records: Iterable[tuple[bytes, str]]) -> None:
        """Record (bytes, label) pairs about to be produced straight to a topic."""
        self._write_bad_records(records)

    def _write_bad_records(self, records: Iterable[tuple[bytes, str | None]]) -> None:
        self._db.executemany("INSERT OR IGNORE INTO bad_records VALUES (?, ?)", records)

    def _write_trades(self, trades: Sequence[SentTrade], sent_ns: int) -> None:
        before = self._db.total_changes
        self._db.executemany(
            "INSERT OR IGNORE INTO trades VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(*trade, sent_ns) for trade in trades],
        )
        if self._db.total_changes - before < len(trades):
            for trade in trades:
                self._check_same(trade)

    def _check_same(self, trade: SentTrade) -> None:
        row = self._db.execute(
            "SELECT symbol, price, quantity, side, timestamp_us FROM trades"
            " WHERE exchange = ? AND pair = ? AND trade_id = ?",
            trade[:3],
        ).fetchone()
        if row != tuple(trade[3:]):
            raise LedgerConflictError(*trade[:3])

    def count_trades(self) -> int:
        """Count the distinct valid trades ever sent."""
        return int(self._db.execute("SELECT count(*) FROM trades").fetchone()[0])

    def trades(self) -> Iterator[tuple[SentTrade, int]]:
        """Yield every valid trade with the time it was first sent (ns since 1970 UTC)."""
        for row in self._db.execute("SELECT * FROM trades"):
            yield SentTrade(*row[:8]), row[8]

    def bad_trades(self) -> Iterator[tuple[SentTrade, str]]:
        """Yield every trade that no rule may accept, with its label."""
        for row in self._db.execute("SELECT * FROM bad_trades"):
            yield SentTrade(*row[:8]), row[8]

    def bad_records(self) -> Iterator[tuple[bytes, str]]:
        """Yield the bytes of all that must become a dead letter, each with its label."""
        for raw, label in self._db.execute("SELECT raw, label FROM bad_records"):
            yield bytes(raw), label
