"""The driver stops when it is told to, wherever its main thread is at that moment."""

import subprocess
import sys

import pytest

from k2_lake.stop_signal import StopSignal

STORM = """
import signal, threading, time
from k2_lake.stop_signal import StopSignal
stop = {made}()
signal.signal(signal.SIGALRM, lambda *_: stop.set())
signal.setitimer(signal.ITIMER_REAL, 0.00001, 0.00005)
end = time.monotonic() + 0.5
while time.monotonic() < end:
    stop = {made}()
    while not stop.wait(0.001):
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_it_is_unset_until_it_is_set():
    """A wait ends after its time, or at once."""
    stop = StopSignal()
    assert (stop.wait(0.001), stop.is_set()) == (False, False)
    stop.set()
    stop.set()
    assert (stop.wait(60), stop.wait(60), stop.is_set()) == (True, True, True)


def run_in_a_storm(made):
    """Wait again and again while signals come every 50 µs; return the exit code, -1 for a hang."""
    code = STORM.format(made=made)
    try:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, timeout=20
        ).returncode
    except subprocess.TimeoutExpired:
        return -1


@pytest.mark.parametrize(("made", "holds"), [("StopSignal", True), ("threading.Event", False)])
def test_a_signal_in_the_middle_of_a_wait_is_heard(made, holds):
    """An Event in its place shows that the storm finds the instant at which it cannot be set."""
    assert (run_in_a_storm(made) == 0) == holds
