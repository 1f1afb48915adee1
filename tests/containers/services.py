"""Services: Kafka, plain or over TLS with SCRAM, an object store, and ports that stay theirs."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testcontainers.community.kafka import KafkaContainer
from testcontainers.community.minio import MinioContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from k2_medallion import ObjectStore

from .engine import image_of

BUCKET = "lake"


def find_port() -> int:
    """Return a free port of this machine: one that a restarted container keeps."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def keep_port(container: DockerContainer, port: int, on_host: int | None = None) -> None:
    """Bind a container's port to one of 127.0.0.1 that it has after a restart too."""
    bound: Any = ("127.0.0.1", on_host or find_port())
    container.ports[port] = bound


@contextmanager
def open_kafka() -> Iterator[KafkaContainer]:
    """Start a broker by testcontainers' own module, on a port that it keeps."""
    kafka = KafkaContainer(image_of("kafka")).with_kraft()
    keep_port(kafka, kafka.port)
    # As our own broker: a session of three seconds, or a killed one is waited for for nine.
    kafka.with_env("KAFKA_BROKER_SESSION_TIMEOUT_MS", "3000")
    kafka.with_env("KAFKA_BROKER_HEARTBEAT_INTERVAL_MS", "500")
    try:
        # By itself it waits for half a minute, which a busy machine may need alone to begin.
        yield kafka.start(timeout=240)
    finally:
        kafka.stop()


@contextmanager
def open_minio(access_key: str = "k2-access", secret_key: str = "k2-secret-key") -> Iterator[Minio]:
    """Start an object store with an empty bucket."""
    container = MinioContainer(image_of("minio"), access_key=access_key, secret_key=secret_key)
    keep_port(container, container.port)
    with container:
        container.get_client().make_bucket(BUCKET)
        config = container.get_config()
        yield Minio(container, f"http://{config['endpoint']}", access_key, secret_key)


@dataclass(frozen=True)
class Minio:
    """A running object store."""

    container: MinioContainer
    endpoint: str
    access_key: str
    secret_key: str

    def store(self, endpoint: str | None = None) -> ObjectStore:
        """Return the bucket as a lake's store, reached directly or by way of a proxy."""
        return ObjectStore(
            f"s3://{BUCKET}/warehouse",
            endpoint or self.endpoint,
            access_key=self.access_key,
            secret_key=self.secret_key,
        )


@dataclass(frozen=True)
class SecureKafka:
    """A broker that speaks TLS alone and knows one user."""

    bootstrap_servers: str
    ca_file: Path
    other_ca_file: Path
    username: str
    password: str


@contextmanager
def open_secure_kafka(folder: Path, password: str) -> Iterator[SecureKafka]:
    """Start a broker with SASL_SSL and SCRAM, its certificate signed by an authority of its own."""
    ca = make_authority(folder / "ca")
    other = make_authority(folder / "other")
    server = sign_certificate(ca, folder / "server")
    port = find_port()
    listeners = f"SECURE://:{port},CONTROLLER://:9094"
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    settings = {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": listeners,
        "ADVERTISED_LISTENERS": f"SECURE://127.0.0.1:{port}",
        "LISTENER_SECURITY_PROTOCOL_MAP": "SECURE:SASL_SSL,CONTROLLER:PLAINTEXT",
        "INTER_BROKER_LISTENER_NAME": "SECURE",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "CONTROLLER_QUORUM_VOTERS": "1@127.0.0.1:9094",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "SASL_ENABLED_MECHANISMS": "SCRAM-SHA-512",
        "SASL_MECHANISM_INTER_BROKER_PROTOCOL": "SCRAM-SHA-512",
        "LISTENER_NAME_SECURE_SCRAM___SHA___512_SASL_JAAS_CONFIG": scram.replace(
            ";", f' username="k2" password="{password}";'
        ),
        "SSL_KEYSTORE_TYPE": "PEM",
        "SSL_KEYSTORE_LOCATION": "/certs/both.pem",
        "SSL_TRUSTSTORE_TYPE": "PEM",
        "SSL_TRUSTSTORE_LOCATION": "/certs/ca.pem",
    }
    container = DockerContainer(image_of("kafka"))
    for name, value in settings.items():
        container.with_env(f"KAFKA_{name}", value)
    user = f"SCRAM-SHA-512=[name=k2,password={password}]"
    container.with_env("KAFKA_FORMAT_OPTS", f"--add-scram '{user}'")
    container.with_volume_mapping(server, "/certs")
    keep_port(container, port, port)
    container.waiting_for(LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(240))
    with container:
        yield SecureKafka(f"127.0.0.1:{port}", ca / "cert.pem", other / "cert.pem", "k2", password)


def make_authority(folder: Path) -> Path:
    """Make a throwaway certificate authority; return its folder."""
    folder.mkdir()
    _openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=k2-test-ca "
        f"-keyout {folder}/key.pem -out {folder}/cert.pem"
    )
    return folder


def sign_certificate(ca: Path, folder: Path) -> Path:
    """Make a key and a certificate of 127.0.0.1, signed by an authority, in one file."""
    folder.mkdir()
    folder.chmod(0o755)
    _openssl(
        f"req -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout {folder}/key.pem "
        f"-out {folder}/request.pem"
    )
    names = folder / "names"
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    _openssl(
        f"x509 -req -in {folder}/request.pem -CA {ca}/cert.pem -CAkey {ca}/key.pem -days 2 "
        f"-CAcreateserial -extfile {names} -out {folder}/cert.pem"
    )
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    (folder / "ca.pem").write_bytes((ca / "cert.pem").read_bytes())
    both.chmod(0o644)  # the container's user is another
    return folder


def _openssl(arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], check=True, capture_output=True)
