"""k2-schemas as a stranger gets it: built, installed alone in a clean environment, tested there."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.dist

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "packages" / "k2-schemas"
BUILT = shutil.ignore_patterns("build", "dist", "*.egg-info", "*.so", "*.pyd", "__pycache__", ".*")
# What belongs to the environment that this test runs in, and not to a stranger's.
OURS = ("PYTHON", "PYTEST", "COV", "HATCH", "VIRTUAL_ENV", "UV_PYTHON")
ROUND_TRIP = """
import json, k2_schemas
from k2_schemas.testing import make_trade
codec = k2_schemas.TradeCodec()
assert codec.decode(codec.encode(make_trade())) == make_trade()
print(json.dumps([k2_schemas.backend, k2_schemas.__file__]))
"""


def run(*command, **options):
    """Run a program to its end and return what it printed; an error shows all of it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    environment |= options.pop("environment", {})
    result = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env=environment,
        **options,
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-8000:]
    return result.stdout


@pytest.fixture(scope="module")
def uv():
    """The installer that hatch brings."""
    beside = Path(sys.base_prefix) / "bin" / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    assert found, "uv is neither beside Python nor on PATH: pip install hatch"
    return found


@pytest.fixture(scope="module")
def dists(uv, tmp_path_factory):
    """The sdist, and the wheel that is built from it; our own tree is not touched."""
    folder = tmp_path_factory.mktemp("dists")
    shutil.copytree(PACKAGE, folder / "source", ignore=BUILT)
    run(uv, "build", "--python", sys.executable, "--out-dir", folder, folder / "source")
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def compilerless_wheel(uv, dists, tmp_path_factory):
    """What the sdist becomes on a machine that has no compiler."""
    folder = tmp_path_factory.mktemp("compilerless")
    (folder / "bin").mkdir()
    nothing = shutil.which("false")
    environment = {"PATH": str(folder / "bin"), "CC": nothing, "CXX": nothing}
    run(
        *(uv, "build", "--wheel", "--python", sys.executable, "--out-dir", folder, dists[0]),
        environment=environment,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module", params=["cython", "python"])
def backend(request):
    """Which engine the wheel has."""
    return request.param


@pytest.fixture(scope="module")
def wheel(backend, dists, request):
    """A wheel with the engine, then one without."""
    return dists[1] if backend == "cython" else request.getfixturevalue("compilerless_wheel")


class Environment:
    """A clean virtual environment in a folder of its own."""

    def __init__(self, uv, folder):
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        self._uv = uv
        run(uv, "venv", "--python", sys.executable, folder / "venv")

    def install(self, *requirements):
        """Install requirements and what they declare."""
        run(self._uv, "pip", "install", "--python", self.python, *requirements)

    def list_packages(self):
        """The names of all that is installed."""
        said = run(self._uv, "pip", "list", "--format", "json", "--python", self.python)
        return {package["name"] for package in json.loads(said)}

    def execute(self, *arguments):
        """Run its Python in its folder, far from our sources."""
        return run(self.python, *arguments, cwd=self.folder)


@pytest.fixture(scope="module")
def equipped(uv, wheel, tmp_path_factory):
    """The wheel with its extras, what its tests run on, its tests and its README."""
    folder = tmp_path_factory.mktemp("equipped")
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text("utf-8"))["project"]
    extras = ",".join(project["optional-dependencies"])
    environment = Environment(uv, folder)
    environment.install(
        f"k2-schemas[{extras}] @ {wheel.as_uri()}",
        "pytest",
        "pytest-timeout",
        "hypothesis",
        "sybil",
    )
    shutil.copytree(PACKAGE / "tests", folder / "tests", ignore=BUILT)
    shutil.copy(PACKAGE / "README.md", folder)
    shutil.copy(ROOT / "conftest.py", folder)  # runs the README's examples
    return environment


def test_the_sdist_holds_what_a_build_needs(dists):
    """The engine's source, never what some machine made of it; the tests for who packages it."""
    with tarfile.open(dists[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}

    assert {"src/k2_schemas/_native.pyx", "setup.py", "pyproject.toml", "LICENSE"} <= names
    assert {f"tests/{path.name}" for path in PACKAGE.glob("tests/*.py")} <= names
    assert [name for name in names if name.endswith((".c", ".so", ".pyd"))] == []


def test_a_wheel_holds_the_package_and_no_source_of_the_engine(wheel, backend):
    """Types, contract, lock and licence with it; the engine only where it was built."""
    names = zipfile.ZipFile(wheel).namelist()
    modules = {path.name for path in (PACKAGE / "src/k2_schemas").glob("*.py")}

    assert {f"k2_schemas/{module}" for module in modules} <= {*names}
    assert {
        "k2_schemas/py.typed",
        "k2_schemas/avro/trade_v2.avsc",
        "k2_schemas/avro/schemas.lock.json",
    } <= {*names}
    assert [name for name in names if name.endswith("/licenses/LICENSE")] != []
    assert [name for name in names if name.endswith((".pyx", ".c", ".h"))] == []
    assert len([n for n in names if n.endswith((".so", ".pyd"))]) == (backend == "cython")


def test_a_wheel_with_the_engine_is_for_its_platform(dists):
    """An installer elsewhere must take the sdist."""
    assert not dists[1].name.endswith("-none-any.whl")


def test_a_wheel_alone_brings_two_packages_and_works(uv, wheel, backend, tmp_path):
    """No broker's client, no Arrow, no Cython; the trade comes back as it went."""
    alone = Environment(uv, tmp_path)
    alone.install(wheel)
    found, file = json.loads(alone.execute("-c", ROUND_TRIP))

    assert alone.list_packages() == {"k2-schemas", "fastavro", "msgspec"}
    assert found == backend
    assert Path(file).is_relative_to(tmp_path / "venv")


def test_the_packages_own_tests_pass_on_the_installed_wheel(equipped, backend):
    """All but the long forms, with the engine and without, and none of it from our tree."""
    found, file = json.loads(equipped.execute("-c", ROUND_TRIP))
    assert (found, Path(file).is_relative_to(equipped.folder / "venv")) == (backend, True)

    said = equipped.execute(
        *(
            "-m",
            "pytest",
            "tests",
            "-q",
            "-m",
            "not slow",
            "-p",
            "no:cacheprovider",
            "--import-mode=importlib",
        )
    )
    assert " passed" in said


def test_every_example_of_the_readme_runs_on_the_installed_wheel(equipped):
    """A stranger has the README and the wheel, nothing else."""
    said = equipped.execute(
        *("-m", "pytest", "README.md", "-q", "-p", "no:cacheprovider", "--import-mode=importlib")
    )
    assert " passed" in said
