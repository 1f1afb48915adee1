"""Kafka and the object store die, freeze and lose connections in mid-stream; nothing is lost.

How long each takes to recover is what `RECOVERY_S` says it may, also on a machine of two cores that
runs other tests beside it; what it took is a property of the test's report.
"""

import json
import time

from k2_cli.errors import ChildDiedError
from tests.containers.engine import MARKS, require_images
from tests.containers.pipeline import Pipeline, assert_exact, wait_for
from tests.containers.proxy import open_proxy
from tests.containers.services import open_kafka, open_minio

pytestmark = MARKS

RECOVERY_S = 60.0


def count_batches(pipeline):
    """Count the batches that the lake has published and logged."""
    log = pipeline.lake.log.read_text(errors="replace")
    return sum('"event": "batch"' in line for line in log.splitlines())


def test_what_dies_or_freezes_comes_back_and_gold_is_exact(tmp_path, record_property):
    """Kafka and the store are killed and paused, and a PUT is cut.

    The lake may end by itself when its store is gone; then it is started again, as an orchestrator
    does. Zero lost, zero doubled.
    """
    require_images("kafka", "minio")
    with open_kafka() as kafka, open_minio() as minio:
        host, _, port = minio.endpoint.removeprefix("http://").partition(":")
        with open_proxy(host, int(port)) as proxy:
            store = minio.store(f"http://127.0.0.1:{proxy.port}")
            secrets = {
                "K2_STORE__ACCESS_KEY": minio.access_key,
                "K2_STORE__SECRET_KEY": minio.secret_key,
            }
            where = [f'bootstrap_servers = "{kafka.get_bootstrap_server()}"']
            with Pipeline(
                tmp_path / "home",
                where,
                store,
                secrets,
                trades=150_000,
                rate=50.0,
                venues=["binance"],
            ) as pipeline:
                wait_for(lambda: pipeline.count_gold() > 500, 400, pipeline.check)
                took = {
                    "kafka killed": strike(pipeline, lambda: kill(kafka)),
                    "kafka paused": strike(pipeline, lambda: pause(kafka, 10)),
                    "store killed": strike(pipeline, lambda: kill(minio.container)),
                    "store paused": strike(pipeline, lambda: pause(minio.container, 10)),
                    "PUT cut": strike(pipeline, lambda: proxy.cut_inside(b"PUT", 3_000)),
                }
                record_property("recovery_s", json.dumps(took))
                assert proxy.cut >= 1
                assert max(took.values()) <= RECOVERY_S, took
                gold = finish(pipeline)
                sent = pipeline.read_ledger()
                known = {key: rows[-1][0] for key, rows in gold.items()}
                assert_exact(gold, {k: [r for r in sent[k] if r[0] <= known[k]] for k in sent})


def strike(pipeline, fault):
    """Let something happen; return the seconds from its end to three newer batches in the lake."""
    fault()
    before = count_batches(pipeline)
    return round(wait_for(lambda: count_batches(pipeline) > before + 3, 300, revive(pipeline)), 1)


def revive(pipeline, *, feeds=True):
    """Return a check that starts the lake again if it has ended by itself."""

    def check():
        pipeline.exchange.check()
        if feeds:
            pipeline.feed.check()
        try:
            pipeline.lake.check()
        except ChildDiedError:
            pipeline.start_lake()

    return check


def finish(pipeline):
    """End the feed in order; return Gold once it has all that Kafka has acknowledged.

    The market outlasts every fault on any machine, so its own end is not waited for.
    """
    pipeline.feed.stop_cleanly()
    positions = json.loads((pipeline.home / "positions.json").read_text())["positions"]["binance"]
    newest = sorted(trade_id for trade_id, _ in positions.values())

    def is_complete():
        return sorted(rows[-1][0] for rows in pipeline.read_gold().values()) >= newest

    wait_for(is_complete, 600, revive(pipeline, feeds=False), pause_s=2)
    return pipeline.read_gold()


def kill(container):
    """Kill -9, and start the same container again."""
    wrapped = container.get_wrapped_container()
    wrapped.kill(signal="KILL")
    time.sleep(1)
    wrapped.start()


def pause(container, seconds):
    """Freeze for a while."""
    wrapped = container.get_wrapped_container()
    wrapped.pause()
    time.sleep(seconds)
    wrapped.unpause()
