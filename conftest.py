"""Run every Python example in README files and docs as a test."""

from doctest import ELLIPSIS

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

_WITH_SPARK = {"replay-and-migrate.md"}

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS)],
    pattern="*.md",
).pytest()


def pytest_collection_modifyitems(items):
    """Mark examples that start Spark: as its tests, they leave py4j's sockets to the end."""
    for item in items:
        if item.path.name in _WITH_SPARK:
            item.add_marker(pytest.mark.spark)
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
