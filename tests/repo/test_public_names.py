"""What a library's `__init__` offers is listed, sorted and there."""

import importlib
from types import ModuleType

import pytest

MODULES = (
    "k2_schemas",
    "k2_validation",
    "k2_connectors",
    "k2_connectors.testing",
    "k2_medallion",
)


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def sort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, each by name: ruff's order of `__all__`."""
    rank = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return rank, name


def test_public_names_are_sorted_and_listed_once(module: ModuleType):
    """A name is where a reader looks for it."""
    assert module.__all__ == sorted(set(module.__all__), key=sort_key)


def test_public_names_are_all_that_the_module_offers(module: ModuleType):
    """Nothing is offered without being listed, nothing listed that is not there."""
    offered = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }

    assert offered == set(module.__all__)
