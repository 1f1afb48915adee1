"""Driver: one Spark session, one flow per exchange and one for the dead letters."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import structlog
from pyspark.sql import SparkSession

from k2_medallion import LakeHome, all_tables, ensure_tables, open_catalog
from k2_medallion.deadletters import DeadLetterSink
from k2_medallion.flow import Flow, Sink
from k2_medallion.fused import TradeSink
from k2_medallion.jvm import fetch_jars, find_java, spark_jars
from k2_medallion.spark import open_session
from k2_schemas import FileRegistry

from .settings import LakeSettings

_log = structlog.get_logger()

_POLL_S = 0.5


def run(
    settings: LakeSettings, cache: Path, environment: Mapping[str, str], stop: threading.Event
) -> None:
    """Run the flows until `stop` is set; raise what ended a flow.

    Stops between batches: what is being published is published in full.
    """
    home = LakeHome(settings.lake.home)
    exchanges = [exchange.name for exchange in settings.exchanges]
    catalog = open_catalog(home, create=True)
    ensure_tables(catalog, all_tables(exchanges))
    spark = open_session(
        home,
        java_home=find_java(cache, environment).home,
        jars=fetch_jars(spark_jars(), cache),
        master=settings.lake.master,
        driver_memory=settings.lake.driver_memory,
        java_options=settings.lake.java_options,
    )
    registry = FileRegistry.packaged()
    sinks: list[Sink] = [TradeSink(name, catalog, registry) for name in exchanges]
    sinks.append(DeadLetterSink(catalog))
    kafka = {"bootstrap.servers": settings.kafka.bootstrap_servers}
    flows = [
        Flow(sink, home.checkpoints / sink.flow, kafka, trigger_s=settings.lake.trigger_s)
        for sink in sinks
    ]
    try:
        _run_flows(spark, flows, stop)
    finally:
        spark.stop()


def _run_flows(spark: SparkSession, flows: list[Flow], stop: threading.Event) -> None:
    """Start each flow as soon as its topic exists; watch those that run."""
    for flow in flows:
        flow.roll_forward(spark)
    running: list[Flow] = []
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
