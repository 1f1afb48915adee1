"""Metrics say what the flows did, by flow, and what a batch that hangs is doing."""

import threading
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from k2_medallion.batch_report import BatchReport
from k2_medallion.errors import CheckpointError
from k2_medallion.flow import Flow
from k2_medallion.maintain import Action
from k2_medallion.metrics import LakeMetrics
from k2_validation import Incident

FLOW = "fused-binance"


class StubSink:
    """A sink whose batch takes as long as it is told to."""

    flow = FLOW
    topic = "topic"
    with_headers = False


@pytest.fixture
def registry():
    """Give each test metrics of its own."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry):
    """Return the lake's metrics."""
    return LakeMetrics(registry)


def read(registry, name, **labels):
    """Return a sample's value."""
    return registry.get_sample_value(f"k2_lake_{name}", labels)


def test_batches_add_up_by_flow(registry, metrics):
    """Rows in and out, dead letters by type, times, and the age of the newest record."""
    report = BatchReport(
        FLOW,
        "k2:fused-binance:",
        read=10,
        accepted=7,
        dead={"range": 2, "contract": 1},
        gold=5,
        duplicates=2,
        candles=3,
        newest_ms=int(time.time() * 1000) - 5_000,
        seconds={"commit": 0.2},
    )
    for _ in range(2):
        metrics.note_batch(report, 1.5)

    assert [
        read(registry, name, flow=FLOW)
        for name in ("rows_total", "accepted_total", "gold_total", "duplicates_total")
    ] == [20, 14, 10, 4]
    assert read(registry, "candles_total", flow=FLOW) == 6
    assert read(registry, "dead_letters_total", flow=FLOW, error_type="range") == 4
    assert read(registry, "batch_seconds_sum", flow=FLOW) == 3
    assert read(registry, "commit_seconds_sum", flow=FLOW) == pytest.approx(0.4)
    assert 5 <= read(registry, "lag_seconds", flow=FLOW) < 60
    assert time.time() - read(registry, "last_batch_timestamp_seconds", flow=FLOW) < 60


def test_a_batch_that_hangs_is_seen_while_it_does(registry, metrics, monkeypatch):
    """Nothing that is counted at a batch's end moves then."""
    flow, goes_on = Flow(StubSink(), Path("nowhere"), {}), threading.Event()
    monkeypatch.setattr(flow, "_write_epoch", lambda *_: goes_on.wait(30))
    metrics.watch_flows([flow])
    assert read(registry, "batch_running_seconds", flow=FLOW) == 0

    batch = threading.Thread(target=flow._process, args=(None, 0))
    batch.start()
    deadline = time.monotonic() + 10
    while not read(registry, "batch_running_seconds", flow=FLOW):
        assert time.monotonic() < deadline
    goes_on.set()
    batch.join()

    assert read(registry, "batch_running_seconds", flow=FLOW) == 0
    assert read(registry, "lag_offsets", flow=FLOW) == 0


def test_a_batch_that_failed_is_not_under_way(registry, metrics, monkeypatch):
    """The flow has ended, and says so elsewhere."""
    flow = Flow(StubSink(), Path("nowhere"), {})
    metrics.watch_flows([flow])
    with pytest.raises(CheckpointError, match="no offset log"):
        flow._process(None, 0)

    assert read(registry, "batch_running_seconds", flow=FLOW) == 0


def test_incidents_and_upkeep_are_counted(registry, metrics):
    """By what they are and where."""
    metrics.note_incident(Incident("id_gap", "BINANCE", "BTC/USDT", 0, 5, "3 to 4"))
    metrics.note_action(Action("gold_crypto_trades", "compact", {}))
    metrics.note_failure("compact", "gold_crypto_trades", OSError("gone"))

    assert read(registry, "incidents_total", exchange="BINANCE", kind="id_gap") == 1
    upkeep = {"table": "gold_crypto_trades", "action": "compact"}
    assert read(registry, "upkeep_total", **upkeep) == 1
    failures = {"table": "gold_crypto_trades", "duty": "compact"}
    assert read(registry, "upkeep_failures_total", **failures) == 1
