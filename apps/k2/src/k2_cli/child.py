"""Child: a process that logs to a file and never outlives us."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from .errors import ChildDiedError

_PR_SET_PDEATHSIG = 1
_STOP_TIMEOUT_S = 30.0


class Child:
    """A process of the local stack.

    It leads a session of its own, so Ctrl-C reaches only us and we end it in order. Should we be
    killed, Linux ends it with us; elsewhere the next start reaps it by its pid file.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.log = folder / "logs" / f"{name}.log"
        self._pid_file = folder / "run" / f"{name}.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._log_start = 0

    @property
    def pid(self) -> int:
        """The process id; only once started."""
        assert self._process is not None
        return self._process.pid

    def start(self, command: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        """Start the command; a leftover of an earlier run is ended first."""
        self.reap()
        if self._process is not None:
            self._process.wait()
        self._stopping = False
        for path in (self.log, self._pid_file):
            path.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )
        born = psutil.Process(self._process.pid).create_time()
        self._pid_file.write_text(json.dumps({"pid": self._process.pid, "born": born}))

    def reap(self) -> None:
        """End what an earlier run left behind, if it is still the same process."""
        try:
            note = json.loads(self._pid_file.read_text())
            process = psutil.Process(note["pid"])
            if abs(process.create_time() - note["born"]) < 1:
                process.kill()
                process.wait(_STOP_TIMEOUT_S)
        except (OSError, ValueError, KeyError, psutil.Error):
            return

    def check(self) -> None:
        """Raise `ChildDiedError` if the process ended by itself."""
        if self._process is None or self._stopping:
            return
        code = self._process.poll()
        if code is not None:
            # Someone who was killed has said nothing about it.
            said = self._read_last_line() if code > 0 else ""
            raise ChildDiedError(self.name, code, self.log, said)

    def stop_cleanly(self) -> None:
        """End the process in order; raise `ChildDiedError` if it did not end well."""
        self.stop()
        code = self._process.returncode if self._process is not None else 0
        if code:
            raise ChildDiedError(self.name, code, self.log, self._read_last_line())

    def stop(self) -> None:
        """End the process in order: SIGTERM and, if that is not heard, SIGKILL."""
        self._stopping = True
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._pid_file.unlink(missing_ok=True)

    def read_log(self) -> str:
        """Return what the process has logged, over all runs."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _read_last_line(self) -> str:
        """Return what it said last in this run; the log also holds the runs before.

        A program's own sentence, `k2-lake: …`, goes before what its JVM still logs while it ends.
        """
        said = self.log.read_bytes()[self._log_start :][-16_000:].decode(errors="replace")
        lines = [line for line in said.splitlines() if line.strip()]
        own = [line for line in lines if line.startswith("k2-")]
        return (own or lines)[-1][:300] if lines else ""


def _die_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return ask_kernel
