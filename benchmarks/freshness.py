"""Freshness: how old rows are when readers can see them, read from what was published."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow.compute as pc
from pyiceberg.catalog.sql import SqlCatalog

from k2_medallion import LakeHome, open_catalog
from k2_medallion.added_rows import read_added_rows
from k2_medallion.catalog import load_table
from k2_medallion.published import walk_published
from k2_medallion.tables import TableSpec

_SAMPLED = 5
"""One row of so many is measured: a batch's rows are alike."""


@dataclass(slots=True)
class Freshness:
    """Ages in seconds, per name; `tables` are, per name, a table and the column to count from.

    What is there at the first look is not measured.
    """

    home: LakeHome
    tables: Mapping[str, tuple[TableSpec, str]]
    ages: dict[str, list[float]] = field(default_factory=dict)
    _seen: dict[str, set[int]] = field(default_factory=dict)

    def look(self) -> None:
        """Take every batch that was published since the last look."""
        catalog = open_catalog(self.home)
        for name, (spec, column) in self.tables.items():
            self._look_at(catalog, name, spec, column)
        catalog.close()

    def quantile(self, name: str, percent: int) -> float:
        """Return the age that this part of the rows are below."""
        return statistics.quantiles(self.ages[name], n=100)[percent - 1]

    def _look_at(self, catalog: SqlCatalog, name: str, spec: TableSpec, column: str) -> None:
        table = load_table(catalog, spec)
        assert table is not None, name
        seen, ages = self._seen.setdefault(name, set()), self.ages.setdefault(name, [])
        # A batch is visible from when it became current; its own time is when it was staged.
        visible_ms = {entry.snapshot_id: entry.timestamp_ms for entry in table.history()}
        first_look = not seen
        for batch in walk_published(table):
            if batch.snapshot_id in seen:
                break
            seen.add(batch.snapshot_id)
            if not first_look:
                times = read_added_rows(table, batch.snapshot_id, [column])[column]
                micros = pc.cast(times, "int64").to_pylist()[::_SAMPLED]
                ages += [visible_ms[batch.snapshot_id] / 1000 - micro / 1e6 for micro in micros]
