"""Names that must not come back, and hosts that nobody should have to reach."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
EMPTY_NAMES = {"util", "base", "common", "handler", "helper", "manager", "misc"}
GENERATED = {"__pycache__", "dist", "build"}

# In parts, so that this file does not hold what it looks for.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("repo1", "maven", "org"),
        ("repo", "maven", "apache", "org"),
        ("npmjs", "org"),
        ("crates", "io"),
        ("docker", "io"),
        ("docker", "com"),
    )
]


def files(folder: Path = ROOT) -> Iterator[Path]:
    """Every file that is ours: caches and whatever else begins with a dot left out, .ci not."""
    for path in sorted(folder.iterdir()):
        if path.is_file():
            yield path
        elif path.name == ".ci" or not (path.name.startswith(".") or path.name in GENERATED):
            yield from files(path)


def test_no_module_has_a_name_that_says_nothing():
    """A module is called what its user would say; `utils` is what nobody looks for."""
    modules = [path for path in files() if path.suffix == ".py"]
    words = {path: {path.stem, path.parent.name} for path in modules}

    assert len(modules) > 50
    assert [
        str(path.relative_to(ROOT))
        for path, names in words.items()
        if any(word.removesuffix("s") in EMPTY_NAMES for name in names for word in name.split("_"))
    ] == []


def test_contract_v2_is_the_only_schema():
    """No V1, no equity, no ASX: neither a file nor a word in one."""
    schemas = [path for path in files() if path.suffix == ".avsc"]
    beside = [path for schema in schemas for path in schema.parent.iterdir()]

    assert [path.name for path in schemas] == ["trade_v2.avsc"]
    for path in beside:
        text = path.read_text("utf-8").lower()
        assert [word for word in ("asx", "equit", "_v1", "isin") if word in text] == [], path


def test_no_file_names_a_package_registry():
    """Where packages come from is the user's configuration, mirrors included."""
    found = [
        (str(path.relative_to(ROOT)), host)
        for path in files()
        for host in REGISTRY_HOSTS
        if host in path.read_text("utf-8", errors="replace")
    ]

    assert found == []
