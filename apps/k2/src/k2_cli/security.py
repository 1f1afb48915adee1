"""Security: what of this machine and a home is open to others, and what closes it."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from k2_medallion.jvm import spark_jars
from k2_medallion.spark import SECRET_NAMES
from k2_schemas import SecretInTextError
from k2_schemas.address import is_local
from k2_schemas.settings import refuse_secrets

from .broker import kafka_jars
from .doctor import Finding

_SECRET_FILES = (
    "kafka.password_file",
    "schemas.password_file",
    "store.access_key_file",
    "store.secret_key_file",
)
_HOSTS = ("metrics.host", "lake.metrics_host", "lake.driver_host")
_SPARK_HOSTS = ("spark.driver.bindAddress", "spark.driver.host")
_URLS = ("schemas.url", "store.endpoint")
_PREFIX = "k2_"
_ENVIRONMENT_FILE = ".env"

Documents = Mapping[str, Mapping[str, Any]]
"""What programs are told, the environment before a file, by the file's path."""


def examine_security(
    home: Path, cache: Path, environment: Mapping[str, str], configs: Sequence[Path] = ()
) -> Iterator[Finding]:
    """Yield a finding for each thing that could be open.

    Configurations are `configs`, or else the `*.toml` of the home and of the working folder.
    """
    paths = list(configs) or sorted({*home.glob("*.toml"), *Path.cwd().glob("*.toml")})
    broken: list[str] = []
    files = dict(_read_configurations(paths, broken))
    told = {str(path): _put_over(environment, document) for path, document in files.items()}
    documents = told or {"the environment": _put_over(environment, {})}
    yield _examine_folder(home)
    yield _examine_configurations(files, broken)
    yield _examine_secret_files(home, documents)
    yield _examine_listeners(home, documents)
    yield _examine_kafka(documents)
    yield _examine_urls(documents)
    yield _examine_jars(cache)


def _read_configurations(
    paths: Sequence[Path], broken: list[str]
) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield what can be read; note why another cannot: nobody knows what it holds."""
    for path in paths:
        try:
            yield path, tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            broken.append(f"{path} cannot be read: {error}")


def _put_over(environment: Mapping[str, str], document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as a program sees it: `K2_TABLE__KEY` comes before `table.key`.

    In either case, and as JSON where a table or a list is meant, as pydantic-settings takes them.
    """
    told = {name: dict(t) if isinstance(t, Mapping) else t for name, t in document.items()}
    for name, value in environment.items():
        if not name.lower().startswith(_PREFIX):
            continue
        table, mark, key = name.lower().removeprefix(_PREFIX).partition("__")
        given, held = _read_json(value), told.get(table, {})
        if isinstance(held, dict) and (mark or isinstance(given, dict)):
            told[table] = held | ({key: given} if mark else given)
        elif isinstance(given, list):
            told[table] = given
    return told


def _read_json(value: str) -> Any:
    if value.lstrip()[:1] in ("{", "["):
        with suppress(ValueError):
            return json.loads(value)
    return value


def _look_up(document: Mapping[str, Any], name: str) -> str | None:
    """Return a setting (`table.key`) if it is there and a text."""
    table, key = name.split(".", 1)
    found = document.get(table)
    value = found.get(key) if isinstance(found, Mapping) else None
    return value if isinstance(value, str) else None


