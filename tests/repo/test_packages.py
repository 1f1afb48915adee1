"""Every package and app is a distribution of its own, made alike."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent for path in ROOT.glob("*/*/pyproject.toml"))
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
SIBLING = re.compile(r"(k2-[a-z]+)(\[[a-z,]+\])?(.*)")

each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


def read_project(folder: Path) -> dict[str, Any]:
    """Return the [project] table of a folder."""
    with (folder / "pyproject.toml").open("rb") as file:
        project: dict[str, Any] = tomllib.load(file)["project"]
    return project


def find_import(folder: Path) -> Path:
    """Return the one import package that a folder ships."""
    (found,) = (path for path in (folder / "src").glob("k2_*") if path.suffix != ".egg-info")
    return found


def minor(version: str) -> tuple[int, int]:
    """Return major and minor: what may break in 0.x."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def test_every_folder_of_packages_and_apps_is_a_distribution():
    """Nothing lies in packages/ or apps/ that is not built, tested and released."""
    found = sorted(path for name in ("packages", "apps") for path in (ROOT / name).iterdir())

    assert found == FOLDERS
    assert len(FOLDERS) >= 7


@each_folder
def test_a_distribution_has_all_that_its_users_look_for(folder: Path):
    """README and CHANGELOG with text in them, types, and tests of its own."""
    for name in ("README.md", "CHANGELOG.md"):
        assert (folder / name).read_text("utf-8").startswith("# "), name
    assert (find_import(folder) / "py.typed").exists()
    assert list((folder / "tests").rglob("test_*.py")) != []


@each_folder
def test_every_licence_is_the_roots(folder: Path):
    """A wheel carries its own copy; copies must not drift."""
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert read_project(folder)["license"] == "Apache-2.0"
    assert read_project(folder)["license-files"] == ["LICENSE"]


@each_folder
def test_a_version_is_static_and_tops_its_changelog(folder: Path):
    """One place says it, the changelog agrees, and no tag is needed to build."""
    project = read_project(folder)
    released = re.findall(
        r"^## (\d\S*) - (\d{4}-\d\d-\d\d)$", (folder / "CHANGELOG.md").read_text("utf-8"), re.M
    )

    assert "dynamic" not in project
    assert VERSION.fullmatch(project["version"])
    assert released[0][0] == project["version"]


@each_folder
def test_siblings_are_ranges_that_hold_todays_versions(folder: Path):
    """>=0.N,<0.N+1 of what is beside it: never a pin, never an open end."""
    versions = {read_project(other)["name"]: read_project(other)["version"] for other in FOLDERS}
    project = read_project(folder)
    extras = project.get("optional-dependencies", {}).values()
    wanted = [*project["dependencies"], *(text for extra in extras for text in extra)]
    for match in filter(None, map(SIBLING.fullmatch, wanted)):
        major, least = minor(versions[match[1]])
        assert match[3] == f">={major}.{least},<{major}.{least + 1}", match[0]


@each_folder
def test_a_distribution_is_named_as_its_folder_and_import(folder: Path):
    """packages/k2-x is k2-x, imported k2_x; apps/x is k2-x (the command's own is k2-cli)."""
    name = read_project(folder)["name"]
    expected = folder.name if folder.parent.name == "packages" else f"k2-{folder.name}"

    assert name == ("k2-cli" if folder.name == "k2" else expected)
    assert find_import(folder).name == name.replace("-", "_")


@each_folder
def test_python_311_is_enough(folder: Path):
    """What the README promises holds for every part."""
    assert read_project(folder)["requires-python"] == ">=3.11"


def test_the_root_is_no_distribution():
    """The workspace root is never built."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert "project" not in tomllib.load(file)
