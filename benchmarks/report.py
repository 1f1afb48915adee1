"""Report: tables for a person on stderr, and the same as Markdown for `benchmarks/results`."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from .measure import Spread


class Report:
    """Collects what a benchmark has to say, and prints it as it comes."""

    def __init__(self, name: str) -> None:
        self._lines = [f"# {name}", "", _describe_machine(), ""]
        print("\n".join(self._lines), file=sys.stderr)

    def note(self, text: str) -> None:
        """Add a paragraph."""
        self._add([text, ""])

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table."""
        lines = [f"## {title}", "", f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        self._add([*lines, ""])

    def spreads(self, title: str, unit: str, spreads: Mapping[str, Spread]) -> None:
        """Add a table of rates: median, slowest and fastest round."""
        rows = [
            [
                name,
                *(f"{n:,.0f}" for n in (spread.per_s, spread.slowest_per_s, spread.fastest_per_s)),
            ]
            for name, spread in spreads.items()
        ]
        self.table(title, ["", f"{unit}/s, median", "slowest round", "fastest round"], rows)

    def versions(self, *distributions: str) -> None:
        """Say which versions ran."""
        self.note("Versions: " + ", ".join(f"{name} {version(name)}" for name in distributions))

    def save(self, path: Path) -> None:
        """Write everything said so far to a Markdown file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(self._lines).rstrip() + "\n", encoding="utf-8")

    def _add(self, lines: Sequence[str]) -> None:
        self._lines += lines
        print("\n".join(lines), file=sys.stderr)


def _describe_machine() -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = models[0].partition(":")[2].strip() if models else cpu
    today = datetime.now(UTC).date()
    return (
        f"{today}, {os.cpu_count()} cores ({cpu}), {platform.system()}, "
        f"{platform.python_implementation()} {platform.python_version()}. "
        f"Command: `hatch run bench {' '.join(sys.argv[1:])}`."
    )
