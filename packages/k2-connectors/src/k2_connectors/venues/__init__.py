"""The exchanges K2 speaks, by name: those of this package, and those of any other.

A package adds a venue by an entry point of the group `k2.venues`; its name is the venue's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import cast

from ..errors import UnknownVenueError, VenueConflictError
from ..venue import Venue
from .binance import Binance
from .coinbase import Coinbase
from .kraken import Kraken

__all__ = [
    "VENUES",
    "Binance",
    "Coinbase",
    "Kraken",
    "find_venue",
    "list_venues",
    "open_venue",
]

GROUP = "k2.venues"
VENUES: dict[str, Callable[..., Venue]] = {Binance.name: Binance, Kraken.name: Kraken}
"""The built-in venues; `list_venues` names all that are installed."""


def list_venues() -> list[str]:
    """Return the names of every venue that is installed."""
    return sorted({*VENUES, *(point.name for point in entry_points(group=GROUP))})


def find_venue(name: str) -> Callable[..., Venue]:
    """Return what makes the venue called `name`.

    Raises `UnknownVenueError`, or `VenueConflictError` when two packages bring one of that name.
    """
    points = {point.value: point for point in entry_points(group=GROUP, name=name)}
    if name in VENUES and points:
        raise VenueConflictError(name, ["k2-connectors", *sorted(points)])
    if name in VENUES:
        return VENUES[name]
    if not points:
        raise UnknownVenueError(name, list_venues())
    if len(points) > 1:
        raise VenueConflictError(name, sorted(points))
    (point,) = points.values()
    return cast(Callable[..., Venue], point.load())


def open_venue(
    name: str, symbols: Iterable[str], base_url: str | None = None, rest_url: str | None = None
) -> Venue:
    """Return the venue called `name` for canonical `symbols`.

    `base_url` replaces the hosts of its sockets, `rest_url` that of its REST. Raises as
    `find_venue` does.
    """
    places = {"base_url": base_url, "rest_url": rest_url}
    return find_venue(name)(symbols, **{key: url for key, url in places.items() if url})
