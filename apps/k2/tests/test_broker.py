"""The broker's client side when no broker answers. A real one runs in tests/integration."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import k2_cli.broker
from k2_cli.broker import Broker, kafka_jars
from k2_cli.errors import ChildDiedError, StalledError
from k2_medallion.jvm import Java


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    """A broker on a port where nobody listens."""
    monkeypatch.setattr(k2_cli.broker, "_ANSWER_TIMEOUT_S", 0.2)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield Broker(tmp_path, closed.getsockname()[1], Java(Path("/no/java"), 21, "test"), [])


def find_pid(broker: Broker) -> int:
    """Return the process id of the broker's child."""
    note = broker.child.log.parent.parent / "run" / "kafka.json"
    pid: int = json.loads(note.read_text())["pid"]
    return pid


def test_a_dead_broker_is_reported_as_the_child_that_died(broker: Broker):
    """Killed between two looks at it: the sentence says so, whoever asked."""
    broker.child.start([sys.executable, "-c", "raise SystemExit('no space left')"], os.environ)
    os.waitid(os.P_PID, find_pid(broker), os.WEXITED | os.WNOWAIT)
    with pytest.raises(ChildDiedError, match="kafka ended with exit code 1, saying: no space left"):
        broker.list_topics()


def test_a_broker_that_lives_but_is_silent_has_stalled(broker: Broker):
    """No answer is an error of ours with the log's place, not one of the Kafka client."""
    with pytest.raises(StalledError, match=r"Kafka has not answered .*kafka\.log, then run"):
        broker.count_records(["market.crypto.trades.binance"])


def test_the_lock_names_every_jar_once():
    """Coordinates, hashes and sizes are those of real files."""
    jars = kafka_jars()

    assert len({jar.file_name for jar in jars}) == len(jars)
    assert [jar for jar in jars if len(jar.sha256) != 64 or jar.size_bytes <= 0] == []
    assert any(jar.coordinate.startswith("org.apache.kafka:kafka_2.13:4.") for jar in jars)
