"""ARCHITECTURE.md is a map: every folder is on it, and nothing else."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHES = {"dist", "build", "__pycache__"}
MAP = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
NAMED = set(re.findall(r"^\| `([^`]+)`", MAP, re.M))


def list_folders(parent: Path) -> set[str]:
    """Return the folders below one, from the root on."""
    return {path.relative_to(ROOT).as_posix() for path in parent.iterdir() if path.is_dir()}


def test_every_package_and_app_is_on_the_map():
    """Each has a row with its duty and its prohibition, and no row leads nowhere."""
    folders = list_folders(ROOT / "packages") | list_folders(ROOT / "apps")

    assert {name for name in NAMED if name.startswith(("packages/", "apps/"))} == folders


def test_every_top_level_folder_is_on_the_map():
    """packages/ and apps/ by what they hold, all others by themselves."""
    folders = {name for name in list_folders(ROOT) if name == ".ci" or not name.startswith(".")}

    assert folders - CACHES <= {name.split("/")[0] for name in NAMED}


def test_every_row_of_the_map_has_a_duty_and_a_prohibition():
    """A folder without a prohibition attracts everything."""
    rows = [line.strip("| ").split(" | ") for line in MAP.splitlines() if line.startswith("| `")]

    assert rows != []
    assert [row[0] for row in rows if len(row) != 3 or not all(map(str.strip, row))] == []