def _read_spark(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return Spark's own settings, if there are any."""
    lake = document.get("lake")
    spark = lake.get("spark") if isinstance(lake, Mapping) else None
    return spark if isinstance(spark, Mapping) else {}


def _examine_folder(home: Path) -> Finding:
    if not home.exists():
        return Finding("Home", f"no {home} yet")
    open_to_all = sum(_is_open_to_all(path) for path in [home, *home.rglob("*")])
    found = f"{home}: {open_to_all} of its places can be written by anybody"
    return Finding("Home", found, f"chmod -R o-w '{home}'" if open_to_all else "")


def _is_open_to_all(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:  # of a home at work: files come and go
        return False
    return not stat.S_ISLNK(mode) and bool(mode & stat.S_IWOTH)


def _examine_configurations(
    files: Mapping[Path, Mapping[str, Any]], broken: Sequence[str]
) -> Finding:
    told = [(text, "mend it, or name others by --config") for text in broken]
    for path, document in files.items():
        try:
            refuse_secrets(path, document)
        except SecretInTextError as error:
            told.append((f"{path.name} holds {error.name}", str(error)))
        for name in _list_secrets(document):
            cure = f"{path}: take {name} out; SECURITY.md says where it may be"
            told.append((f"{path.name} holds {name}", cure))
    if told:
        found, cures = zip(*told, strict=True)
        return Finding("Configurations", "; ".join(found), "; ".join(dict.fromkeys(cures)))
    return Finding("Configurations", f"{len(files)} files, no secret in them")


def _list_secrets(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the settings that k2-lake refuses as secrets, or as holding one."""
    yield from (
        f"lake.spark.{name}" for name in _read_spark(document) if re.search(SECRET_NAMES, name)
    )
    for name in _URLS:
        url = _look_up(document, name)
        if url is not None and "@" in url:
            yield name


def _examine_secret_files(home: Path, documents: Documents) -> Finding:
    """Look at files that hold secrets; certificates of an authority are for everybody."""
    told = [_look_up(document, name) for document in documents.values() for name in _SECRET_FILES]
    beside = [folder / _ENVIRONMENT_FILE for folder in (home, Path.cwd(), Path.cwd() / "deploy")]
    named = sorted({p for p in [*(Path(v) for v in told if v), *beside] if p.is_file()})
    read = [path for path in named if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)]
    names = " ".join(f"'{path}'" for path in read)
    found = f"{len(named)} there, {len(read)} can be read by others"
    return Finding("Secret files", found, f"chmod 600 {names}" if read else "")


def _examine_listeners(home: Path, documents: Documents) -> Finding:
    """Look at what this home's stack listens on, and at what configurations ask for."""
    places = sorted({place for pid in _list_pids(home) for place in _list_listeners(pid)})
    strange = [f"{host}:{port}" for host, port in places if not is_local(host)]
    for name, document in documents.items():
        strange += [f"{asked} of {name}" for asked in _list_asked(document)]
    found = f"{len(places)} of k2's own stack here, {len(strange)} beyond this machine"
    cure = f"let it be 127.0.0.1 (false for a UI): {', '.join(strange)}"
    return Finding("Listeners", found, cure if strange else "")


def _list_asked(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the settings by which something would listen for others."""
    for name in _HOSTS:
        host = _look_up(document, name)
        if host is not None and not is_local(host):
            yield name
    spark = _read_spark(document)
    yield from (name for name in _SPARK_HOSTS if name in spark and not is_local(str(spark[name])))
    if str(spark.get("spark.ui.enabled", "false")).lower() == "true":
        yield "spark.ui.enabled"


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


def _examine_kafka(documents: Documents) -> Finding:
    """Look at every Kafka that is named."""
    kafkas = sorted({_describe_kafka(document) for document in documents.values()})
    open_ones = [
        where
        for where, protocol in kafkas
        if not protocol.endswith("SSL")
        and any(not is_local(server.strip().rpartition(":")[0]) for server in where.split(","))
    ]
    found = "; ".join(f"{where} by {protocol}" for where, protocol in kafkas)
    cure = f"speak to {', '.join(open_ones)} by security_protocol SASL_SSL, with a ca_file"
    return Finding("Kafka", found, cure if open_ones else "")


def _describe_kafka(document: Mapping[str, Any]) -> tuple[str, str]:
    """Return where Kafka is and how it is spoken to."""
    defaults = {"bootstrap_servers": "127.0.0.1:9092", "security_protocol": "PLAINTEXT"}
    where, protocol = (_look_up(document, f"kafka.{key}") or d for key, d in defaults.items())
    return where, protocol


def _examine_urls(documents: Documents) -> Finding:
    """Look at what is spoken to by a URL: registry, object store, replaced exchanges."""
    urls = sorted({url for document in documents.values() for url in _list_urls(document)})
    open_ones = [url for url in urls if _is_in_the_clear(url)]
    found = f"{len(urls)} named, {len(open_ones)} beyond this machine without TLS"
    cure = f"speak TLS (https, wss): {', '.join(open_ones)}"
    return Finding("URLs", found, cure if open_ones else "")


def _list_urls(document: Mapping[str, Any]) -> Iterator[str]:
    yield from (url for name in _URLS if (url := _look_up(document, name)))
    exchanges = document.get("exchanges")
    for entry in exchanges if isinstance(exchanges, list) else ():
        if isinstance(entry, Mapping):
            yield from (entry[k] for k in ("url", "rest_url") if isinstance(entry.get(k), str))


def _is_in_the_clear(url: str) -> bool:
    with suppress(ValueError):
        parts = urlsplit(url)
        return parts.scheme not in ("https", "wss") and not is_local(parts.hostname or "")
    return False


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
