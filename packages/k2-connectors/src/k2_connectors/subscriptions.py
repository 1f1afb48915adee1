"""Subscriptions: which symbols of a running venue are in force, and what is changing. Pure.

A change is asked for by `Lines`, which follow the pairs in force on every socket, old and new. So
what survives a reconnect is the set itself, not a list of requests. Changes wait for each other:
a refusal may name nothing, and must be about one change only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from k2_schemas import Trade, split_symbol

from .continuity import Continuity
from .errors import SubscriptionChangeError, SubscriptionRejectedError
from .event import Status
from .lines import Lines
from .venue import Venue


@dataclass(eq=False, slots=True)
class Subscription:
    """Symbols on their way to be subscribed: all of them or, with a `refusal`, none."""

    symbols: tuple[str, ...]
    pairs: tuple[str, ...] = ()
    is_done: bool = False
    refusal: SubscriptionRejectedError | None = None


class Subscriptions:
    """The pairs in force of one venue. `venue` knows every pair there ever was."""

    def __init__(self, venue: Venue, lines: Lines, continuity: Continuity) -> None:
        self.venue = venue
        self.have_shrunk = False
        """Whether a pair was ever left: frames of it may be on their way."""
        self._lines = lines
        self._continuity = continuity
        self._changes: list[Subscription] = []

    @property
    def symbols(self) -> list[str]:
        """The canonical symbols in force."""
        in_force = set(self._lines.pairs)
        return [i.symbol for i in self.venue.instruments if i.pair in in_force]

    def add(self, symbols: Iterable[str], now_ns: int) -> Subscription:
        """Put symbols in force, once the changes before have settled.

        Raises `k2_schemas.SchemaError` for what is no symbol.
        """
        change = Subscription(tuple(map(_canonical, symbols)))
        self._learn(change.symbols)
        self._changes.append(change)
        if self._changes[0] is change:
            self._begin(change, now_ns)
        return change

    def remove(self, symbols: Iterable[str]) -> tuple[list[Trade], Status]:
        """Put symbols out of force; return the trades that were held, and what to say.

        Raises `SubscriptionChangeError` for a symbol that is not in force, and for the last ones.
        """
        leaving, name = list(map(_canonical, symbols)), self.venue.name
        unknown = [symbol for symbol in leaving if symbol not in self.symbols]
        if unknown:
            raise SubscriptionChangeError(name, unknown, "not subscribed")
        if set(leaving) >= set(self.symbols):
            reason = "no symbol would be left; subscribe the next ones first, or stop the feed"
            raise SubscriptionChangeError(name, leaving, reason)
        pairs = [i.pair for i in self.venue.instruments if i.symbol in leaving]
        for change in [c for c in self._changes if not set(c.pairs).isdisjoint(pairs)]:
            change.pairs = tuple(pair for pair in change.pairs if pair not in pairs)
            if not change.pairs:
                self._end(change, SubscriptionRejectedError(name, "unsubscribed again", pairs))
        status = Status(name, "unsubscribed", ", ".join(leaving), tuple(pairs))
        return self._leave(pairs), status

    def cancel(self, change: Subscription) -> tuple[list[Trade], Status]:
        """Undo a change that nobody waits for any more; return as `remove`."""
        detail = ", ".join(change.symbols)
        self._end(change)
        status = Status(self.venue.name, "unsubscribed", detail, change.pairs)
        return self._leave(change.pairs), status

    def settle(self, now_ns: int) -> list[Status]:
        """Say which changes are done: acknowledged on every live line, known to REST."""
        said: list[Status] = []
        while self._changes and self._is_settled(self._changes[0]):
            change = self._changes[0]
            detail = ", ".join(change.symbols)
            said.append(Status(self.venue.name, "subscribed", detail, change.pairs))
            self._end(change)
        if self._changes and not self._changes[0].pairs:
            self._begin(self._changes[0], now_ns)
        return said

    def refuse(
        self, error: SubscriptionRejectedError, asked: Collection[str]
    ) -> tuple[list[Trade], list[Status]]:
        """Undo the changes that a refusal is about, or raise it if it is about none.

        `asked` are the pairs it can be about, when it names none itself. Returns the trades that
        were held of what is undone, and what to say.
        """
        suspects = set(error.pairs or asked)
        changes = [c for c in self._changes if not suspects.isdisjoint(c.pairs)]
        if not changes and suspects.issubset(self._lines.pairs):
            raise error  # else it is another line's word on what was undone already
        held: list[Trade] = []
        said: list[Status] = []
        for change in changes:
            named = sorted(suspects.intersection(change.pairs))
            refusal = SubscriptionRejectedError(self.venue.name, error.reason, named)
            self._end(change, refusal)
            held += self._leave(change.pairs)
            self._lines.refuse(change.pairs, str(refusal))
            said.append(Status(self.venue.name, "refused", str(refusal), change.pairs))
        return held, said

    def _begin(self, change: Subscription, now_ns: int) -> None:
        in_force = set(self._lines.pairs)
        change.pairs = tuple(
            i.pair
            for i in self.venue.instruments
            if i.symbol in change.symbols and i.pair not in in_force
        )
        for pair in change.pairs:
            self._continuity.add(pair, now_ns)
        self._lines.pairs += change.pairs
        if not change.pairs:
            self._end(change)

    def _is_settled(self, change: Subscription) -> bool:
        return (
            bool(change.pairs)
            and self._lines.are_subscribed(change.pairs)
            and not self._continuity.is_checking(change.pairs)
        )

    def _learn(self, symbols: Iterable[str]) -> None:
        known = [instrument.symbol for instrument in self.venue.instruments]
        if not set(known).issuperset(symbols):
            self.venue = self.venue.of(dict.fromkeys([*known, *symbols]))
            self._lines.take_venue(self.venue)
            self._continuity.take_venue(self.venue)

    def _leave(self, pairs: Iterable[str]) -> list[Trade]:
        self.have_shrunk = True
        held: list[Trade] = []
        for pair in pairs:
            self._lines.leave(pair)
            held += self._continuity.remove(pair)
        return held

    def _end(self, change: Subscription, refusal: SubscriptionRejectedError | None = None) -> None:
        change.is_done, change.refusal = True, refusal
        self._changes.remove(change)


def _canonical(symbol: str) -> str:
    return "/".join(split_symbol(symbol))
