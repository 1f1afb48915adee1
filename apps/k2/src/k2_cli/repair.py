"""Repair: what a replay or a round of maintenance has done, as it is done."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from k2_medallion.maintain import Action
    from k2_medallion.replay import ReplayReport


def print_replay(reports: Iterable[tuple[str, ReplayReport]], *, as_json: bool) -> None:
    """Print a line per exchange and hour, then the sum."""
    added = 0
    for exchange, report in reports:
        added += report.added
        if as_json:
            fields = asdict(report)
            fields |= {"start": report.start.isoformat(), "end": report.end.isoformat()}
            _say(json.dumps({"exchange": exchange, **fields}))
        else:
            _say(
                f"{exchange} {report.start:%F %H:%M} to {report.end:%H:%M}: {report.bronze:,} "
                f"rows of Bronze; added {report.silver:,} to Silver, {report.dead_letters:,} dead "
                f"letters, {report.gold:,} to Gold, {report.candles:,} candles"
            )
    if not as_json:
        _say(f"{added:,} rows were lacking" if added else "nothing was lacking")


def print_actions(actions: Iterable[Action], *, as_json: bool) -> None:
    """Print a line per action."""
    idle = True
    for action in actions:
        idle = False
        if as_json:
            _say(json.dumps(asdict(action), default=str))
        else:
            detail = ", ".join(f"{key} {value}" for key, value in action.detail.items() if value)
            _say(f"{action.table}: {action.name}: {detail}")
    if idle and not as_json:
        _say("every table is as it should be")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
