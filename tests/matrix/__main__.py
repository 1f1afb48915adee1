"""`hatch run matrix`: run the crash matrix, or one column of it, and write its table.

Each is a broker, a home, real drivers and a ledger; a case is good when Gold, Bronze and dead
letters equal the ledger in content and no reader has ever seen a duplicate.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from . import cases
from .driver import SABOTAGES, STEPS
from .life import CHECKPOINTS, open_life
from .rig import Rig

Case = Callable[[Rig, str], list[str]]

Results = Mapping[str, Mapping[str, tuple[bool, str, float]]]
"""Per column and case: whether it is as it should be, what was found, and seconds."""

_KEPT = Path(__file__).with_name("results.json")
_TABLE = Path(__file__).parents[2] / "docs" / "reference" / "crash-matrix.md"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _cheat(kind: str) -> Case:
    return lambda rig, name: cases.sabotage(rig, name, kind)


LIVES: Mapping[str, tuple[str, str]] = {
    **{checkpoint: (checkpoint, "fused") for checkpoint in CHECKPOINTS},
    "staged": ("no checkpoint", "staged"),
}
"""Columns with a cell for each step: what is done to the checkpoints, and the topology."""

CASES: Mapping[str, Mapping[str, Case]] = {
    "other": {
        "zombie driver": cases.zombie,
        "two drivers at once": cases.two_drivers,
        "expired last-read snapshot (staged)": cases.expired_snapshot,
        "compaction during writes": cases.compaction,
        "midnight, TZ=Asia/Kolkata": cases.midnight,
        "broker killed": cases.broker_killed,
        "every checkpoint removed, twice": cases.no_checkpoints,
    },
    "sabotage": {kind: _cheat(kind) for kind in SABOTAGES},
}

COLUMNS = (*LIVES, *CASES)


def run_column(
    name: str, rig: Rig, say: Callable[[str], None]
) -> dict[str, tuple[bool, str, float]]:
    """Run a column; return per case whether it is as it should be, what was found, and seconds."""
    exchange = f"m{COLUMNS.index(name)}"
    if name in LIVES:
        with open_life(rig, exchange, *LIVES[name]) as life:
            return _run({step: partial(life.crash, step) for step in STEPS}, name, say)
    named = enumerate(CASES[name].items())
    trials = {title: partial(case, rig, f"{exchange}{n}") for n, (title, case) in named}
    return _run(trials, name, say)


def _run(
    trials: Mapping[str, Callable[[], list[str]]], column: str, say: Callable[[str], None]
) -> dict[str, tuple[bool, str, float]]:
    results = {}
    for title, run in trials.items():
        began = time.monotonic()
        found = run()
        good = bool(found) if column == "sabotage" else not found
        taken = time.monotonic() - began
        results[title] = (good, "; ".join(found[:3]), taken)
        say(f"{'✓' if good else '✗'} {column}: {title} {taken:.0f} s {'; '.join(found[:3])}")
    return results


@app.command()
def matrix(
    column: Annotated[
        list[str] | None, typer.Option(help=f"Run only this one of: {', '.join(COLUMNS)}.")
    ] = None,
    write: Annotated[
        bool, typer.Option(help="Put it into docs/reference/crash-matrix.md.")
    ] = False,
) -> None:
    """Kill the lake's driver at every step, in every way, and compare with the ledger.

    Example: hatch run matrix --column "same checkpoint"
    """
    wanted = column or list(COLUMNS)
    results = {}
    for name in wanted:
        with Rig() as rig:
            results[name] = run_column(name, rig, print)
    if write:
        _write_table(_keep(results))
    if not all(good for cells in results.values() for good, _, _ in cells.values()):
        sys.exit(1)


def _keep(results: Results) -> Results:
    """Put what was run now in the place of what was run before; return all columns."""
    kept = json.loads(_KEPT.read_text("utf-8")) if _KEPT.exists() else {}
    found = {name: kept[name] for name in COLUMNS if name in kept} | dict(results)
    _KEPT.parent.mkdir(parents=True, exist_ok=True)
    _KEPT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return {name: found[name] for name in COLUMNS if name in found}


def _write_table(results: Results) -> None:
    crashes = [name for name in LIVES if name in results]
    lines = [
        "# Crash matrix",
        "",
        f"Written by `hatch run matrix --write` on {datetime.now(UTC):%Y-%m-%d}; do not edit.",
        "Each column is the life of one lake: the real k2-lake on a real broker, killed with",
        "kill -9 at each step in turn, in the second of three batches, its checkpoints treated as",
        "named, and started again. ✓: once it has caught up, Gold, Bronze and the dead letters",
        "equal the ledger in content, byte for byte, and somebody who read Gold all the while",
        "never saw a duplicate. Each other case has a lake of its own. In every ledger are",
        "duplicates, trades five hours late, copies off by 1 and 999 µs at batch edges, and bad",
        "records of six kinds.",
        "",
        f"| killed at | {' | '.join(crashes)} |",
        "|---|" + "---|" * len(crashes),
    ]
    for step in STEPS:
        cells = (results[name][step] for name in crashes)
        lines.append(f"| {step} | {' | '.join(_mark(cell) for cell in cells)} |")
    for name, title in (("other", "case"), ("sabotage", "sabotage, which must be caught")):
        if name in results:
            lines += ["", f"| {title} | |", "|---|---|"]
            for case, (good, found, seconds) in results[name].items():
                said = f": {found}" if name == "sabotage" else ""
                lines.append(f"| {case} | {_mark((good, found, seconds))}{_shorten(said)} |")
    lines += ["", "`staged` is the staged topology with its whole checkpoint removed."]
    _TABLE.parent.mkdir(parents=True, exist_ok=True)
    _TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _mark(cell: tuple[bool, str, float]) -> str:
    good, _, seconds = cell
    return f"{'✓' if good else '✗'} {seconds:.0f} s"


def _shorten(text: str) -> str:
    return text[:160].replace("|", "/").replace("\n", " ")


if __name__ == "__main__":
    app()
