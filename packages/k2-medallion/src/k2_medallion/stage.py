"""Stage: what one flow has published, promoted batch by batch into the tables after it.

Where a stage stands is in its own tables: the ids it has published there. It needs no checkpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import structlog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from pyspark.sql import SparkSession

from .added_rows import find_newest_ms
from .batch_report import BatchReport
from .catalog import require_table, set_property
from .publish import Guard
from .published import PublishedSnapshot, list_published, walk_flow, written_key
from .tables import DEAD_LETTERS, GOLD_CANDLES, GOLD_TRADES, TableSpec

if TYPE_CHECKING:
    from .promotion import Promotion

_log = structlog.get_logger()

Pending = tuple[PublishedSnapshot, Guard]
"""An upstream batch, and under which id it is to be promoted."""


class Stage(ABC):
    """Promotes the batches of one upstream flow, in their order, each once.

    `targets` all carry every finished batch; `optional` ones carry it if it gave them rows.
    """

    flow: str
    upstream: TableSpec
    upstream_time: str = "kafka_timestamp"
    """The column that says how old an upstream row is."""
    upstream_flow: str
    targets: tuple[TableSpec, ...]
    optional: tuple[TableSpec, ...] = ()

    def __init__(self, promotion: Promotion, catalog: SqlCatalog) -> None:
        self.promotion = promotion
        self._catalog = catalog
        self._told = False

    @abstractmethod
    def promote(
        self, spark: SparkSession, published: PublishedSnapshot, guard: Guard
    ) -> BatchReport:
        """Publish what follows from one upstream batch."""

    def identify(self, published: PublishedSnapshot) -> str:
        """Return the id of an upstream batch here: `k2:<flow>:<its snapshot's sequence number>`."""
        return f"k2:{self.flow}:{published.sequence_number}"

    def find_newest_ms(self, published: PublishedSnapshot) -> int:
        """Return the newest time (ms since 1970) of an upstream batch; 0 if it has no rows."""
        return find_newest_ms(self._load(self.upstream), published.snapshot_id, self.upstream_time)

    def list_pending(self, *, at_start: bool = False) -> list[Pending]:
        """Return the upstream batches that are not in every table yet, oldest first.

        At a start the last finished batch is listed too when an optional table lacks it: whether it
        gave that table rows, only doing it again can say.
        """
        upstream = self._list_upstream()
        carried = {spec.name: self._list_carried(spec) for spec in (*self.targets, *self.optional)}
        self._tell_if_forgotten(upstream, carried)
        begin = self._find_begin(upstream, carried[self.targets[-1].name])
        if at_start and begin and self._lacks_optional(upstream[begin - 1], carried):
            begin -= 1
        return [self._guard(published, carried) for published in upstream[begin:]]

    def find_needed(self, spec: TableSpec) -> int | None:
        """Return the oldest snapshot of a table that this stage needs; None if it needs none.

        It needs what is pending, of its upstream also the batch before that, and what says where it
        stands, unless that is written down.
        """
        if spec not in (self.upstream, *self.targets):
            return None
        upstream, begin = self._find_place()
        finished = self.identify(upstream[begin - 1]) if begin else None
        needed = {self.identify(published) for published in upstream[begin:]}
        if spec == self.upstream:
            if not upstream or (not needed and self._read_written(self.targets[-1]) == finished):
                return None
            return upstream[max(0, begin - 1)].snapshot_id
        if finished is not None and self._read_written(spec) != finished:
            needed.add(finished)
        published = list_published(self._load(spec), self.flow)
        return next((found.snapshot_id for found in published if found.publish_id in needed), None)

    def write_down(self, before: datetime) -> None:
        """Write where this stage stands into its tables, if it has stood there since a time.

        The snapshots that say it would have to be kept for as long as an exchange is silent, or
        another topology runs, and every later one of the table with them. A batch that was finished
        just now may be in the hands of a second driver, which only these snapshots can refuse.
        """
        upstream, begin = self._find_place()
        if not begin:
            return
        finished = self.identify(upstream[begin - 1])
        if self._is_older(self.targets[-1], finished, before):
            for spec in self.targets:
                set_property(self._catalog, spec, self._written_key, lambda _: finished)

    def finish_pending(self, spark: SparkSession) -> Iterator[BatchReport]:
        """Promote every pending batch, one after the other; before any flow runs."""
        at_start = True
        # Listed anew for each: what was true of the tables an hour ago is not to be relied on.
        while pending := self.list_pending(at_start=at_start):
            at_start = False
            yield self.promote(spark, *pending[0])

    def _list_upstream(self) -> list[PublishedSnapshot]:
        return list_published(self._load(self.upstream), self.upstream_flow)

    def _find_place(self) -> tuple[list[PublishedSnapshot], int]:
        """Return the upstream batches, and how many of them are in every target table."""
        upstream = self._list_upstream()
        return upstream, self._find_begin(upstream, self._list_carried(self.targets[-1]))

    def _find_begin(self, upstream: list[PublishedSnapshot], in_last: Iterable[str]) -> int:
        """Return the place after the newest upstream batch that is in every target table.

        The last one says it: a batch is published there after all others.
        """
        known = {*in_last, self._read_written(self.targets[-1])}
        for place in range(len(upstream), 0, -1):
            if self.identify(upstream[place - 1]) in known:
                return place
        return 0

    @property
    def _written_key(self) -> str:
        return written_key(self.flow)

    def _read_written(self, spec: TableSpec) -> str | None:
        return self._load(spec).properties.get(self._written_key)

    def _is_older(self, spec: TableSpec, publish_id: str, before: datetime) -> bool:
        """Tell whether a table knows a batch by an old snapshot."""
        table = self._load(spec)
        for published in walk_flow(table, self.flow):
            if published.publish_id == publish_id:
                snapshot = table.snapshot_by_id(published.snapshot_id)
                return snapshot is not None and snapshot.timestamp_ms < before.timestamp() * 1000
        return False

    def _tell_if_forgotten(
        self, upstream: list[PublishedSnapshot], carried: dict[str, dict[str, int]]
    ) -> None:
        """Say, once, that the upstream table does not know the last batch that was promoted.

        Our own maintenance keeps that one. Someone else has expired snapshots, or rolled the table
        back, and batches that were never promoted may have gone from its history with it. Their
        rows have not: those a replay finds.
        """
        last = self.targets[-1]
        known = {self._read_written(last), *(self.identify(published) for published in upstream)}
        newest = next(reversed(carried[last.name]), None)
        if newest is not None and newest not in known and not self._told:
            self._told = True
            _log.error(
                "upstream_forgotten",
                flow=self.flow,
                table=self.upstream.name,
                publish_id=newest,
                next_step="k2 verify tells whether rows are lacking, and k2 replay adds them",
            )

    def _load(self, spec: TableSpec) -> Table:
        return require_table(self._catalog, spec)

    def _list_carried(self, spec: TableSpec) -> dict[str, int]:
        published = list_published(self._load(spec), self.flow)
        return {batch.publish_id: batch.row_count for batch in published}

    def _lacks_optional(
        self, published: PublishedSnapshot, carried: dict[str, dict[str, int]]
    ) -> bool:
        """Tell whether a batch is in every target, as snapshots know it, and not in the others."""
        publish_id = self.identify(published)
        whole = all(publish_id in carried[spec.name] for spec in self.targets)
        return whole and any(publish_id not in carried[spec.name] for spec in self.optional)

    def _guard(self, published: PublishedSnapshot, carried: dict[str, dict[str, int]]) -> Pending:
        publish_id = self.identify(published)
        held = {name: ids[publish_id] for name, ids in carried.items() if publish_id in ids}
        return published, Guard(self.flow, publish_id, held)


class SilverStage(Stage):
    """Bronze batches into dead letters and Silver."""

    def __init__(self, promotion: Promotion, catalog: SqlCatalog) -> None:
        super().__init__(promotion, catalog)
        self.flow = f"silver-{promotion.exchange}"
        self.upstream = promotion.bronze
        self.upstream_flow = f"bronze-{promotion.exchange}"
        self.targets = (DEAD_LETTERS, promotion.silver)

    def promote(
        self, spark: SparkSession, published: PublishedSnapshot, guard: Guard
    ) -> BatchReport:
        """Judge Bronze rows; publish the dead ones, then the accepted ones."""
        return self.promotion.publish_verdicts(spark, published, guard)


class GoldStage(Stage):
    """Silver batches into Gold and candles."""

    optional = (GOLD_CANDLES,)
    upstream_time = "ingestion_timestamp"

    def __init__(self, promotion: Promotion, catalog: SqlCatalog) -> None:
        super().__init__(promotion, catalog)
        self.flow = f"gold-{promotion.exchange}"
        self.upstream = promotion.silver
        self.upstream_flow = f"silver-{promotion.exchange}"
        self.targets = (GOLD_TRADES,)

    def promote(
        self, spark: SparkSession, published: PublishedSnapshot, guard: Guard
    ) -> BatchReport:
        """Publish what Gold lacks of Silver rows, then the candles."""
        return self.promotion.publish_gold(spark, published, guard)


class FusedStage(Stage):
    """Bronze batches into dead letters, Silver, Gold and candles, under their own ids."""

    optional = (GOLD_CANDLES,)

    def __init__(self, promotion: Promotion, catalog: SqlCatalog) -> None:
        super().__init__(promotion, catalog)
        self.flow = self.upstream_flow = f"fused-{promotion.exchange}"
        self.upstream = promotion.bronze
        self.targets = (DEAD_LETTERS, promotion.silver, GOLD_TRADES)

    def identify(self, published: PublishedSnapshot) -> str:
        """Return the batch's own id: one batch, one id, in every table."""
        return published.publish_id

    def promote(
        self, spark: SparkSession, published: PublishedSnapshot, guard: Guard
    ) -> BatchReport:
        """Publish everything that follows from Bronze rows."""
        verdicts = self.promotion.publish_verdicts(spark, published, guard)
        silver = self.promotion.find_silver(guard)
        return verdicts.add(self.promotion.publish_gold(spark, silver, guard))


def list_stages(promotion: Promotion, catalog: SqlCatalog) -> list[Stage]:
    """Return the stages of both topologies: the one that ran last may not be the next to run."""
    kinds = (FusedStage, SilverStage, GoldStage)
    return [kind(promotion, catalog) for kind in kinds]


def roll_forward(stages: Iterable[Stage], spark: SparkSession) -> None:
    """Finish what earlier drivers published in part; before any flow runs."""
    own = spark.newSession()
    for stage in stages:
        for report in stage.finish_pending(own):
            _log.warning("rolled_forward", flow=stage.flow, **report.to_event())
