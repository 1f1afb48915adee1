"""Security: what of this machine and a home is open to others, and what closes it."""

from __future__ import annotations

import hashlib
import json
import stat
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

import psutil

from k2_medallion.jvm import spark_jars
from k2_schemas import SecretInTextError
from k2_schemas.settings import refuse_secrets

from .broker import kafka_jars
from .doctor import Finding

_SECRET_FILES = ("kafka.password_file", "store.access_key_file", "store.secret_key_file")
_HOSTS = ("metrics.host", "lake.metrics_host")

Documents = Mapping[Path, Mapping[str, Any]]
"""Configurations that can be read, by their place."""


def examine_security(home: Path, cache: Path, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding for each thing that could be open.

    Configurations are the `*.toml` of the home and of the working folder.
    """
    documents = dict(_read_configurations(home))
    yield _examine_folder(home)
    yield _examine_configurations(documents)
    yield _examine_secret_files(documents, environment)
    yield _examine_listeners(home, documents)
    yield _examine_kafka(documents, environment)
    yield _examine_jars(cache)


def _read_configurations(home: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for path in sorted({*home.glob("*.toml"), *Path.cwd().glob("*.toml")}):
        try:
            yield path, tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError):
            continue  # whoever reads it says so


def _look_up(document: Mapping[str, Any], name: str) -> str | None:
    """Return a setting (`table.key`) if it is there and a text."""
    table, key = name.split(".")
    found = document.get(table)
    value = found.get(key) if isinstance(found, Mapping) else None
    return value if isinstance(value, str) else None


def _examine_folder(home: Path) -> Finding:
    if not home.exists():
        return Finding("Home", f"no {home} yet")
    places = (path for path in [home, *home.rglob("*")] if not path.is_symlink())
    open_to_all = [path for path in places if path.stat().st_mode & stat.S_IWOTH]
    found = f"{home}: {len(open_to_all)} of its places can be written by anybody"
    return Finding("Home", found, f"chmod -R o-w '{home}'" if open_to_all else "")


def _examine_configurations(documents: Documents) -> Finding:
    for path, document in documents.items():
        try:
            refuse_secrets(path, document)
        except SecretInTextError as error:
            return Finding("Configurations", f"{path.name} holds {error.name}", str(error))
    return Finding("Configurations", f"{len(documents)} files, no secret in them")


def _examine_secret_files(documents: Documents, environment: Mapping[str, str]) -> Finding:
    """Look at files that hold secrets; certificates of an authority are for everybody."""
    variables = {f"K2_{name.replace('.', '__').upper()}" for name in _SECRET_FILES}
    told = [environment.get(variable) for variable in sorted(variables)]
    told += [_look_up(found, name) for found in documents.values() for name in _SECRET_FILES]
    named = sorted({Path(value) for value in told if value and Path(value).is_file()})
    read = [path for path in named if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)]
    names = " ".join(f"'{path}'" for path in read)
    found = f"{len(named)} named, {len(read)} can be read by others"
    return Finding("Secret files", found, f"chmod 600 {names}" if read else "")


def _examine_listeners(home: Path, documents: Documents) -> Finding:
    """Look at what this home's stack listens on, and at what configurations ask for."""
    places = sorted({place for pid in _list_pids(home) for place in _list_listeners(pid)})
    strange = [f"{host}:{port}" for host, port in places if not _is_local(host)]
    for path, document in documents.items():
        asked = {name: _look_up(document, name) for name in _HOSTS}
        strange += [
            f"{name} of {path.name}" for name, host in asked.items() if host and not _is_local(host)
        ]
    found = f"{len(places)} of k2's own stack here, {len(strange)} beyond this machine"
    cure = f"let it be 127.0.0.1: {', '.join(strange)}"
    return Finding("Listeners", found, cure if strange else "")


def _list_pids(home: Path) -> Iterator[int]:
    for path in home.glob("run/*.json"):
        try:
            note = json.loads(path.read_text())
            process = psutil.Process(note["pid"])
            if abs(process.create_time() - note["born"]) < 1:  # else another's by now
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


def _examine_kafka(documents: Documents, environment: Mapping[str, str]) -> Finding:
    """Look at every Kafka that is named; the environment comes before a configuration."""
    kafkas = {_describe_kafka(document, environment) for document in documents.values()}
    open_ones = sorted(
        where
        for where, protocol in kafkas or {_describe_kafka({}, environment)}
        if not protocol.endswith("SSL")
        and any(not _is_local(server.strip().rpartition(":")[0]) for server in where.split(","))
    )
    named = sorted(f"{where} by {protocol}" for where, protocol in kafkas)
    found = "; ".join(named) or " by ".join(_describe_kafka({}, environment))
    cure = f"speak to {', '.join(open_ones)} by security_protocol SASL_SSL, with a ca_file"
    return Finding("Kafka", found, cure if open_ones else "")


def _describe_kafka(document: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[str, str]:
    """Return where Kafka is and how it is spoken to."""
    defaults = {"bootstrap_servers": "127.0.0.1:9092", "security_protocol": "PLAINTEXT"}
    where, protocol = (
        environment.get(f"K2_KAFKA__{key.upper()}") or _look_up(document, f"kafka.{key}") or default
        for key, default in defaults.items()
    )
    return where, protocol


def _is_local(host: str) -> bool:
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host == "localhost"
    # A JVM's sockets are of the sixth version, also those on 127.0.0.1.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


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
