"""The stack of `deploy/compose.yaml` is valid, and its parts are the images that we make."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from k2_feed.settings import read_settings as read_feed
from k2_lake.settings import read_settings as read_lake
from tests.containers.engine import IMAGES

DEPLOY = Path(__file__).parents[2] / "deploy"
KEYS = {"STORE_ACCESS_KEY": "k2-access", "STORE_SECRET_KEY": "k2-secret-key"}


def find_compose():
    """The plugin, or Debian's program of its own; skip where there is neither."""
    if shutil.which("docker"):
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True)
        if plugin.returncode == 0:
            return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if os.environ.get("K2_CONTAINERS") == "required":
        pytest.fail("neither docker compose nor docker-compose is installed")
    pytest.skip("no docker compose")


def config(environment, folder):
    """Run `docker compose config` where nobody has put a .env beside the file."""
    shutil.copy(DEPLOY / "compose.yaml", folder)
    clean = {k: v for k, v in os.environ.items() if k not in KEYS}
    return subprocess.run(
        [*find_compose(), "-f", "compose.yaml", "config"],
        cwd=folder,
        env=clean | environment,
        capture_output=True,
        text=True,
    )


def test_the_stack_is_valid_and_stays_on_this_machine(tmp_path):
    """Every published port is on 127.0.0.1; every image is one of ours."""
    found = config(KEYS, tmp_path)

    assert found.returncode == 0, found.stderr
    published = re.findall(r"ports: \[(.+)\]", (DEPLOY / "compose.yaml").read_text())
    assert len(published) == found.stdout.count("ports:")
    places = [place.strip(' "') for ports in published for place in ports.split(",")]
    assert [place for place in places if not place.startswith("127.0.0.1:")] == []
    for image in IMAGES.values():
        assert image in found.stdout


@pytest.mark.parametrize("market", ["replay", "live"])
def test_each_market_has_volumes_of_its_own(tmp_path, market):
    """A lake of replayed trades is not the lake of an exchange; nor are positions and topics."""
    told = {**KEYS, "K2_MARKET": market, "COMPOSE_PROJECT_NAME": "mine"}
    found = config(told, tmp_path)

    assert found.returncode == 0, found.stderr
    for name in ("kafka", "minio", "feed-binance", "feed-kraken", "feed-coinbase", "lake"):
        assert f"name: mine-{market}-{name}\n" in found.stdout


def test_there_are_no_default_secrets(tmp_path):
    """Without keys nothing is started; the message says where to look."""
    found = config({}, tmp_path)

    assert found.returncode != 0
    assert "see .env.example" in found.stderr


@pytest.mark.parametrize(
    "path", sorted(DEPLOY.glob("config/*/*.toml")), ids=lambda p: p.parent.name
)
def test_each_feeds_configuration_is_one_that_the_feed_takes(path):
    """One exchange a file, by the file's name."""
    assert [exchange.name for exchange in read_feed(path).exchanges] == [path.stem]


def test_the_lakes_configuration_is_one_that_the_lake_takes():
    """Every exchange, on the cluster."""
    settings = read_lake(DEPLOY / "config" / "lake.toml")

    assert [exchange.name for exchange in settings.exchanges] == ["binance", "coinbase", "kraken"]
    assert settings.lake.master.startswith("spark://")
