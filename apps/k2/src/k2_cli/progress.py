"""Progress: how far the records of a running stack have come, and waiting until they are there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from pyiceberg.catalog.sql import SqlCatalog

from k2_medallion import (
    DEAD_LETTERS,
    GOLD_TRADES,
    CatalogError,
    LakeHome,
    TableSpec,
    bronze_trades,
    open_catalog,
    silver_trades,
)
from k2_medallion.audit import OffsetRanges
from k2_medallion.catalog import count_rows, load_table

from .errors import StalledError
from .screen import Screen
from .stack import Stack
from .watermarks import read_offset_ranges

_POLL_S = 0.25
_STALL_S = 90.0


class Progress:
    """Counts what a stack's Kafka and tables hold. Every wait ends when a process has died."""

    def __init__(self, stack: Stack, screen: Screen) -> None:
        self._stack = stack
        self._screen = screen
        self._home = LakeHome(stack.home)
        self._catalog: SqlCatalog | None = None

    def has_topics(self) -> bool:
        """Tell whether k2-feed has made every topic."""
        return set(self._stack.topics) <= self._stack.broker.list_topics()

    def count_ends(self) -> int:
        """Return how many records Kafka has ever been given."""
        counts = self._stack.broker.count_records(self._stack.topics)
        return sum(end for _, end in counts.values())

    def poll(self) -> Iterator[dict[str, int]]:
        """Yield live counts, again and again, while every process lives."""
        while True:
            self._stack.check()
            counts = {"kafka": self.count_ends(), **self._count_tables()}
            self._screen.show_counts(counts)
            yield counts
            time.sleep(_POLL_S)

    def wait_for(self, ready: Callable[[], bool], complaint: str, timeout_s: float) -> None:
        """Wait until `ready`, or raise `StalledError`."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            self._stack.check()
            if time.monotonic() > deadline:
                raise StalledError(complaint, timeout_s, self._stack.feed.log)
            time.sleep(_POLL_S)

    def wait_while_moving(self, ready: Callable[[], bool], what: str) -> None:
        """Wait until `ready`, or raise `StalledError` when no count has moved for a long time."""
        moved, last = time.monotonic(), dict[str, int]()
        for counts in self.poll():
            if ready():
                return
            if counts != last:
                moved, last = time.monotonic(), counts
            if time.monotonic() - moved > _STALL_S:
                raise StalledError(f"{what} has not moved", _STALL_S, self._stack.lake.log)

    def settle(self) -> OffsetRanges:
        """Wait until every record is in Silver or the dead letters, stop the lake between batches.

        Returns what Kafka holds.
        """
        target = self.count_ends()
        self.wait_while_moving(lambda: self._count_settled() >= target, "the lake")
        self._stack.lake.stop_cleanly()
        return read_offset_ranges(self._stack.broker.address, self._stack.topics)

    def _count_settled(self) -> int:
        counts = self._count_tables()
        return counts["silver"] + counts["dlq"]

    def _count_tables(self) -> dict[str, int]:
        try:
            catalog = self._catalog = self._catalog or open_catalog(self._home)
        except CatalogError:
            return dict.fromkeys(("bronze", "silver", "dlq", "gold"), 0)
        exchanges = self._stack.all_exchanges

        def count(specs: Sequence[TableSpec]) -> int:
            return sum(count_rows(load_table(catalog, spec)) for spec in specs)

        return {
            "bronze": count([bronze_trades(name) for name in exchanges]),
            "silver": count([silver_trades(name) for name in exchanges]),
            "dlq": count([DEAD_LETTERS]),
            "gold": count([GOLD_TRADES]),
        }
