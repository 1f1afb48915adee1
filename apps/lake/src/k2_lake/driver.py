"""Driver: one Spark session; the flows of every exchange, one for the dead letters, and upkeep."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import structlog
from prometheus_client import CollectorRegistry, start_http_server
from pyiceberg.catalog.sql import SqlCatalog
from pyspark.sql import SparkSession

from k2_medallion import LakeHome, all_tables, ensure_tables, open_catalog
from k2_medallion.bronze_sink import BronzeSink
from k2_medallion.catalog import list_exchanges
from k2_medallion.deadletters import DeadLetterSink
from k2_medallion.flow import Flow, Sink
from k2_medallion.fused import TradeSink
from k2_medallion.home_lock import hold_home, hold_topology
from k2_medallion.jvm import fetch_jars, find_java, spark_jars
from k2_medallion.maintain import Maintenance
from k2_medallion.metrics import LakeMetrics
from k2_medallion.promotion import Promotion
from k2_medallion.spark import open_session
from k2_medallion.stage import GoldStage, SilverStage, Stage, list_stages, roll_forward
from k2_medallion.stage_flow import StageFlow
from k2_medallion.trade_contract import TradeContract
from k2_medallion.upkeep import UpkeepFlow
from k2_medallion.watch import Watch, WatchFlow

from .errors import MetricsPortError
from .settings import LakeSettings
from .stop_signal import StopSignal

_log = structlog.get_logger()

_POLL_S = 0.5


class RunningFlow(Protocol):
    """What the driver runs."""

    name: str

    def start(self, spark: SparkSession) -> bool:
        """Start; return False, with nothing started, while it cannot."""

    def check(self) -> None:
        """Raise what ended the flow."""

    def stop(self) -> None:
        """Stop between two batches."""


def run(
    settings: LakeSettings, cache: Path, environment: Mapping[str, str], stop: StopSignal
) -> None:
    """Run the flows until `stop` is set; raise what ended a flow.

    Stops between batches: what is being published is published in full.
    """
    # Arrow's own allocator keeps what the largest batches took, the system's gives it back.
    pa.set_memory_pool(pa.system_memory_pool())
    metrics = _serve_metrics(settings)
    home = LakeHome(settings.lake.home, None if settings.store is None else settings.store.open())
    with hold_home(home), hold_topology(home, settings.lake.topology):
        catalog = _prepare_catalog(settings, home)
        spark = open_session(
            home,
            java_home=find_java(cache, environment).home,
            jars=fetch_jars(spark_jars(store=home.store is not None), cache),
            master=settings.lake.master,
            driver_memory=settings.lake.driver_memory,
            driver_host=settings.lake.driver_host,
            java_options=settings.lake.java_options,
            settings=settings.lake.spark,
        )
        try:
            promotions = _make_promotions(settings, catalog)
            stages = [stage for found in promotions for stage in list_stages(found, catalog)]
            roll_forward(stages, spark)
            flows = _make_flows(settings, home, catalog, promotions, stages, metrics)
            _run_flows(spark, flows, stop)
        finally:
            spark.stop()


def _prepare_catalog(settings: LakeSettings, home: LakeHome) -> SqlCatalog:
    """Return the catalog, with every table in it."""
    hasty = open_catalog(home, create=True)
    ensure_tables(hasty, all_tables(exchange.name for exchange in settings.exchanges))
    hasty.close()
    # From here on the store is known to be there: if it is away, it comes back.
    return open_catalog(home, is_patient=True)


def _make_promotions(settings: LakeSettings, catalog: SqlCatalog) -> list[Promotion]:
    # A contract each: what one learns in mid-batch must not change another's columns.
    return [
        Promotion(exchange.name, catalog, TradeContract(settings.schemas.open))
        for exchange in settings.exchanges
    ]


def _make_flows(
    settings: LakeSettings,
    home: LakeHome,
    catalog: SqlCatalog,
    promotions: Sequence[Promotion],
    stages: Sequence[Stage],
    metrics: LakeMetrics,
) -> list[RunningFlow]:
    """Return every flow of the configured topology."""
    kafka = settings.kafka.java_settings()

    def read_topic(sink: Sink) -> Flow:
        return Flow(
            sink,
            home.checkpoints / sink.flow,
            kafka,
            trigger_s=settings.lake.trigger_s,
            on_batch=metrics.note_batch,
            accept_lost=settings.lake.accept_lost_offsets,
        )

    flows: list[RunningFlow] = [read_topic(DeadLetterSink(catalog))]
    for promotion in promotions:
        name = promotion.exchange
        if settings.lake.topology == "staged":
            flows.append(read_topic(BronzeSink(name, catalog)))
            for stage in (SilverStage(promotion, catalog), GoldStage(promotion, catalog)):
                flows.append(StageFlow(stage, on_batch=metrics.note_batch))
        else:
            flows.append(read_topic(TradeSink(promotion, catalog)))
        if settings.lake.monitor:
            state = home.path / "monitor" / f"{name}.json"
            watched = Watch(name, catalog, state, (f"fused-{name}", f"silver-{name}"))
            flows.append(WatchFlow(watched, on_incident=metrics.note_incident))
    if settings.lake.maintenance:
        specs = all_tables(promotion.exchange for promotion in promotions)
        maintenance = Maintenance(catalog, specs, [*stages, *_list_others(promotions, catalog)])
        flows.append(
            UpkeepFlow(maintenance, on_action=metrics.note_action, on_failure=metrics.note_failure)
        )
    metrics.watch_flows(flow for flow in flows if isinstance(flow, Flow))
    return flows


def _list_others(promotions: Sequence[Promotion], catalog: SqlCatalog) -> Iterator[Stage]:
    """Yield the stages of exchanges that are not configured: shared tables keep what they need."""
    configured = {promotion.exchange for promotion in promotions}
    for name in list_exchanges(catalog):
        if name not in configured:
            yield from list_stages(Promotion(name, catalog, promotions[0].contract), catalog)


def _serve_metrics(settings: LakeSettings) -> LakeMetrics:
    registry = CollectorRegistry()
    host, port = settings.lake.metrics_host, settings.lake.metrics_port
    if port:
        try:
            start_http_server(port, host, registry)
        except OSError as error:
            raise MetricsPortError(host, port, error.strerror or str(error)) from error
    return LakeMetrics(registry)


def _run_flows(spark: SparkSession, flows: Sequence[RunningFlow], stop: StopSignal) -> None:
    """Start each flow as soon as its topic exists; watch those that run."""
    running: list[RunningFlow] = []
    try:
        while not stop.wait(_POLL_S):
            for flow in flows:
                if flow in running:
                    flow.check()
                elif not stop.is_set() and flow.start(spark):
                    running.append(flow)
                    _log.info("running", flow=flow.name, pid=os.getpid())
    finally:
        for flow in running:
            flow.stop()
