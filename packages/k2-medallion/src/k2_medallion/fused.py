"""Fused sink: one exchange's topic into Bronze, dead letters, Silver and Gold, in that order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import structlog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from k2_schemas import FileRegistry
from k2_schemas.topics import trades_topic

from . import bronze, gold, silver
from .catalog import load_table
from .errors import ConservationError
from .offsets import Offsets, claim_topic, read_high_water
from .publish import (
    PublishedSnapshot,
    check_same_range,
    list_published,
    publish_rows,
    read_published,
)
from .spark import table_name
from .tables import DEAD_LETTERS, GOLD_TRADES, TableSpec, bronze_trades, silver_trades

if TYPE_CHECKING:
    from .flow import Batch

_log = structlog.get_logger()

_PLACE = ("partition", "offset")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TradeSink:
    """Every record of an exchange: into Bronze, then the dead letters or Silver and Gold."""

    with_headers = False
    offset_columns = ("bronze.partition", "bronze.offset")

    def __init__(self, exchange: str, catalog: SqlCatalog, registry: FileRegistry) -> None:
        self.exchange = exchange
        self.flow = f"fused-{exchange}"
        self.topic = trades_topic(exchange)
        self._catalog = catalog
        self._registry = registry
        self._bronze = bronze_trades(exchange)
        self._silver = silver_trades(exchange)

    def prepare(self, kafka: DataFrame) -> DataFrame:
        """Decode and judge on the stream itself, so that the plan is built once."""
        return silver.judge(bronze.to_bronze(kafka), self._registry)

    def read_positions(self, spark: SparkSession, wanted: set[int]) -> Offsets:
        """Return the offsets after Bronze's newest rows."""
        rows = spark.table(table_name(self._bronze)).where(F.col("topic") == self.topic)
        return read_high_water(rows, self._bronze, wanted)

    def claim(self, topic_id: str) -> None:
        """Tie Bronze's offsets to the topic."""
        claim_topic(self._catalog, self._bronze, self.topic, topic_id)

    def write(self, rows: DataFrame, batch: Batch) -> None:
        """Publish a batch: Bronze first, then what follows from it."""
        judged = rows.persist()
        try:
            published = publish_rows(
                judged.select("bronze.*"),
                self._bronze,
                batch.publish_id,
                flow=self.flow,
                expected_rows=batch.offsets_read,
            )
            if not published:
                check_same_range(
                    rows.sparkSession, self._bronze, self._load(self._bronze), batch, _PLACE
                )
            self._promote(judged, batch.publish_id, batch.offsets_read, {})
        finally:
            judged.unpersist()

    def roll_forward(self, spark: SparkSession) -> None:
        """Finish every Bronze batch that dead letters, Silver or Gold lack, under its own id."""
        downstream = {spec.name: self._published_rows(spec) for spec in self._downstream()}
        for published in list_published(self._load(self._bronze), self.flow):
            held = {
                name: rows[published.publish_id]
                for name, rows in downstream.items()
                if published.publish_id in rows
            }
            if len(held) < len(downstream):
                self._finish(spark, published, held)

    def _finish(
        self, spark: SparkSession, published: PublishedSnapshot, held: Mapping[str, int]
    ) -> None:
        _log.warning(
            "rolling_forward", flow=self.flow, publish_id=published.publish_id, held=list(held)
        )
        rows = read_published(spark, self._bronze, published)
        judged = silver.judge(rows, self._registry).persist()
        try:
            self._promote(judged, published.publish_id, published.row_count, held)
        finally:
            judged.unpersist()

    def _promote(
        self, judged: DataFrame, publish_id: str, bronze_rows: int, held: Mapping[str, int]
    ) -> None:
        """Publish dead letters, Silver and Gold of one Bronze batch; each of them is guarded.

        `held` are the tables that have the batch already, with their rows of it: they are checked.
        """
        now = datetime.now(UTC)
        bounds = _measure(judged)
        dead = silver.to_dead_letters(judged, self._bronze.name, now)
        accepted = silver.to_silver(judged, now)
        self._publish(dead, DEAD_LETTERS, publish_id, bronze_rows - bounds.accepted, held)
        self._publish(accepted, self._silver, publish_id, bounds.accepted, held)
        if GOLD_TRADES.name not in held:
            self._publish_gold(accepted, publish_id, bounds)

    def _publish(
        self,
        rows: DataFrame,
        spec: TableSpec,
        publish_id: str,
        expected: int,
        held: Mapping[str, int],
    ) -> None:
        """Publish a table's part; or check that what another driver published is as much."""
        found = held.get(spec.name)
        if found is None:
            if publish_rows(rows, spec, publish_id, flow=self.flow, expected_rows=expected):
                return
            _log.warning("already_published", flow=self.flow, table=spec.name, id=publish_id)
            found = self._published_rows(spec)[publish_id]
        if found != expected:
            law = f"{spec.name} as an earlier driver published {publish_id}"
            raise ConservationError(self.flow, law, expected, found)

    def _publish_gold(self, accepted: DataFrame, publish_id: str, bounds: _Bounds) -> None:
        """Publish what Gold lacks: distinct = new + known, or nothing."""
        distinct = gold.to_gold(accepted).persist()
        table = accepted.sparkSession.table(table_name(GOLD_TRADES))
        known = gold.find_known(distinct, table, self.exchange, bounds.first, bounds.last).persist()
        new = gold.drop_known(distinct, known).persist()
        try:
            count = new.count()
            wanted = distinct.count() - known.count()
            if count != wanted:
                raise ConservationError(self.flow, "new rows for Gold", wanted, count)
            publish_rows(new, GOLD_TRADES, publish_id, flow=self.flow, expected_rows=count)
        finally:
            for frame in (new, known, distinct):
                frame.unpersist()

    def _downstream(self) -> list[TableSpec]:
        return [DEAD_LETTERS, self._silver, GOLD_TRADES]

    def _published_rows(self, spec: TableSpec) -> dict[str, int]:
        published = list_published(self._load(spec), self.flow)
        return {batch.publish_id: batch.row_count for batch in published}

    def _load(self, spec: TableSpec) -> Table:
        table = load_table(self._catalog, spec)
        assert table is not None, f"{spec.name} was ensured at start"
        return table


class _Bounds(NamedTuple):
    """How many rows were accepted, and between which times."""

    accepted: int
    first: datetime
    last: datetime


def _measure(judged: DataFrame) -> _Bounds:
    """Count the accepted rows and bound their times, in one pass."""
    # Microseconds, not timestamps: Spark hands those out in local time, which is ambiguous
    # for an hour every autumn.
    time_us = F.when(F.col("accepted"), F.unix_micros("timestamp"))
    row = judged.agg(F.count_if(F.col("accepted")), F.min(time_us), F.max(time_us)).first()
    assert row is not None
    accepted, first_us, last_us = row
    first, last = (_EPOCH + timedelta(microseconds=us or 0) for us in (first_us, last_us))
    return _Bounds(accepted, first, last)
