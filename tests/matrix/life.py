"""Life: a lake that is killed again and again, and each time must come back with what was sent."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import Popen

from k2_schemas.topics import trades_topic

from .driver import STEPS
from .ledger import BATCH, COUNT, STEP_US, MatrixLedger, add_trades
from .rig import Lake, Reader, Rig, judge, read_all_the_while

CHECKPOINTS = ("same checkpoint", "last commit removed", "no checkpoint")


class Life:
    """One lake, its drivers, and all that was ever sent to it."""

    def __init__(self, rig: Rig, lake: Lake, checkpoint: str, reader: Reader) -> None:
        self._rig = rig
        self._lake = lake
        self._checkpoint = checkpoint
        self._reader = reader
        self._ledger = MatrixLedger(lake.exchange)
        # All of it is past when it is sent: what is ahead of the clock would be refused.
        self._begin_us = time.time_ns() // 1000 - len(STEPS) * COUNT * STEP_US - 120_000_000
        self._driver: Popen[bytes]

    def begin(self) -> None:
        """Start a driver and let it make the tables."""
        self._send(30)
        self._start()

    def crash(self, step: str) -> list[str]:
        """Kill the driver at a step of a part's second batch, spoil its checkpoint, start another.

        Returns what is wrong once that one has caught up; it is killed next.
        """
        duplicates, reads = self._reader.duplicates, self._reader.reads
        self._lake.order(step)
        self._send(COUNT)
        self._lake.wait_for_death(self._driver)
        _spoil_checkpoint(self._lake, self._checkpoint)
        self._start()
        seen = self._reader.duplicates - duplicates, self._reader.reads - reads
        return judge(self._lake, self._ledger, *seen)

    def end(self) -> None:
        """End the last driver in order."""
        self._lake.stop(self._driver)

    def _start(self) -> None:
        self._driver = self._lake.start()
        self._lake.wait_until_done(self._driver, self._ledger)

    def _send(self, count: int) -> None:
        before = len(self._ledger.records)
        add_trades(self._ledger, count, self._begin_us, BATCH, seed=before)
        self._begin_us += count * STEP_US
        self._rig.produce(self._ledger, before)


@contextmanager
def open_life(rig: Rig, exchange: str, checkpoint: str, topology: str = "fused") -> Iterator[Life]:
    """Begin a lake's life; somebody reads Gold for as long as it lasts."""
    rig.make_topic(trades_topic(exchange))
    lake = Lake(rig, exchange, topology)
    with read_all_the_while(lake) as reader:
        life = Life(rig, lake, checkpoint, reader)
        life.begin()
        yield life
        life.end()


def _spoil_checkpoint(lake: Lake, checkpoint: str) -> None:
    """Do to the checkpoints of a dead driver what the column is named after."""
    if checkpoint == "no checkpoint":
        # A driver that finds nothing to do may be ended before it makes any.
        shutil.rmtree(lake.home.checkpoints, ignore_errors=True)
    elif checkpoint == "last commit removed":
        for folder in lake.home.checkpoints.glob("*/commits"):
            numbers = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
            for path in (str(numbers[-1]), f".{numbers[-1]}.crc") if numbers else ():
                (folder / path).unlink(missing_ok=True)
