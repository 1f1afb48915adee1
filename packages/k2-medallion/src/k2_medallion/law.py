"""Law: what must hold between the layers, and what was found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

MOST_EXAMPLES = 5
"""Cases that a broken law names; how many there are, its numbers say."""


@dataclass(frozen=True, slots=True)
class Law:
    """One law about one table. It holds if `found` is `expected`; `examples` say where it does not.

    Both count the same things: rows, offsets, trades, batches or minutes, as `name` says.
    """

    table: str
    name: str
    expected: int
    found: int
    examples: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing is missing and nothing too much."""
        return self.expected == self.found

    def __str__(self) -> str:
        text = f"{self.table}: {self.name}: expected {self.expected:,}, found {self.found:,}"
        return f"{text} ({'; '.join(self.examples)})" if self.examples else text

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, and whether the law holds."""
        return asdict(self) | {"examples": list(self.examples), "holds": self.holds}


def take_examples(found: Iterable[str]) -> tuple[str, ...]:
    """Return the first few."""
    return tuple(text for text, _ in zip(found, range(MOST_EXAMPLES), strict=False))
