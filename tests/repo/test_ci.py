"""What CI runs is what the README tells a user to type."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
CI = ROOT / ".ci" / "run"


def shell_blocks() -> list[str]:
    """Return the README's shell blocks, in order."""
    return re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)


def test_the_readme_begins_with_the_two_commands():
    """The demo first, the tests second, each a line to copy and nothing else."""
    assert shell_blocks()[:2] == [
        "pip install hatch && hatch run k2 demo\n",
        "pip install hatch && hatch test\n",
    ]


def test_both_commands_are_on_the_readmes_first_screen():
    """Within the first 30 lines, before any picture or table."""
    first_screen = "\n".join((ROOT / "README.md").read_text("utf-8").splitlines()[:30])

    assert all(block in first_screen for block in shell_blocks()[:2])


def test_ci_runs_the_readmes_test_command_word_for_word():
    """Not a shortcut that works on our machines only."""
    commands = [line.strip() for line in CI.read_text("utf-8").splitlines()]

    assert [c for c in commands if shell_blocks()[1].strip() in c] != []
    assert [c for c in commands if "hatch run check" in c and not c.startswith("#")] != []


def test_ci_judges_the_demo():
    """The demo's JSON is looked at: nothing missing, nothing unexpected."""
    text = CI.read_text("utf-8")

    assert "hatch run k2 demo" in text
    assert 'result["missing"] == result["unexpected"] == 0' in text


def test_ci_can_be_executed():
    """It is a program, and one that a shell can read to its end."""
    checked = subprocess.run(["bash", "-n", CI], capture_output=True, text=True)

    assert os.access(CI, os.X_OK)
    assert (checked.returncode, checked.stderr) == (0, "")
