"""A driver has a folder of its own for what its JVM writes, and clears up after killed ones."""

import subprocess
import sys
from pathlib import Path

from k2_medallion.scratch import take_scratch

_HOLD = """
import sys, time
from pathlib import Path
from k2_medallion.scratch import take_scratch
print(take_scratch(Path(sys.argv[1])), flush=True)
time.sleep(60)
"""


def start_driver(root):
    """Start a process that takes a scratch; return it and the folder it took."""
    driver = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(root)], stdout=subprocess.PIPE, text=True
    )
    return driver, driver.stdout.readline().strip()


def end(driver):
    driver.kill()
    driver.wait()
    driver.stdout.close()


def test_what_a_killed_driver_left_is_gone_at_the_next_start(tmp_path):
    """What is not called as a driver's folder is somebody else's, and stays."""
    driver, folder = start_driver(tmp_path)
    (Path(folder) / "shuffle").write_bytes(b"x")
    end(driver)
    (tmp_path / "notes").mkdir()

    own = take_scratch(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {own.name, "scratch.lock", "notes"}
    assert str(own) != folder


def test_a_driver_that_lives_keeps_its_folder(tmp_path):
    """Two drivers on one home are no mistake: the tables decide which of them may publish."""
    driver, folder = start_driver(tmp_path)
    try:
        own = take_scratch(tmp_path)
        again = take_scratch(tmp_path)
    finally:
        end(driver)

    assert {str(own), str(again), folder} == {
        str(path.resolve()) for path in tmp_path.iterdir() if path.is_dir()
    }
