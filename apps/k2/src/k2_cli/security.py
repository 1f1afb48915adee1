"""Security: what of this machine and a home is open to others, and what closes it."""

from __future__ import annotations

import hashlib
import json
import stat
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path

import psutil

from k2_lake.settings import SECRETS
from k2_medallion.jvm import spark_jars
from k2_schemas import SecretInTextError
from k2_schemas.settings import refuse_secrets

from .broker import kafka_jars
from .doctor import Finding


def examine_security(home: Path, cache: Path, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding for each thing that could be open."""
    yield _examine_folder(home)
    yield _examine_configurations(home)
    yield _examine_secret_files(environment)
    yield _examine_listeners(home)
    yield _examine_kafka(environment)
    yield _examine_jars(cache)


def _examine_folder(home: Path) -> Finding:
    if not home.exists():
        return Finding("Home", f"no {home} yet")
    open_to_all = [path for path in [home, *home.glob("*")] if path.stat().st_mode & stat.S_IWOTH]
    found = f"{home}: {len(open_to_all)} of its places can be written by anybody"
    return Finding("Home", found, f"chmod -R o-w '{home}'" if open_to_all else "")


def _examine_configurations(home: Path) -> Finding:
    paths = sorted({*home.glob("*.toml"), *Path.cwd().glob("*.toml")})
    for path in paths:
        try:
            refuse_secrets(path, tomllib.loads(path.read_text(encoding="utf-8")), SECRETS)
        except SecretInTextError as error:
            return Finding("Configurations", f"{path.name} holds {error.name}", str(error))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError):
            continue  # whoever reads it says so
    return Finding("Configurations", f"{len(paths)} files, no secret in them")


def _examine_secret_files(environment: Mapping[str, str]) -> Finding:
    named = [
        Path(value)
        for name, value in environment.items()
        if name.startswith("K2_") and name.endswith("_FILE") and Path(value).is_file()
    ]
    read = [path for path in named if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)]
    names = " ".join(f"'{path}'" for path in read)
    found = f"{len(named)} named in the environment, {len(read)} can be read by others"
    return Finding("Secret files", found, f"chmod 600 {names}" if read else "")


def _examine_listeners(home: Path) -> Finding:
    places = sorted({place for pid in _list_pids(home) for place in _list_listeners(pid)})
    strange = [f"{host}:{port}" for host, port in places if not ip_address(host).is_loopback]
    found = f"{len(places)} of this home's processes, {len(strange)} beyond this machine"
    cure = f"end what listens on {', '.join(strange)}, or let it listen on 127.0.0.1"
    return Finding("Listeners", found, cure if strange else "")


def _list_pids(home: Path) -> Iterator[int]:
    for path in home.glob("run/*.json"):
        try:
            note = json.loads(path.read_text())
            process = psutil.Process(note["pid"])
            yield process.pid
            yield from (child.pid for child in process.children(recursive=True))
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            continue


def _list_listeners(pid: int) -> Iterator[tuple[str, int]]:
    try:
        found = psutil.Process(pid).net_connections("inet")
    except psutil.Error:
        return
    for connection in found:
        if connection.status == psutil.CONN_LISTEN:
            yield connection.laddr.ip, connection.laddr.port


def _examine_kafka(environment: Mapping[str, str]) -> Finding:
    where = environment.get("K2_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    protocol = environment.get("K2_KAFKA__SECURITY_PROTOCOL", "PLAINTEXT")
    hosts = [server.strip().rpartition(":")[0] for server in where.split(",")]
    is_far = any(not _is_local(host) for host in hosts)
    cure = "set K2_KAFKA__SECURITY_PROTOCOL=SASL_SSL, username, password and ca_file"
    return Finding(
        "Kafka", f"{where} by {protocol}", cure if is_far and not protocol.endswith("SSL") else ""
    )


def _is_local(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _examine_jars(cache: Path) -> Finding:
    held = [
        (jar, path)
        for jar in [*kafka_jars(), *spark_jars(store=True)]
        if (path := cache / "jars" / jar.file_name).exists()
    ]
    changed = [path for jar, path in held if _hash(path) != jar.sha256]
    names = " ".join(f"'{path}'" for path in changed)
    found = f"{len(held)} fetched, {len(changed)} are not what their lock says"
    return Finding("Java libraries", found, f"rm {names}" if changed else "")


def _hash(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
