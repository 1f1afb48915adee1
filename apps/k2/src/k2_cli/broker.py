"""Broker: a real Kafka 4 in KRaft mode as a child JVM, from Maven jars."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from k2_medallion.jvm import Jar, Java, read_lock

from .child import Child
from .errors import CommandError, StalledError

_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
_START_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 30.0
_LOG4J = """\
shutdownHook=disable
rootLogger.level=WARN
rootLogger.appenderRef.c.ref=C
appender.c.type=Console
appender.c.name=C
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=[%d] %p %m (%c)%n
"""
_FIRST_AND_END = (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]
_NOT_YET = {
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
}
_JVM_OPTIONS = (
    # The heap is taken at the start: what the broker uses does not grow by the hour.
    *("-Xms256m", "-Xmx256m", "-XX:+AlwaysPreTouch"),
    *("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
)


def kafka_jars() -> list[Jar]:
    """Return the locked jars of the broker."""
    return read_lock(resources.files(__package__).joinpath("kafka.lock").read_text("utf-8"))


class Broker:
    """One broker and controller on 127.0.0.1. Data stays in the home; it survives kill -9."""

    def __init__(self, home: Path, port: int, java: Java, jars: Sequence[Path]) -> None:
        self.address = f"127.0.0.1:{port}"
        self.child = Child("kafka", home)
        self._port = port
        self._folder = home / "kafka"
        self._scratch = self._folder / "scratch"
        self._java = java
        self._classpath = os.pathsep.join(map(str, jars))

    def start(self) -> None:
        """Write the configuration, format the storage once, and launch; does not wait."""
        self.child.reap()
        # Native libraries that the last one unpacked: a killed one removes nothing.
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        properties = self._write_configuration()
        if not (self._folder / "data" / "meta.properties").exists():
            self._format(properties)
        self.child.start(self._command("kafka.Kafka", str(properties)), os.environ)

    def wait(self) -> None:
        """Return once the broker answers."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        while True:
            self.child.check()
            try:
                admin.list_topics(timeout=1.0)
            except KafkaException:
                if time.monotonic() > deadline:
                    raise StalledError(
                        "Kafka has not answered", _START_TIMEOUT_S, self.child.log
                    ) from None
                time.sleep(0.1)
            else:
                return

    def list_topics(self) -> set[str]:
        """Return the names of the topics that exist."""
        with self._ask() as admin:
            return set(admin.list_topics(timeout=_ANSWER_TIMEOUT_S).topics)

    def count_records(self, topics: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return (records held, end offsets summed) per topic; a topic not yet made has none."""
        deadline = time.monotonic() + _ANSWER_TIMEOUT_S
        with self._ask() as admin:
            while True:
                try:
                    return _count_records(admin, topics)
                except KafkaException as error:
                    # A broker that has just come back answers before it leads its partitions.
                    if error.args[0].code() not in _NOT_YET or time.monotonic() > deadline:
                        raise
                time.sleep(0.2)

    @contextmanager
    def _ask(self) -> Iterator[AdminClient]:
        """Yield a client; a broker that does not answer it is dead, or stalled."""
        try:
            yield AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        except KafkaException as error:
            self.child.check()
            raise StalledError(
                "Kafka has not answered", _ANSWER_TIMEOUT_S, self.child.log
            ) from error

    def _command(self, main: str, *arguments: str) -> list[str]:
        log4j = f"-Dlog4j2.configurationFile={self._folder / 'log4j2.properties'}"
        scratch = f"-Djava.io.tmpdir={self._scratch}"
        java = str(self._java.executable)
        return [java, *_JVM_OPTIONS, log4j, scratch, "-cp", self._classpath, main, *arguments]

    def _format(self, properties: Path) -> None:
        command = self._command(
            "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(properties)
        )
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if result.returncode:
            said = (result.stderr or result.stdout).strip().splitlines()[-1:]
            raise CommandError(f"Kafka cannot use {self._folder}: {' '.join(said)}")

    def _write_configuration(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "log4j2.properties").write_text(_LOG4J)
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{self._port + 1}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": f"1@127.0.0.1:{self._port + 1}",
            "log.dirs": str(self._folder / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            # After kill -9 the old session must expire first: 5 s instead of 14.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
        }
        path = self._folder / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        return path


def _count_records(admin: AdminClient, topics: Sequence[str]) -> dict[str, tuple[int, int]]:
    known = admin.list_topics(timeout=_ANSWER_TIMEOUT_S).topics
    counts = {}
    for topic in topics:
        partitions = known[topic].partitions if topic in known else ()
        places = [TopicPartition(topic, partition) for partition in partitions]
        first, end = (_sum_offsets(admin, places, spec) for spec in _FIRST_AND_END)
        counts[topic] = (end - first, end)
    return counts


def _sum_offsets(admin: AdminClient, places: Sequence[TopicPartition], spec: OffsetSpec) -> int:
    if not places:
        return 0
    found = admin.list_offsets({place: spec for place in places}, request_timeout=_ANSWER_TIMEOUT_S)
    return sum(future.result().offset for future in found.values())
