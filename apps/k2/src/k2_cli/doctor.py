"""Doctor: what this machine has of what K2 needs, and the command that cures each lack."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from k2_medallion import JavaError
from k2_medallion.jvm import find_java, spark_jars

from .broker import kafka_jars
from .errors import PortTakenError
from .stack import check_ports

_NEEDED_MEMORY_GB = 4
_NEEDED_DISK_GB = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `cure` is empty when all is well."""

    subject: str
    found: str
    cure: str = ""

    @property
    def well(self) -> bool:
        """Nothing needs curing."""
        return not self.cure


def examine(
    home: Path, port: int, cache: Path, environment: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield a finding for each thing K2 needs on this machine."""
    yield _examine_python()
    yield _examine_java(cache, environment)
    yield _examine_jars(cache)
    yield _examine_memory()
    yield _examine_disk(home)
    yield _examine_ports(port)
    yield _examine_home(home)


def _examine_python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable})"
    old = sys.version_info < (3, 11)
    return Finding("Python", found, "install Python 3.11 or newer" if old else "")


def _examine_java(cache: Path, environment: Mapping[str, str]) -> Finding:
    try:
        java = find_java(cache, environment)
    except JavaError as error:
        return Finding("Java", "none that Spark and Kafka can use", str(error))
    return Finding("Java", f"{java.version} from {java.source} ({java.home})")


def _examine_jars(cache: Path) -> Finding:
    jars = [*kafka_jars(), *spark_jars()]
    held = sum((cache / "jars" / jar.file_name).exists() for jar in jars)
    size_mb = sum(jar.size_bytes for jar in jars) // 1_000_000
    later = "" if held == len(jars) else f"; the next `k2 demo` fetches the rest of {size_mb} MB"
    return Finding("Java libraries", f"{held} of {len(jars)} in {cache / 'jars'}{later}")


def _examine_memory() -> Finding:
    free_gb = psutil.virtual_memory().available / 1e9
    cure = f"close other programs: {_NEEDED_MEMORY_GB} GB are needed"
    found = f"{free_gb:.1f} GB available"
    return Finding("Memory", found, cure if free_gb < _NEEDED_MEMORY_GB else "")


def _examine_disk(home: Path) -> Finding:
    place = next(path for path in [home.absolute(), *home.absolute().parents] if path.exists())
    free_gb = shutil.disk_usage(place).free / 1e9
    cure = f"free {_NEEDED_DISK_GB} GB, or take another --home"
    found = f"{free_gb:.1f} GB free at {place}"
    return Finding("Disk", found, cure if free_gb < _NEEDED_DISK_GB else "")


def _examine_ports(port: int) -> Finding:
    try:
        check_ports(port)
    except PortTakenError as error:
        return Finding("Ports", f"{error.port} is taken", str(error))
    return Finding("Ports", f"{port}-{port + 2} are free")


def _examine_home(home: Path) -> Finding:
    if (home / "catalog.db").exists():
        return Finding("Home", f"a lake in {home}")
    return Finding("Home", f"no lake in {home} yet; `k2 demo` makes one")
