"""Reports: how often each rule failed, on what, and together with which others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw

from .rule import Rule
from .verdict import SEPARATOR

SAMPLES_PER_RULE = 3
"""Different reasons that a report shows of one rule."""


@dataclass(frozen=True, slots=True)
class RuleReport:
    """What one rule set found in one frame. `valid + dead == rows`, always.

    `failures` counts the rows that fail each rule, every rule named, flags too. `together` counts
    the rows of each combination of failed rules. `samples` are reasons, at most three a rule.
    """

    name: str
    fingerprint: str
    rows: int
    valid: int
    dead: int
    flagged: int
    failures: Mapping[str, int]
    together: Mapping[tuple[str, ...], int]
    samples: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        lines = [
            f"{self.name} ({self.fingerprint[:12]}): {self.rows:,} rows, {self.valid:,} valid, "
            f"{self.dead:,} dead, {self.flagged:,} flagged"
        ]
        width = max(map(len, self.failures))
        for rule, count in self.failures.items():
            share = f"{count / self.rows:8.3%}" if self.rows else f"{'-':>8}"
            lines.append(f"  {rule:<{width}}  {count:>12,}  {share}")
            lines += [f"    {sample}" for sample in self.samples.get(rule, ())]
        several = {rules: count for rules, count in self.together.items() if len(rules) > 1}
        if several:
            lines.append("together:")
        lines += [f"  {count:>12,}  {' + '.join(rules)}" for rules, count in several.items()]
        return "\n".join(lines)


def count_patterns(tagged: Any, name: str, fingerprint: str, rules: Sequence[Rule]) -> RuleReport:
    """Group a tagged narwhals frame by what failed; the groups are few, whatever the rows."""
    keys = ["k2_valid", "k2_failed_rules", "k2_flagged_rules"]
    grouped = tagged.group_by(keys).agg(
        nw.len().alias("k2_rows"),
        *(
            getattr(nw.col(column), choose)().alias(f"{column}_{choose}")
            for column in ("k2_error_reason", "k2_flag_reason")
            for choose in ("min", "max")
        ),
    )
    if isinstance(grouped, nw.LazyFrame):
        grouped = grouped.collect()
    groups = sorted(
        grouped.rows(named=True),
        key=lambda group: (-group["k2_rows"], str(group[keys[1]]), str(group[keys[2]])),
    )
    failures = {rule.name: 0 for rule in rules}
    together: dict[tuple[str, ...], int] = {}
    samples: dict[str, list[str]] = {}
    for group in groups:
        failed = tuple(
            rule for key in keys[1:] if group[key] for rule in group[key].split(SEPARATOR)
        )
        for rule in failed:
            failures[rule] += group["k2_rows"]
        if failed:
            together[failed] = together.get(failed, 0) + group["k2_rows"]
            _add_samples(samples, group, failed)
    rows = {
        valid: sum(g["k2_rows"] for g in groups if g["k2_valid"] is valid)
        for valid in (True, False)
    }
    flagged = sum(group["k2_rows"] for group in groups if group["k2_flagged_rules"])
    return RuleReport(
        name=name,
        fingerprint=fingerprint,
        rows=rows[True] + rows[False],
        valid=rows[True],
        dead=rows[False],
        flagged=flagged,
        failures=failures,
        together=together,
        samples={rule: tuple(found) for rule, found in samples.items()},
    )


def _add_samples(
    samples: dict[str, list[str]], group: Mapping[str, Any], failed: Sequence[str]
) -> None:
    """Show the whole reason of a row under its first failed rule."""
    found = samples.setdefault(failed[0], [])
    for column in ("k2_error_reason", "k2_flag_reason"):
        for choose in ("min", "max"):
            reason = group[f"{column}_{choose}"]
            if reason and reason not in found and len(found) < SAMPLES_PER_RULE:
                found.append(reason)
