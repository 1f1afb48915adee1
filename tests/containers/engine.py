"""Engine: is there one that runs containers, and does it have our images?"""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Mapping
from functools import cache

import docker
import pytest
from docker.errors import DockerException, ImageNotFound

IMAGES: Mapping[str, str] = {
    "kafka": "k2/cp-kafka:8.1.0",
    "minio": "k2/minio:20260212",
    "registry": "k2/registry:3.3.3",
    "spark": "k2/spark:4.1.1",
    "k2-feed": "k2/k2-feed:0.1.0",
    "k2-lake": "k2/k2-lake:0.1.0",
}


MARKS = [
    pytest.mark.pipeline,
    pytest.mark.containers,
    pytest.mark.timeout(1200),
    # The engine's and the store's Python clients leave sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""Of every test module on containers."""


def image_of(name: str) -> str:
    """Return the tag that stands for a service: ours, or what `K2_TEST_<NAME>_IMAGE` says."""
    variable = f"K2_TEST_{name.replace('-', '_').upper()}_IMAGE"
    return os.environ.get(variable, IMAGES[name])


def require_images(*names: str) -> None:
    """Return if all is there; else fail where containers are required, and skip elsewhere."""
    lack = _find_lack(tuple(map(image_of, names)))
    if lack and os.environ.get("K2_CONTAINERS") == "required":
        pytest.fail(f"containers are required here: {lack}", pytrace=False)
    if lack:
        pytest.skip(f"no containers: {lack}")


@cache
def _find_lack(tags: tuple[str, ...]) -> str:
    try:
        client = docker.from_env(timeout=10)
        lacking = [tag for tag in tags if not _has(client, tag)]
    except DockerException:
        with warnings.catch_warnings():
            # A client that finds no engine leaves its socket to the garbage collector, whose
            # warning would fail whichever test runs then.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        return "no container engine answers; start Docker, then: hatch run images"
    for tag in lacking:
        if tag in IMAGES.values():
            return f"no image {tag}; make it with: hatch run images"
        try:
            client.images.pull(tag)
        except DockerException as error:
            return f"no image {tag}, and it cannot be pulled: {error}"
    return ""


def _has(client: docker.DockerClient, tag: str) -> bool:
    try:
        client.images.get(tag)
    except ImageNotFound:
        return False
    return True
