"""Verify: an audit of the lake for people and scripts."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from k2_medallion.audit import AuditReport

BROKEN = 1
"""Exit code: rows were lost, doubled or changed."""

HOLES = 3
"""Exit code: no breach, but trades that never reached the lake. (2 is a usage error.)"""

_MOST_HOLES = 20


def find_breaches(report: AuditReport, *, strict: bool) -> list[str]:
    """Return a sentence for every law that does not hold; if strict, for what is unfinished too."""
    breaches = [str(law) for law in report.breaches]
    return breaches + list_unfinished(report) if strict else breaches


def list_unfinished(report: AuditReport) -> list[str]:
    """Return a sentence for everything that Kafka holds and has not gone through all tables."""
    pending = [
        f"{table}: {batches:,} batches of the table before it are on their way"
        for table, batches in report.pending.items()
    ]
    return [*map(str, report.lags), *pending]


def choose_exit_code(report: AuditReport, *, strict: bool) -> int:
    """Return 0 if all is well, `BROKEN`, or `HOLES`."""
    if find_breaches(report, strict=strict):
        return BROKEN
    return HOLES if report.holes else 0


def print_report(report: AuditReport, *, strict: bool, offline: bool) -> None:
    """Print every law, then what is unfinished and what never came."""
    console = Console()
    table = Table("", "table", "law", "expected", "found", box=None)
    for law in report.laws:
        numbers = (f"{law.expected:,}", f"{law.found:,}")
        table.add_row(_mark(law.holds), law.table, Text(law.name), *numbers)
        if law.examples:
            table.add_row("", "", Text("\n".join(law.examples), style="red"))
    console.print(table)
    for text in list_unfinished(report):
        console.print(_mark(not strict), Text(text), soft_wrap=True)
    for hole in report.holes[:_MOST_HOLES]:
        console.print(_mark(False), Text(str(hole)), soft_wrap=True)
    if len(report.holes) > _MOST_HOLES:
        console.print(f"  and {len(report.holes) - _MOST_HOLES:,} more")
    console.print(Text(summarize(report, offline=offline)))


def summarize(report: AuditReport, *, offline: bool) -> str:
    """Return the result in one line, and what to do."""
    broken = len(report.breaches)
    said = f"{broken} of {len(report.laws)} laws broken" if broken else "every law holds"
    if report.holes:
        ids = sum(hole.missing.size for hole in report.holes)
        said += f"; {ids:,} trades never came (see k2 gaps)"
    if not report.settled:
        said += "; work is left for k2-lake"
    return f"{said}; Kafka was not asked" if offline else said


def _mark(well: bool) -> Text:
    return Text("✓", "green") if well else Text("✗", "red")
