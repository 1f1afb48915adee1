"""Cluster: every part in a container of its own, in one network, as compose brings them up."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from .engine import image_of
from .pipeline import SYMBOLS
from .services import BUCKET, keep_port, open_minio

HOME = "/var/lib/k2"
_STARTUP_TIMEOUT_S = 240

_KAFKA = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_LISTENERS": "INSIDE://:9092,CONTROLLER://:9093",
    "KAFKA_ADVERTISED_LISTENERS": "INSIDE://kafka:9092",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@127.0.0.1:9093",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
}

_LAKE = f"""
[lake]
home = "{HOME}"
master = "spark://master:7077"
driver_host = "lake"

[lake.spark]
"spark.jars" = ""
"spark.executor.memory" = "1g"
"spark.executor.cores" = "2"
"spark.cores.max" = "2"
"""


class Cluster:
    """Kafka, registry, object store, a Spark master and one worker of two cores, by name."""

    def __init__(self, network: Network, stack: ExitStack) -> None:
        self._network = network
        self._stack = stack
        self.minio = stack.enter_context(open_minio())
        network.connect(self.minio.container.get_wrapped_container().id, ["minio"])
        self.start("kafka", "kafka", wait_for_log="Kafka Server started", env=_KAFKA)
        self.registry = self.start(
            "registry", "registry", wait_for_log="Listening on", ports=[8080]
        )
        elected = "I have been elected leader"
        self.master = self.start(
            "master", "spark", command="master", wait_for_log=elected, ports=[8080]
        )
        registered = "Successfully registered with master"
        worker = "worker spark://master:7077 2 2g"
        self.start("worker", "spark", command=worker, wait_for_log=registered)

    def start(
        self,
        name: str,
        image: str,
        *,
        command: str | Sequence[str] = (),
        ports: Sequence[int] = (),
        wait_for_log: str | None = None,
        env: Mapping[str, str] | None = None,
        volumes: Mapping[Path, str] | None = None,
    ) -> DockerContainer:
        """Start a container under its name in the network; it ends before those there are."""
        container = DockerContainer(image_of(image)).with_network(self._network)
        container.with_network_aliases(name).with_kwargs(hostname=name)
        for key, value in (env or {}).items():
            container.with_env(key, value)
        for host, inside in (volumes or {}).items():
            # testcontainers mounts read-only unless told; a home is written to.
            container.with_volume_mapping(str(host), inside, "rw")
        for port in ports:
            keep_port(container, port)
        if command:
            container.with_command(command if isinstance(command, str) else list(command))
        if wait_for_log:
            ready = LogMessageWaitStrategy(wait_for_log).with_startup_timeout(_STARTUP_TIMEOUT_S)
            container.waiting_for(ready)
        return self._stack.enter_context(container)

    def start_exchange(self, trades: int, rate: float) -> DockerContainer:
        """Start three venues of a market; `rate` is each one's trades a second."""
        return self.start(
            "exchange",
            "k2-feed",
            ports=[8765],
            wait_for_log="ws://",
            volumes={Path(__file__).parent / "serve.sh": "/usr/local/bin/k2-feed"},
            command=["--host", "0.0.0.0", "--trades", str(trades), "--rate", str(rate)],
        )

    def start_apps(self, folder: Path, home: Path | None = None) -> tuple[DockerContainer, ...]:
        """Start one feed of all venues and the lake, both from one file in `folder`.

        The lake's home is `home` on this machine, else it stays in the container.
        """
        config = folder / "k2.toml"
        entries = [
            f'[[exchanges]]\nname = "{name}"\nsymbols = {json.dumps(symbols)}\n'
            f'url = "ws://exchange:8765/{name}"\nplaintext = true\n'
            for name, symbols in SYMBOLS.items()
        ]
        config.write_text("\n".join([*entries, _LAKE]))
        folder.chmod(0o755)
        env = {
            "K2_KAFKA__BOOTSTRAP_SERVERS": "kafka:9092",
            "K2_SCHEMAS__URL": "http://registry:8080/apis/ccompat/v7",
            "K2_STORE__WAREHOUSE": f"s3://{BUCKET}/warehouse",
            "K2_STORE__ENDPOINT": "http://minio:9000",
            "K2_STORE__ACCESS_KEY": self.minio.access_key,
            "K2_STORE__SECRET_KEY": self.minio.secret_key,
        }
        volumes = {config: "/etc/k2/k2.toml"}
        feed = self.start("feed", "k2-feed", env=env, volumes=volumes)
        if home is not None:
            home.mkdir(parents=True)
            home.chmod(0o777)  # the container's user is another
            volumes = {**volumes, home: HOME}
        return feed, self.start("lake", "k2-lake", env=env, volumes=volumes)


@contextmanager
def open_cluster() -> Iterator[Cluster]:
    """Start the services; all end, the last one first."""
    with ExitStack() as stack:
        yield Cluster(stack.enter_context(Network()), stack)


def get(container: DockerContainer, port: int, path: str) -> str:
    """GET a page of a container."""
    url = f"http://127.0.0.1:{container.get_exposed_port(port)}{path}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        page: bytes = answer.read()
    return page.decode()


def check(container: DockerContainer) -> None:
    """Fail, with its log, for a container that has ended."""
    container.reload()
    assert container.get_wrapped_container().status == "running", container.get_logs()
