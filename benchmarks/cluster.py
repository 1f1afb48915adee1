"""Cluster: the pipeline on Kafka, MinIO and Spark standalone, every part a container, here.

`hatch run bench cluster` streams 3,000 trades/s of three venues for five minutes after a warm-up;
`--rate 2000` another rate of all venues together, `--minutes 2` another time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from k2_medallion import GOLD_TRADES, LakeHome, LakeReader
from tests.containers.cluster import check, open_cluster

from .freshness import Freshness
from .options import read_options
from .report import Report

if TYPE_CHECKING:
    # `tests.containers` tells testcontainers how to work here, so it has to be imported first.
    from testcontainers.core.container import DockerContainer

_WARM_UP_S = 180.0
_VENUES = 3
_SMALLEST_SHARE = 0.3
"""Of the market's trades, by venue: none may have sent all of its own before the end."""


def run(report: Report, arguments: Sequence[str]) -> dict[str, float]:
    """Stream at one rate; return how old Gold's rows were, and whether all of them are there."""
    options = read_options(arguments)
    rate, minutes = float(options.get("rate", "3000")), float(options.get("minutes", "5"))
    # Containers end before the folder goes: the lake writes to its home until then.
    with tempfile.TemporaryDirectory() as name, open_cluster() as cluster:
        folder = Path(name)
        seconds = _WARM_UP_S + minutes * 60
        trades = round(rate / _VENUES * seconds / _SMALLEST_SHARE)
        cluster.start_exchange(trades, rate / _VENUES)
        apps = cluster.start_apps(folder, folder / "home")
        home = LakeHome(folder / "home", cluster.minio.store())
        freshness = Freshness(home, {"gold": (GOLD_TRADES, "ingestion_timestamp")})
        _watch(freshness, apps, seconds)
        p50, p99 = (freshness.quantile("gold", percent) for percent in (50, 99))
        lacking = _count_lacking(home)
    report.table(
        f"{rate:,.0f} trades/s of {_VENUES} venues for {minutes:g} minutes on a cluster",
        ["frame → Gold p50, s", "p99, s", "rows measured", "trades lacking or twice"],
        [[f"{p50:.2f}", f"{p99:.2f}", f"{len(freshness.ages['gold']):,}", str(lacking)]],
    )
    report.versions("pyspark", "pyiceberg", "testcontainers")
    figures = {"rate_per_s": rate, "freshness_p50_s": round(p50, 2)}
    return {**figures, "freshness_p99_s": round(p99, 2), "lacking": lacking}


def _watch(freshness: Freshness, apps: Sequence[DockerContainer], seconds: float) -> None:
    """Look at what is published until the time is over; what the warm-up brings does not count."""
    began = time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        for app in apps:
            check(app)
        if elapsed > _WARM_UP_S:
            freshness.look()
        time.sleep(2)


def _count_lacking(home: LakeHome) -> int:
    """Return how many trades Gold lacks or has twice, of each symbol from its first to its last."""
    with LakeReader(home) as lake:
        found = lake.sql(
            "SELECT sum(abs(span - held)) AS lacking FROM (SELECT max(source_sequence) - "
            "min(source_sequence) + 1 AS span, count(*) AS held FROM gold_crypto_trades "
            "GROUP BY exchange, symbol)"
        ).to_arrow()
    return int(found["lacking"][0].as_py())
