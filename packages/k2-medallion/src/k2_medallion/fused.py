"""Fused sink: one exchange's topic into Bronze, dead letters, Silver and Gold, in that order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

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
from .offsets import Offsets, read_high_water
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
        return read_high_water(rows, "ingestion_date", wanted)

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
            self._promote(judged, batch.publish_id, batch.offsets_read, self._downstream())
        finally:
            judged.unpersist()

    def roll_forward(self, spark: SparkSession) -> None:
        """Finish every Bronze batch that dead letters, Silver or Gold lack, under its own id."""
        held = {spec.name: self._published_ids(spec) for spec in self._downstream()}
        for published in list_published(self._load(self._bronze), self.flow):
            lacking = [
                spec for spec in self._downstream() if published.publish_id not in held[spec.name]
            ]
            if lacking:
                self._finish(spark, published, lacking)

    def _finish(
        self, spark: SparkSession, published: PublishedSnapshot, lacking: list[TableSpec]
    ) -> None:
        _log.warning(
            "rolling_forward",
            flow=self.flow,
            publish_id=published.publish_id,
            tables=[spec.name for spec in lacking],
        )
        rows = read_published(spark, self._bronze, published)
        judged = silver.judge(rows, self._registry).persist()
        try:
            self._promote(judged, published.publish_id, rows.count(), lacking)
        finally:
            judged.unpersist()

    def _promote(
        self, judged: DataFrame, publish_id: str, bronze_rows: int, tables: list[TableSpec]
    ) -> None:
        """Publish dead letters, Silver and Gold of one Bronze batch; each of them is guarded."""
        now = datetime.now(UTC)
        accepted, first, last = _measure(judged)
        if DEAD_LETTERS in tables:
            dead = silver.to_dead_letters(judged, self._bronze.name, now)
            self._publish(dead, DEAD_LETTERS, publish_id, bronze_rows - accepted)
        accepted_rows = silver.to_silver(judged, now)
        if self._silver in tables:
            self._publish(accepted_rows, self._silver, publish_id, accepted)
        if GOLD_TRADES in tables:
            self._publish_gold(accepted_rows, publish_id, accepted, first, last)

    def _publish_gold(
        self,
        accepted_rows: DataFrame,
        publish_id: str,
        accepted: int,
        first: datetime | None,
        last: datetime | None,
    ) -> None:
        distinct = gold.to_gold(accepted_rows).persist()
        new = distinct
        if first is not None and last is not None:
            table = accepted_rows.sparkSession.table(table_name(GOLD_TRADES))
            new = gold.select_new(distinct, table, self.exchange, first, last).persist()
        try:
            count = new.count()
            if count > accepted:
                raise ConservationError(self.flow, "Gold = Silver - duplicates", accepted, count)
            self._publish(new, GOLD_TRADES, publish_id, count)
        finally:
            new.unpersist()
            distinct.unpersist()

    def _publish(self, rows: DataFrame, spec: TableSpec, publish_id: str, expected: int) -> None:
        if not publish_rows(rows, spec, publish_id, flow=self.flow, expected_rows=expected):
            _log.warning("already_published", flow=self.flow, table=spec.name, id=publish_id)

    def _downstream(self) -> list[TableSpec]:
        return [DEAD_LETTERS, self._silver, GOLD_TRADES]

    def _published_ids(self, spec: TableSpec) -> set[str]:
        return {published.publish_id for published in list_published(self._load(spec), self.flow)}

    def _load(self, spec: TableSpec) -> Table:
        table = load_table(self._catalog, spec)
        assert table is not None, f"{spec.name} was ensured at start"
        return table


def _measure(judged: DataFrame) -> tuple[int, datetime | None, datetime | None]:
    """Count the accepted rows and bound their times, in one pass."""
    # Microseconds, not timestamps: Spark hands those out in local time, which is ambiguous
    # for an hour every autumn.
    time_us = F.when(F.col("accepted"), F.unix_micros("timestamp"))
    row = judged.agg(F.count_if(F.col("accepted")), F.min(time_us), F.max(time_us)).first()
    assert row is not None
    accepted, first_us, last_us = row
    return accepted, _to_datetime(first_us), _to_datetime(last_us)


def _to_datetime(time_us: int | None) -> datetime | None:
    return None if time_us is None else _EPOCH + timedelta(microseconds=time_us)
