"""The exchanges K2 speaks, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..errors import UnknownVenueError
from ..venue import Venue
from .binance import Binance
from .kraken import Kraken

__all__ = ["VENUES", "Binance", "Kraken", "open_venue"]

VENUES: dict[str, Callable[..., Venue]] = {Binance.name: Binance, Kraken.name: Kraken}


def open_venue(name: str, symbols: Iterable[str], base_url: str | None = None) -> Venue:
    """Return the venue called `name` for canonical `symbols`; `base_url` replaces its own host."""
    try:
        venue = VENUES[name]
    except KeyError:
        raise UnknownVenueError(name, VENUES) from None
    return venue(symbols) if base_url is None else venue(symbols, base_url)
