"""The exchanges K2 speaks, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..errors import UnknownVenueError
from ..venue import Venue
from .binance import Binance
from .kraken import Kraken

__all__ = ["VENUES", "Binance", "Kraken", "open_venue"]

VENUES: dict[str, Callable[..., Venue]] = {Binance.name: Binance, Kraken.name: Kraken}


def open_venue(
    name: str, symbols: Iterable[str], base_url: str | None = None, rest_url: str | None = None
) -> Venue:
    """Return the venue called `name` for canonical `symbols`.

    `base_url` and `rest_url` replace its own WebSocket and REST hosts.
    """
    try:
        venue = VENUES[name]
    except KeyError:
        raise UnknownVenueError(name, VENUES) from None
    return venue(symbols, base_url, rest_url)
