"""Dialect: what a replay exchange must know to speak as one venue does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

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


class RestAnswer(NamedTuple):
    """What REST says; header names as the venue writes them."""

    status: int
    body: str
    headers: Mapping[str, str] = {}


class Trades(Protocol):
    """What a venue has emitted, per pair."""

    def of(self, pair: str) -> Sequence[SentTrade]:
        """Return a pair's trades ascending by id."""

    def from_id(self, pair: str, first_id: int) -> Iterable[SentTrade]:
        """Yield a pair's trades from an id on, that id included."""

    def before_id(self, pair: str, end_id: int | None) -> Iterable[SentTrade]:
        """Yield a pair's trades backwards, from the newest one below an id, or of all."""


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

    def refuse(self, request: Mapping[str, Any], pair: str) -> Sequence[str]:
        """Return the replies to a request of which one pair is refused."""

    def catch_up(self, trades: Sequence[SentTrade]) -> Sequence[str]:
        """Return what a subscriber of a pair is sent first, given the trades so far."""

    def announce_shutdown(self) -> Sequence[str]:
        """Return the frames that say that this connection is about to end."""

    def answer_get(
        self, path: str, query: Mapping[str, str], pairs: Collection[str], trades: Trades
    ) -> RestAnswer | None:
        """Answer a GET of the venue's trades; None for any other path."""

    def refuse_get(self) -> RestAnswer:
        """Return what too many requests are answered."""

    def subscribes(self, request: Mapping[str, Any]) -> Sequence[str]:
        """Return the pairs that a request subscribes."""

    def unsubscribes(self, request: Mapping[str, Any]) -> Sequence[str]:
        """Return the pairs whose subscription a request ends."""

    def render(self, trades: Sequence[SentTrade]) -> str:
        """Write trades of one pair as one frame."""

    def read(self, frame: Mapping[str, Any]) -> Reading:
        """Read the trades of a frame."""

    def shift_times(self, raw: str, shift_us: int) -> str:
        """Rewrite the times in a frame's text, and nothing else."""
