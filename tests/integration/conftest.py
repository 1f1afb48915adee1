"""The command, as a user runs it: a process of its own, a home and ports of its own."""

import json
import os
import random
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis  # noqa: F401  # now: its plugin would at the end, amid what is thrown away then
import msgspec
import psutil
import pytest

from k2_schemas.testing import make_trade
from k2_schemas.units import MAX_UNITS
from tests import containers  # noqa: F401  # first: it says how testcontainers is to connect

TIMEOUT_S = 240


def find_free_port():
    """Return the first of three free ports below the range the kernel hands out."""
    for port in range(21_000 + os.getpid() % 4000 * 2, 32_000, 3):
        with suppress(OSError):
            for offset in range(3):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port + offset))
            return port
    raise AssertionError("no free ports")


@dataclass
class Command:
    """`k2` on one home."""

    home: Path
    port: int = field(default_factory=find_free_port)

    def start(self, *arguments, **options):
        """Start `k2 demo` with --json."""
        where = ["--home", str(self.home), "--port", str(self.port), "--json"]
        return subprocess.Popen(
            [sys.executable, "-m", "k2_cli", "demo", *arguments, *where],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def demo(self, *arguments):
        """Run `k2 demo --json` to its end and return the object it prints."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, err
        return json.loads(out)

    def query(self, sql):
        """Run `k2 query --json` and return its rows."""
        result = subprocess.run(
            [sys.executable, "-m", "k2_cli", "query", sql, "--home", str(self.home), "--json"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return [json.loads(line) for line in result.stdout.splitlines()]

    def wait_for_log(self, name, text, process, timeout_s=120):
        """Return once a child's log holds `text`."""
        log = self.home / "logs" / f"{name}.log"
        deadline = time.monotonic() + timeout_s
        while not (log.exists() and text in log.read_text(errors="replace")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline, f"{text!r} never appeared in {log}"
            time.sleep(0.05)

    def pid_of(self, name):
        """Return the process id of a child."""
        return json.loads((self.home / "run" / f"{name}.json").read_text())["pid"]

    def survivors(self):
        """Return the processes that still name this home on their command line."""
        found = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            line = " ".join(process.info["cmdline"] or ())
            if str(self.home) in line and process.pid != os.getpid():
                found.append(line[:200])
        return found


@pytest.fixture(scope="session")
def free_port():
    """Return the first of three free ports."""
    return find_free_port()


@pytest.fixture
def command(tmp_path):
    """Give a test its own home and ports."""
    command = Command(tmp_path / "home")
    yield command
    assert command.survivors() == []


@pytest.fixture(scope="session")
def seeded_trades():
    """Return trades with every edge of their fields, the same in every run."""
    chance = random.Random(4)
    # Where a signed integer of k bytes ends: the shortest form of each is easy to get wrong.
    ends = [end for k in range(1, 8) for end in (-(2 ** (8 * k - 1)), 2 ** (8 * k - 1))]
    units = [0, 1, -1, MAX_UNITS, -MAX_UNITS, *(end + step for end in ends for step in (-1, 0, 1))]
    texts = ["", "BTC/USDT", "ünï ✓", "日本語", "🙂", 'a "quoted" \\ line\n', "x" * 200]
    sequences = [None, 0, -1, 2**31, 2**63 - 1, -(2**63)]
    full = {f"key {n}": text for n, text in enumerate(texts)}
    return [
        msgspec.structs.replace(
            make_trade(number),
            trade_id=chance.choice(texts) + str(number),
            symbol=chance.choice(texts),
            price_units=price_units,
            quantity_units=chance.choice(units),
            timestamp_us=chance.randrange(-(10**15), 10**16),
            currency=chance.choice(texts),
            side=chance.choice(["BUY", "SELL"]),
            trade_conditions=tuple(texts[: chance.randrange(4)]),
            source_sequence=chance.choice(sequences),
            platform_sequence=chance.choice(sequences),
            vendor_data={"pair": chance.choice(texts)} | (full if number % 4 == 0 else {}),
        )
        for number, price_units in enumerate(units)
    ]
