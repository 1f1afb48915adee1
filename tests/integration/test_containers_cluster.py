"""Every part in a container: Kafka, registry, object store, a Spark cluster, feeds and the lake."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from k2_schemas import FileRegistry, ServerRegistry
from k2_schemas.topics import SUBJECT
from tests.containers.cluster import Cluster, check, get, open_cluster
from tests.containers.engine import MARKS, require_images
from tests.containers.pipeline import assert_exact, group_trades, wait_for

pytestmark = MARKS


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    require_images("kafka", "minio", "registry", "spark", "k2-feed", "k2-lake")
    with open_cluster() as cluster:
        yield cluster


def test_the_registry_serves_the_contract_to_both_clients(cluster: Cluster):
    """What ours registers, Confluent's client finds under the same id, and the other way round."""
    url = f"http://127.0.0.1:{cluster.registry.get_exposed_port(8080)}/apis/ccompat/v7"
    lock = FileRegistry.packaged()
    theirs = SchemaRegistryClient({"url": url})
    mine = ServerRegistry(url, lock, timeout_s=60)
    registered = mine.register(SUBJECT, lock.latest(SUBJECT).text)

    assert json.loads(theirs.get_schema(registered).schema_str) == json.loads(
        lock.latest(SUBJECT).text
    )
    assert theirs.get_latest_version(SUBJECT).schema_id == registered


def test_the_cluster_runs_a_job_and_takes_none_over_rest(cluster: Cluster):
    """A worker with two cores; executors count; the port for strangers' jobs is closed."""
    assert json.loads(get(cluster.master, 8080, "/json/"))["aliveworkers"] == 1
    job = (
        "from pyspark.sql import SparkSession as S; "
        "s = S.builder.master('spark://master:7077').config('spark.driver.host', 'pi')"
        ".config('spark.executor.memory', '512m').getOrCreate(); "
        "print('sum', s.range(0, 1_000_000, 1, 4).selectExpr('sum(id)').first()[0])"
    )
    pi = cluster.start("pi", "spark", command=["python3", "-c", job])
    wait_for(lambda: "sum" in pi.get_logs()[0].decode(), 300)
    assert "sum 499999500000" in pi.get_logs()[0].decode()
    # At the address that it binds, where the port for drivers does answer.
    opened, closed = (
        cluster.master.exec(["/bin/bash", "-c", f"exec 3<>/dev/tcp/$(hostname -i)/{port}"])
        for port in (7077, 6066)
    )
    assert (opened.exit_code, closed.exit_code != 0) == (0, True)


def test_frame_to_gold_on_the_cluster_is_the_ledger(cluster: Cluster, tmp_path: Path):
    """Three exchanges, one feed each way through Kafka and the executors into the store: exact."""
    exchange = cluster.start_exchange(trades=6_000, rate=60)
    feed, lake = cluster.start_apps(tmp_path)

    def look():
        check(feed)
        check(lake)

    def is_over():
        status = json.loads(get(exchange, 8765, "/status"))
        return status["emitted_frames"] == status["planned_frames"]

    wait_for(is_over, 300, look)
    rows = [json.loads(line) for line in get(exchange, 8765, "/ledger").splitlines()]
    sent = group_trades(rows, "trade_id")
    gold = {}

    def is_complete():
        nonlocal gold
        gold = read_gold(lake)
        return set(gold) == set(sent) and all(gold[k][-1][0] == sent[k][-1][0] for k in sent)

    wait_for(is_complete, 600, look, pause_s=3)
    assert_exact(gold, sent)
    apps = json.loads(get(cluster.master, 8080, "/json/"))["activeapps"]
    assert [app["name"] for app in apps] == ["k2-lake"]
    lake.get_wrapped_container().stop(timeout=120)
    assert lake.get_wrapped_container().wait()["StatusCode"] == 0, lake.get_logs()[1][-2000:]


def read_gold(lake):
    """Ask Gold inside the lake's container, as its operator would: `k2 query`."""
    sql = (
        "SELECT exchange, symbol, source_sequence, price::VARCHAR AS price, "
        "quantity::VARCHAR AS quantity, side FROM gold_crypto_trades"
    )
    found = lake.exec(["k2", "query", sql, "--home", "/var/lib/k2", "--json"])
    if found.exit_code != 0:
        return {}
    lines = [line for line in found.output.decode().splitlines() if line.startswith("{")]
    return group_trades([json.loads(line) for line in lines], "source_sequence")
