"""Scratch: files that a driver's JVM needs only while it runs; what killed ones left goes first."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "driver-"


def take_scratch(root: Path) -> Path:
    """Return a new folder in `root` for this process, and remove those of processes that ended.

    A driver that is killed leaves its shuffle files and unpacked native libraries behind: a few MB
    each time, or all that a catch-up had spilled. Whoever lives, a stopped driver too, holds a lock
    in its folder and keeps it.
    """
    root.mkdir(parents=True, exist_ok=True)
    # One at a time: a folder that is made and not yet locked looks like a dead one's.
    with (root / "scratch.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        for folder in root.glob(f"{_PREFIX}*"):
            if not _is_held(folder):
                shutil.rmtree(folder, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root)).resolve()
        # A bare descriptor: nobody closes it, so it is locked for as long as this process lives.
        fcntl.flock(os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)
    return folder


def _is_held(folder: Path) -> bool:
    try:
        # For writing: a file system that keeps locks on a server asks for that.
        with (folder / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # held, or nobody can tell
    return False
