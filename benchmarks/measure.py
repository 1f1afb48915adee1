"""Measure: every candidate once a round, so that a busy machine is busy for all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """What one candidate took, in seconds a round, and for how many items."""

    items: int
    seconds: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The median round."""
        return statistics.median(self.seconds)

    @property
    def per_s(self) -> float:
        """Items a second in the median round."""
        return self.items / self.median_s

    @property
    def slowest_per_s(self) -> float:
        """Items a second in the slowest round."""
        return self.items / max(self.seconds)

    @property
    def fastest_per_s(self) -> float:
        """Items a second in the fastest round."""
        return self.items / min(self.seconds)


def interleave(
    candidates: Mapping[str, tuple[int, Callable[[], object]]],
    rounds: int = 7,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Spread]:
    """Run each candidate (items, function) once a round, after one round that does not count.

    The default clock is this process's CPU time. The order turns by one each round, garbage is
    collected before each run, and what exists at the start is left out of it, so that nobody pays
    for its neighbour or for the benchmark's own records.
    """
    gc.collect()
    gc.freeze()
    names = list(candidates)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            gc.collect()
            began = clock()
            candidates[name][1]()
            took = clock() - began
            if number:
                seconds[name].append(took)
    return {name: Spread(candidates[name][0], tuple(seconds[name])) for name in names}
