"""Instrument: a venue's symbol and its canonical BASE/QUOTE form, from a list, never guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from .errors import SchemaError, UnknownSymbolError

ASSET_ALIASES = {"XBT": "BTC", "XDG": "DOGE"}
"""Names only one venue uses, and what everyone else calls them."""

_KRAKEN_ASSETS = {canonical: own for own, canonical in ASSET_ALIASES.items()}
_KRAKEN_X = frozenset(["ETC", "ETH", "LTC", "MLN", "REP", "XBT", "XDG", "XLM", "XMR", "XRP", "ZEC"])
_KRAKEN_Z = frozenset(["AUD", "CAD", "EUR", "GBP", "JPY", "USD"])


@dataclass(frozen=True, slots=True)
class Instrument:
    """A tradable pair. `symbol` is canonical (`BTC/USDT`), `pair` is the venue's own name."""

    symbol: str
    pair: str

    @property
    def base(self) -> str:
        """The asset that is traded."""
        return self.symbol.partition("/")[0]

    @property
    def currency(self) -> str:
        """The quote currency of the price."""
        return self.symbol.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Naming:
    """How a venue writes a canonical symbol: its own name, and what else it calls the same pair."""

    pair: Callable[[str, str], str]
    aliases: Callable[[str, str], tuple[str, ...]] = lambda base, quote: ()


def _kraken_aliases(base: str, quote: str) -> tuple[str, ...]:
    """Return Kraken's REST names of a pair: `XBT/USD` (wsname), `XBTUSD`, `XXBTZUSD` (result key).

    Only pairs of two old assets have the long form (Kraken REST API, get-tradable-asset-pairs).
    """
    own = [_KRAKEN_ASSETS.get(asset, asset) for asset in (base, quote)]
    codes = [
        f"X{asset}" if asset in _KRAKEN_X else f"Z{asset}" if asset in _KRAKEN_Z else ""
        for asset in own
    ]
    names = ["/".join(own), "".join(own)]
    return (*names, "".join(codes)) if all(codes) else tuple(names)


NAMINGS: Mapping[str, Naming] = {
    "binance": Naming(lambda base, quote: base + quote),
    "coinbase": Naming(lambda base, quote: f"{base}-{quote}"),
    "kraken": Naming(lambda base, quote: f"{base}/{quote}", _kraken_aliases),
}
"""The venues whose names K2 knows; `pair` is that of the trade stream, and of every message id."""


class InstrumentList:
    """The configured instruments of one venue, found by any name the venue has for them.

    `naming` says how the venue writes a canonical symbol; the way back is this list alone, because
    BTCUSDT could be split in more than one place. A venue of `NAMINGS` needs none.
    """

    def __init__(
        self,
        venue: str,
        symbols: Iterable[str],
        naming: Naming | Callable[[str, str], str] | None = None,
    ) -> None:
        self.venue = venue
        self._by_pair: dict[str, Instrument] = {}
        self._by_name: dict[str, Instrument] = {}
        resolved = _resolve_naming(venue, naming)
        for text in symbols:
            base, quote = split_symbol(text)
            instrument = Instrument(f"{base}/{quote}", resolved.pair(base, quote))
            self._by_pair[instrument.pair] = instrument
            for name in (instrument.pair, *resolved.aliases(base, quote)):
                self._add_name(name, instrument)

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._by_pair.values())

    def __len__(self) -> int:
        return len(self._by_pair)

    @property
    def names(self) -> Mapping[str, Instrument]:
        """Every name the venue has for an instrument of the list."""
        return self._by_name

    def find(self, name: str) -> Instrument:
        """Return the instrument a venue calls `name`, or raise `UnknownSymbolError`."""
        found = self._by_name.get(name)
        if found is None:
            closest = get_close_matches(name, self._by_name, n=1)
            raise UnknownSymbolError(self.venue, name, closest[0] if closest else None)
        return found

    def _add_name(self, name: str, instrument: Instrument) -> None:
        other = self._by_name.setdefault(name, instrument)
        if other != instrument:
            raise SchemaError(
                f"{self.venue} calls both {other.symbol} and {instrument.symbol} {name}; "
                "configure one of them"
            )


def _resolve_naming(venue: str, naming: Naming | Callable[[str, str], str] | None) -> Naming:
    if isinstance(naming, Naming):
        return naming
    if naming is not None:
        return Naming(naming)
    try:
        return NAMINGS[venue]
    except KeyError:
        raise SchemaError(
            f"no naming is known for {venue!r} (known: {', '.join(NAMINGS)}); "
            "pass one: InstrumentList(venue, symbols, Naming(...))"
        ) from None


def split_symbol(symbol: str) -> tuple[str, str]:
    """Split a canonical symbol into base and quote, with aliases resolved.

    >>> split_symbol("xbt/usd")
    ('BTC', 'USD')
    """
    base, slash, quote = symbol.strip().upper().partition("/")
    if not (slash and base.isalnum() and quote.isalnum()):
        raise SchemaError(f"{symbol!r} is not a symbol of the form BASE/QUOTE, such as BTC/USDT")
    return ASSET_ALIASES.get(base, base), ASSET_ALIASES.get(quote, quote)
