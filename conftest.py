"""Run every Python example in README files and docs as a test."""

from doctest import ELLIPSIS

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

_NO_CONTAINERS = "no containers: "
_WITH_SPARK = {"replay-and-migrate.md"}

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS)],
    pattern="*.md",
).pytest()


def pytest_collection_modifyitems(config, items):
    """Leave out long forms unless asked for, and mark examples that start Spark.

    As its tests, they leave py4j's sockets to the end.
    """
    if "slow" not in config.option.markexpr:
        long_forms = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=long_forms)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    for item in items:
        if item.path.name in _WITH_SPARK:
            item.add_marker(pytest.mark.spark)
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))


def pytest_terminal_summary(terminalreporter):
    """Say in one line which tests did not run for want of containers, and what would let them."""
    lacking = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and _NO_CONTAINERS in report.longrepr[2]
    ]
    if lacking:
        files = sorted({report.nodeid.partition("::")[0] for report in lacking})
        reason = lacking[0].longrepr[2].partition(_NO_CONTAINERS)[2]
        terminalreporter.write_line(f"not run: {', '.join(files)}: {reason}")
