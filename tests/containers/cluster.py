"""Cluster: every part in a container of its own, in one network, as compose brings them up."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from .engine import image_of
from .pipeline import SYMBOLS
from .services import BUCKET, Minio, keep_port, open_minio

HOME = "/var/lib/k2"

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


@dataclass
class Cluster:
    """Kafka, registry, object store, a Spark master and one worker of two cores, by name."""

    network: Network
    stack: ExitStack
    minio: Minio
    master: DockerContainer
    registry: DockerContainer

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
        """Start a container under its name in the network; it ends with the cluster."""
        made = _make(self.network, name, image, command, ports, wait_for_log, env, volumes)
        return self.stack.enter_context(made)

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
            f'url = "ws://exchange:8765/{name}"\n'
            for name, symbols in SYMBOLS.items()
        ]
        config.write_text("\n".join([*entries, _LAKE]))
        folder.chmod(0o755)
        env = {
            "K2_KAFKA__BOOTSTRAP_SERVERS": "kafka:9092",
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
    """Start the services; whatever is started in it later ends before them."""
    with ExitStack() as stack:
        network = stack.enter_context(Network())

        def start(name: str, image: str, log: str, **options: object) -> DockerContainer:
            made = _make(network, name, image, wait_for_log=log, **options)  # type: ignore[arg-type]
            return stack.enter_context(made)

        start("kafka", "kafka", "Kafka Server started", env=_KAFKA)
        registry = start("registry", "registry", "Listening on", ports=[8080])
        minio = stack.enter_context(open_minio())
        network.connect(minio.container.get_wrapped_container().id, ["minio"])
        elected = "I have been elected leader"
        master = start("master", "spark", elected, command="master", ports=[8080])
        worker = "worker spark://master:7077 2 2g"
        start("worker", "spark", "Successfully registered with master", command=worker)
        yield Cluster(network, stack, minio, master, registry)


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


def _make(
    network: Network,
    name: str,
    image: str,
    command: str | Sequence[str] = (),
    ports: Sequence[int] = (),
    wait_for_log: str | None = None,
    env: Mapping[str, str] | None = None,
    volumes: Mapping[Path, str] | None = None,
) -> DockerContainer:
    container = DockerContainer(image_of(image)).with_network(network)
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
        container.waiting_for(LogMessageWaitStrategy(wait_for_log).with_startup_timeout(240))
    return container
