"""Apicurio: the schema registry as its makers pack it, fetched once; its SHA-256 is locked."""

from __future__ import annotations

import os
import tarfile
import tempfile
from contextlib import suppress
from hashlib import file_digest
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver

from k2_medallion import JavaError
from k2_medallion.jvm import read_lock


def fetch_apicurio(cache: Path) -> Path:
    """Return the folder of the unpacked registry under `cache`."""
    (archive,) = read_lock(Path(__file__).with_name("apicurio.lock").read_text("utf-8"))
    group, artifact, version, classifier, packaging = archive.coordinate.split(":")
    folder = cache / f"{artifact}-{version}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetch-") as draft:
        context = MavenContext(PythonResolver(), repo_cache=Path(draft), local_repos=[], timeout=60)
        component = context.project(group, artifact).at_version(version)
        path = component.artifact(classifier, packaging).resolve()
        with Path(path).open("rb") as content:
            if file_digest(content, "sha256").hexdigest() != archive.sha256:
                raise JavaError(f"{artifact} is not what its lock says; nothing was kept")
        with tarfile.open(path) as packed:
            packed.extractall(Path(draft) / "unpacked", filter="data")
        # Whole or not at all; another run that was first is as good.
        with suppress(OSError):  # the system calls it "not empty", not "exists"
            os.rename(Path(draft) / "unpacked", folder)
    return folder
