"""Home lock: who works on a lake's home. Drivers share it, repairs want it for themselves."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from .catalog import LakeHome
from .errors import HomeBusyError


@contextmanager
def hold_home(home: LakeHome, *, alone: bool = False) -> Iterator[None]:
    """Hold a home for as long as the block runs; raise `HomeBusyError` if someone is in the way.

    Drivers do not exclude each other: which of two may publish is decided by the tables. A repair
    compares tables with each other while nobody changes them, so it must be `alone`.
    """
    home.path.mkdir(parents=True, exist_ok=True)
    with (home.path / "lake.lock").open("w") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeBusyError(home.path, alone=alone) from None
        yield
