"""Fault: what goes wrong on a replay exchange, and when; written down or drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

FaultKind = Literal[
    "drop",
    "duplicate",
    "reorder",
    "stall",
    "half_open",
    "reset",
    "close",
    "shutdown",
    "reject",
    "rate_limit",
    "http_error",
]

CURABLE: tuple[FaultKind, ...] = tuple(
    # A refused symbol ends a feed, and a half-open socket takes as long as the client's watchdog.
    kind
    for kind in get_args(FaultKind)
    if kind not in ("reject", "half_open")
)
REST_KINDS = frozenset[FaultKind]({"rate_limit", "http_error"})


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that strikes once, when a venue's frame number `at` is due or as soon after it.

    On the connection that reaches it first: `drop`, `duplicate` and `reorder` take the next `count`
    frames; `stall` keeps trades back for `seconds` while heartbeats go on; `half_open` sends and
    answers nothing more; `reset` cuts without a goodbye; `close` says goodbye with `code`;
    `shutdown` is the venue's own announcement, and the end `seconds` later. From then on: `reject`
    refuses the next `count` subscriptions to `pair`, `rate_limit` and `http_error` (status `code`)
    the next `count` REST requests.
    """

    at: int
    kind: FaultKind
    count: int = 1
    seconds: float = 0.1
    code: int = 1011
    pair: str = ""


def draw_faults(
    seed: int,
    frame_count: int,
    fault_count: int,
    kinds: Collection[FaultKind] = CURABLE,
) -> list[Fault]:
    """Return `fault_count` faults among a venue's first `frame_count` frames, by `seed` alone."""
    dice = random.Random(seed)  # noqa: S311
    chosen = sorted(kinds)
    faults = [_draw(dice, dice.randrange(max(1, frame_count)), chosen) for _ in range(fault_count)]
    return sorted(faults, key=lambda fault: fault.at)


def _draw(dice: random.Random, at: int, kinds: Sequence[FaultKind]) -> Fault:
    kind = dice.choice(kinds)
    return Fault(
        at=at,
        kind=kind,
        count=dice.randint(1, 3 if kind in REST_KINDS else 12),
        seconds=dice.uniform(0.01, 0.2),
        code=dice.choice((500, 502, 503)) if kind == "http_error" else dice.choice((1001, 1011)),
    )
