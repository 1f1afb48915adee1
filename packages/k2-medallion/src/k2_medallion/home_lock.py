"""Home lock: who works on a lake's home. Drivers share it, repairs want it for themselves."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from .catalog import LakeHome
from .errors import HomeBusyError

TOPOLOGIES = ("fused", "staged")


@contextmanager
def hold_home(home: LakeHome, *, alone: bool = False) -> Iterator[None]:
    """Hold a home for as long as the block runs; raise `HomeBusyError` if someone is in the way.

    Drivers do not exclude each other: which of two may publish is decided by the tables. A repair
    compares tables with each other while nobody changes them, so it must be `alone`.
    """
    who = "k2-lake, or a repair," if alone else "a repair (k2 replay)"
    with _hold(home, "lake", who, fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
        yield


@contextmanager
def hold_topology(home: LakeHome, topology: str) -> Iterator[None]:
    """Hold a home for drivers of one topology; raise `HomeBusyError` while another's are at work.

    The tables decide between drivers that publish under the same ids. Those of the other topology
    use others, so nothing would keep the two from publishing the same records.
    """
    with ExitStack() as stack:
        stack.enter_context(_hold(home, topology, "a driver of its own kind", fcntl.LOCK_SH))
        for other in TOPOLOGIES:
            if other != topology:
                # Own first, then the other's for a moment: of two that start at once, none or one.
                with _hold(home, other, f'k2-lake with topology = "{other}"', fcntl.LOCK_EX):
                    pass
        yield


@contextmanager
def _hold(home: LakeHome, name: str, who: str, kind: int) -> Iterator[None]:
    home.path.mkdir(parents=True, exist_ok=True)
    with (home.path / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeBusyError(home.path, who) from None
        yield
