"""Each package's errors form one tree, and its `errors` module prints that tree."""

import importlib
import re
from types import ModuleType

import pytest

LIBRARIES = ("k2_schemas", "k2_validation", "k2_connectors", "k2_medallion")
BRANCH = re.compile(r"(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)(?:\s{2,}\S.*)?")


@pytest.fixture(params=[*LIBRARIES, "k2_cli"])
def errors(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"{request.param}.errors")


def read_tree(text: str) -> dict[str, str]:
    """Return each error's parent, as the tree in a docstring draws it."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in text.splitlines()[1:]:
        match = BRANCH.fullmatch(line)
        if match is None:
            continue
        depth = len(match["indent"]) // 4
        path[depth:] = [match["name"]]
        parents[match["name"]] = path[depth - 1] if depth else "Exception"
    return parents


def list_errors(module: ModuleType) -> dict[str, type[Exception]]:
    """Return the error classes that a module defines."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    }


def test_the_printed_tree_is_the_real_one(errors: ModuleType):
    """Names, order and bases: what a user reads is what `except` does."""
    assert errors.__doc__ is not None
    printed = read_tree(errors.__doc__)
    real = {
        name: base.__name__ for name, cls in list_errors(errors).items() for base in cls.__bases__
    }

    assert printed == real
    assert list(printed) == list(real)


def test_one_error_catches_all(errors: ModuleType):
    """Only the root is a plain Exception."""
    plain = [name for name, cls in list_errors(errors).items() if Exception in cls.__bases__]

    assert plain == list(list_errors(errors))[:1]


def test_every_error_says_when_it_is_raised(errors: ModuleType):
    """Each class has a docstring of its own, and its name says that it is an error."""
    for name, cls in list_errors(errors).items():
        assert cls.__dict__.get("__doc__"), name
        assert name.endswith("Error")


@pytest.mark.parametrize("package", LIBRARIES)
def test_every_error_of_a_library_can_be_imported_from_it(package: str):
    """Who must catch an error need not know which module it lives in."""
    library = importlib.import_module(package)
    raised = list_errors(importlib.import_module(f"{package}.errors"))

    assert set(raised) <= set(library.__all__)
