"""Dialect: what a replay exchange must know to speak as one venue does."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..emission import SentTrade


class Number(str):
    """The text of a bare JSON number; a text in quotes is a plain `str`."""

    __slots__ = ()


def read_text(value: object) -> str:
    """Return a text that stood in quotes; raise TypeError for anything else."""
    if type(value) is not str:
        raise TypeError(f"{value!r} is not a text")
    return value


def read_integer(value: object) -> int:
    """Return a bare whole number; raise TypeError or ValueError for anything else."""
    if not isinstance(value, Number):
        raise TypeError(f"{value!r} is not a number")
    return int(value)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a recorded frame holds; texts as they stand, `symbol` still the venue's own.

    `problem` is why the frame cannot be read in full.
    """

    trades: Sequence[SentTrade] = ()
    problem: str | None = None


class Dialect(Protocol):
    """One venue's protocol from the server's side. Frames come with numbers as `Number`."""

    name: str
    heartbeat: str | None

    def pair_of(self, base: str, quote: str) -> str:
        """Write a canonical pair as the venue does."""

    def recognises(self, frame: Mapping[str, Any]) -> bool:
        """Tell whether a JSON object is a frame of this venue."""

    def greet(self) -> Sequence[str]:
        """Return the frames sent right after the socket opens."""

    def answer(self, request: Mapping[str, Any], pairs: Collection[str]) -> Sequence[str]:
        """Return the replies to a client's request; `pairs` are the listed ones."""

    def subscribes(self, request: Mapping[str, Any]) -> Sequence[str]:
        """Return the pairs that a request subscribes."""

    def render(self, trades: Sequence[SentTrade]) -> str:
        """Write trades of one pair as one frame."""

    def read(self, frame: Mapping[str, Any]) -> Reading:
        """Read the trades of a frame."""

    def shift_times(self, raw: str, shift_us: int) -> str:
        """Rewrite the times in a frame's text, and nothing else."""
