"""Instrument: a venue's symbol and its canonical BASE/QUOTE form, from a list, never guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from .errors import SchemaError, UnknownSymbolError

ASSET_ALIASES = {"XBT": "BTC", "XDG": "DOGE"}
"""Names only one venue uses, and what everyone else calls them."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """A tradable pair. `symbol` is canonical (`BTC/USDT`), `pair` is the venue's own name."""

    symbol: str
    pair: str

    @property
    def currency(self) -> str:
        """The quote currency of the price."""
        return self.symbol.partition("/")[2]


class InstrumentList:
    """The configured instruments of one venue, found by the venue's own symbol.

    `pair_of` says how the venue writes a canonical symbol; the way back is this list alone,
    because BTCUSDT could be split in more than one place.
    """

    def __init__(
        self, venue: str, symbols: Iterable[str], pair_of: Callable[[str, str], str]
    ) -> None:
        self.venue = venue
        self._by_pair: dict[str, Instrument] = {}
        for text in symbols:
            base, quote = split_symbol(text)
            pair = pair_of(base, quote)
            self._by_pair[pair] = Instrument(f"{base}/{quote}", pair)

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._by_pair.values())

    def __len__(self) -> int:
        return len(self._by_pair)

    def find(self, pair: str) -> Instrument:
        """Return the instrument a venue calls `pair`, or raise `UnknownSymbolError`."""
        found = self._by_pair.get(pair)
        if found is None:
            closest = get_close_matches(pair, self._by_pair, n=1)
            raise UnknownSymbolError(self.venue, pair, closest[0] if closest else None)
        return found


def split_symbol(symbol: str) -> tuple[str, str]:
    """Split a canonical symbol into base and quote, with aliases resolved.

    >>> split_symbol("xbt/usd")
    ('BTC', 'USD')
    """
    base, slash, quote = symbol.strip().upper().partition("/")
    if not (slash and base.isalnum() and quote.isalnum()):
        raise SchemaError(f"{symbol!r} is not a symbol of the form BASE/QUOTE, such as BTC/USDT")
    return ASSET_ALIASES.get(base, base), ASSET_ALIASES.get(quote, quote)
