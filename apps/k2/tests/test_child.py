"""Children of the local stack: real processes, ended in every way a process can end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import k2_cli.child
from k2_cli.child import Child
from k2_cli.errors import ChildDiedError

DEADLINE_S = 15.0

POLITE = """
import signal, sys, threading
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
print("ready", flush=True)
stop.wait()
print("drained", flush=True)
"""
DEAF = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("ready", grandchild.pid, flush=True)
grandchild.wait()
"""
PATIENT = "import time; print('ready', flush=True); time.sleep(600)"

PARENT = """
import os, sys, time
from pathlib import Path
from k2_cli.child import Child
child = Child("sleeper", Path(sys.argv[1]))
child.start([sys.executable, "-c", "import time; time.sleep(600)"], os.environ)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    child = Child("worker", tmp_path)
    yield child
    child.stop()


def start(child: Child, script: str) -> None:
    """Start a Python script as the child."""
    child.start([sys.executable, "-c", script], os.environ)


def wait_until(ready: Callable[[], bool], what: str) -> None:
    """Poll until `ready`, and fail with `what` when that never comes."""
    deadline = time.monotonic() + DEADLINE_S
    while not ready():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


def start_ready(child: Child, script: str) -> psutil.Process:
    """Start a script and return its process once it has said that it is ready."""
    start(child, script)
    wait_until(lambda: "ready" in child.read_log(), "the child is ready")
    return psutil.Process(read_note(child)["pid"])


def read_note(child: Child) -> dict[str, float]:
    """Read the pid file."""
    return json.loads(pid_file(child).read_text())


def pid_file(child: Child) -> Path:
    """Where a child's pid is noted."""
    return child.log.parent.parent / "run" / f"{child.name}.json"


def await_death(child: Child) -> ChildDiedError:
    """Return what `check` raises when the child has ended by itself."""
    deaths: list[ChildDiedError] = []

    def died() -> bool:
        try:
            child.check()
        except ChildDiedError as error:
            deaths.append(error)
        return bool(deaths)

    wait_until(died, "the death is noticed")
    return deaths[0]


def ended(process: psutil.Process) -> bool:
    """Tell whether a process is gone, or a zombie that no one has waited for."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_stop_lets_the_child_finish_its_work(child: Child):
    """SIGTERM comes first, and what the child does then is waited for."""
    process = start_ready(child, POLITE)
    child.stop()

    assert child.read_log() == "ready\ndrained\n"
    assert not process.is_running()
    assert not pid_file(child).exists()


def test_a_child_that_ignores_sigterm_is_killed_with_its_own_children(
    child: Child, monkeypatch: pytest.MonkeyPatch
):
    """After the timeout SIGKILL ends the whole session, grandchildren too."""
    monkeypatch.setattr(k2_cli.child, "_STOP_TIMEOUT_S", 0.2)
    process = start_ready(child, DEAF)
    grandchild = psutil.Process(int(child.read_log().split()[1]))
    child.stop()

    assert not process.is_running()
    wait_until(lambda: ended(grandchild), "the grandchild has ended")


def test_a_running_child_passes_the_check(child: Child):
    """Neither a child that runs, nor one never started, nor one we stopped, has died."""
    child.check()
    start_ready(child, POLITE)
    child.check()
    child.stop()
    child.check()


def test_a_killed_child_is_reported_with_its_signal(child: Child):
    """What it logged last has nothing to do with its death, so it is not quoted."""
    start_ready(child, PATIENT).kill()
    death = await_death(child)

    assert (death.name, death.code, death.log) == ("worker", -signal.SIGKILL, child.log)
    assert str(death) == (
        "worker was killed (signal 9). Nothing is lost: run the same command again. "
        f"Its log: {child.log}"
    )


def test_a_failed_child_is_reported_with_its_last_words(child: Child):
    """The last line of the log that is not blank says why."""
    start(child, "import sys; print('first', flush=True); sys.exit('no room on disk\\n\\n')")
    death = await_death(child)

    assert death.code == 1
    assert "worker ended with exit code 1, saying: no room on disk. Nothing is lost" in str(death)


def test_a_programs_own_sentence_goes_before_what_is_logged_after_it(child: Child):
    """A JVM logs on while it ends; the reader wants to know why it does."""
    own = "k2-worker: no room on disk"
    start(child, f"import sys; print('{own}', flush=True); sys.exit('WARN NetworkClient')")

    assert f"saying: {own}. Nothing is lost" in str(await_death(child))


def test_the_last_words_of_an_earlier_run_are_not_quoted(child: Child):
    """The log is kept over runs; a child that dies silently is not made to speak."""
    start(child, "import sys; sys.exit('yesterday')")
    await_death(child)
    start(child, "import os; os._exit(3)")
    death = await_death(child)

    assert death.code == 3
    assert "yesterday" not in str(death)
    assert child.read_log() == "yesterday\n"


def test_a_child_that_ends_well_but_unasked_has_died_too(child: Child):
    """Exit code 0 is no excuse: everyone else waits for it."""
    start(child, "")

    assert "worker ended with exit code 0. Nothing" in str(await_death(child))


def test_a_stopped_child_can_be_started_again_and_is_watched_again(child: Child):
    """A second life is guarded like the first."""
    start_ready(child, POLITE)
    child.stop()
    start(child, "import os; os._exit(4)")

    assert await_death(child).code == 4


def test_ctrl_c_does_not_reach_the_child(child: Child):
    """It leads a session of its own, so that we can end it in order."""
    process = start_ready(child, PATIENT)

    assert os.getsid(process.pid) == process.pid
    assert os.getsid(process.pid) != os.getsid(0)


def test_a_leftover_of_an_earlier_run_is_ended_by_the_next_start(child: Child, tmp_path: Path):
    """Another Child object on the same folder finds the process by its pid file."""
    leftover = start_ready(child, PATIENT)
    successor = Child(child.name, tmp_path)
    start(successor, PATIENT)
    try:
        wait_until(lambda: ended(leftover), "the leftover has ended")
        assert psutil.Process(read_note(successor)["pid"]).is_running()
    finally:
        successor.stop()


def test_a_stranger_with_the_pid_of_a_leftover_is_left_alone(tmp_path: Path):
    """Pids are reused: one that was born at another time is somebody else."""
    with subprocess.Popen([sys.executable, "-c", PATIENT], stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        child = Child("worker", tmp_path)
        pid_file(child).parent.mkdir()
        born = psutil.Process(stranger.pid).create_time() - 60
        pid_file(child).write_text(json.dumps({"pid": stranger.pid, "born": born}))
        child.reap()
        with pytest.raises(subprocess.TimeoutExpired):
            stranger.wait(0.2)
        stranger.kill()


@pytest.mark.parametrize("note", ["", "{", '{"pid": 1}', '{"pid": 4000000, "born": 1.0}'])
def test_a_broken_pid_file_stops_nobody(child: Child, note: str):
    """Cut short, incomplete, or of a process long gone: the child starts all the same."""
    pid_file(child).parent.mkdir()
    pid_file(child).write_text(note)

    assert start_ready(child, PATIENT).is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_child_dies_with_its_killed_parent(tmp_path: Path):
    """kill -9 of k2 gives it no time to clean up; the kernel does."""
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        sleeper = psutil.Process(json.loads((tmp_path / "run/sleeper.json").read_text())["pid"])
        assert not ended(sleeper)
        parent.kill()
    wait_until(lambda: ended(sleeper), "the child has died with its parent")
