"""Metrics: what the flows of a lake do, in Prometheus' terms."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial

from k2_validation import Incident

from .batch_report import COMMIT, BatchReport
from .errors import MissingExtraError
from .flow import Flow
from .maintain import Action

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
except ImportError:
    raise MissingExtraError("prometheus-client", "metrics") from None

_BATCH_BUCKETS_S = (0.25, 0.5, 1, 2, 3, 5, 8, 13, 21, 34)


class LakeMetrics:
    """Counts batches, incidents and upkeep; hand its methods to the flows as their callbacks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def count(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"k2_lake_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"k2_lake_{name}", text, ("flow",), registry=registry)

        def time_spent(name: str, text: str) -> Histogram:
            return Histogram(
                f"k2_lake_{name}", text, ("flow",), registry=registry, buckets=_BATCH_BUCKETS_S
            )

        self._rows = count("rows", "Rows a flow has read", "flow")
        self._accepted = count("accepted", "Rows that contract and rules accept", "flow")
        self._dead = count("dead_letters", "Rows refused", "flow", "error_type")
        self._gold = count("gold", "Trades added to Gold", "flow")
        self._duplicates = count("duplicates", "Accepted rows that Gold held already", "flow")
        self._candles = count("candles", "Candles published", "flow")
        self._incidents = count("incidents", "Market incidents", "exchange", "kind")
        self._upkeep = count("upkeep", "Things done to keep tables small", "table", "action")
        self._failures = count("upkeep_failures", "Tables that a duty failed on", "table", "duty")
        self._batch_s = time_spent("batch_seconds", "What a batch took")
        self._commit_s = time_spent("commit_seconds", "What a batch's publishing took")
        self._lag_offsets = gauge("lag_offsets", "Offsets in Kafka that the flow has not read")
        self._running_s = gauge(
            "batch_running_seconds", "How long the batch under way has taken so far, 0 if none"
        )
        self._lag_s = gauge("lag_seconds", "Age of a batch's newest record once it was published")
        self._last_batch = gauge("last_batch_timestamp_seconds", "When a batch was last published")

    def note_batch(self, report: BatchReport, taken_s: float) -> None:
        """Count a batch; `taken_s` is all of it."""
        flow = report.flow
        self._rows.labels(flow).inc(report.read)
        self._accepted.labels(flow).inc(report.accepted)
        self._gold.labels(flow).inc(report.gold)
        self._duplicates.labels(flow).inc(report.duplicates)
        self._candles.labels(flow).inc(report.candles)
        for kind, number in report.dead.items():
            self._dead.labels(flow, kind).inc(number)
        self._batch_s.labels(flow).observe(taken_s)
        self._commit_s.labels(flow).observe(report.seconds.get(COMMIT, 0.0))
        self._last_batch.labels(flow).set_to_current_time()
        if report.newest_ms:
            self._lag_s.labels(flow).set(max(0.0, time.time() - report.newest_ms / 1000))

    def watch_flows(self, flows: Iterable[Flow]) -> None:
        """Ask flows, whenever somebody scrapes, what they have yet to read and are busy with.

        A batch that hangs moves none of the other figures.
        """
        for flow in flows:
            self._lag_offsets.labels(flow.name).set_function(partial(_read_lag, flow))
            self._running_s.labels(flow.name).set_function(partial(_read_batch, flow))

    def note_incident(self, incident: Incident) -> None:
        """Count an incident."""
        self._incidents.labels(incident.exchange, incident.kind).inc()

    def note_action(self, action: Action) -> None:
        """Count something that maintenance did."""
        self._upkeep.labels(action.table, action.name).inc()

    def note_failure(self, duty: str, table: str, _: Exception) -> None:
        """Count a table that maintenance could not keep small."""
        self._failures.labels(table, duty).inc()


def _read_lag(flow: Flow) -> float:
    return flow.lag_offsets


def _read_batch(flow: Flow) -> float:
    return flow.batch_s
