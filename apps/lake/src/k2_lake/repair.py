"""Repair: what an operator does to a lake by hand: replay a range, keep tables small now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pyiceberg.catalog.sql import SqlCatalog
from pyspark.sql import SparkSession

from k2_medallion import LakeHome, all_tables, open_catalog
from k2_medallion.catalog import list_exchanges
from k2_medallion.errors import CatalogError
from k2_medallion.home_lock import hold_home
from k2_medallion.jvm import fetch_jars, find_java, spark_jars
from k2_medallion.maintain import Action, Maintenance
from k2_medallion.promotion import Promotion
from k2_medallion.replay import Replay, ReplayReport
from k2_medallion.spark import SHORT_RUN_OPTIONS, open_session
from k2_medallion.stage import list_stages, roll_forward
from k2_medallion.trade_contract import TradeContract

from .settings import SchemaSettings


def replay(
    home: LakeHome,
    exchanges: Sequence[str],
    start: datetime | None,
    end: datetime | None,
    *,
    schemas: SchemaSettings,
    cache: Path,
    environment: Mapping[str, str],
) -> Iterator[tuple[str, ReplayReport]]:
    """Rebuild a time range of exchanges (all of the home's, if none is named) from Bronze.

    Yields the exchange and a report per hour. `environment` may name a Java. Raises
    `HomeBusyError` while k2-lake runs, `SchemaLackingError` if Silver has rows of a schema that is
    not known here.
    """
    open_catalog(home).close()  # no lake, no lock file
    with hold_home(home, alone=True), _open(home, cache, environment) as (catalog, spark):
        for name in _choose(catalog, exchanges):
            promotion = Promotion(name, catalog, TradeContract(schemas.open))
            replay = Replay(promotion)
            replay.require_schemas(spark)
            # First what a driver that died has left: a replay must not do it under another id.
            roll_forward(list_stages(promotion, catalog), spark)
            for report in replay.run(spark, start, end):
                yield name, report


def maintain(
    home: LakeHome, *, schemas: SchemaSettings, cache: Path, environment: Mapping[str, str]
) -> Iterator[Action]:
    """Do everything that maintenance would do over time, now; k2-lake may run beside it."""
    open_catalog(home).close()
    with hold_home(home), _open(home, cache, environment) as (catalog, spark):
        names = list_exchanges(catalog)
        contract = TradeContract(schemas.open)
        promotions = [Promotion(name, catalog, contract) for name in names]
        stages = [stage for found in promotions for stage in list_stages(found, catalog)]
        maintenance = Maintenance(catalog, all_tables(names), stages)
        now = datetime.now(UTC)
        yield from maintenance.retire(spark, now)
        yield from maintenance.compact(spark, now)
        yield from maintenance.merge_manifests(spark)
        yield from maintenance.expire(spark, now)
        yield from maintenance.remove_orphans(spark, now)


@contextmanager
def _open(
    home: LakeHome, cache: Path, environment: Mapping[str, str]
) -> Iterator[tuple[SqlCatalog, SparkSession]]:
    catalog = open_catalog(home)
    spark = open_session(
        home,
        java_home=find_java(cache, environment).home,
        jars=fetch_jars(spark_jars(store=home.store is not None), cache),
        java_options=SHORT_RUN_OPTIONS,
    )
    try:
        yield catalog, spark
    finally:
        spark.stop()
        catalog.close()


def _choose(catalog: SqlCatalog, exchanges: Sequence[str]) -> Sequence[str]:
    known = list_exchanges(catalog)
    unknown = [name for name in exchanges if name not in known]
    if unknown:
        raise CatalogError(f"the lake has no exchange {unknown[0]!r}; it has: {', '.join(known)}")
    return exchanges or known
