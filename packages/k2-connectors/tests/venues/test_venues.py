"""Venues by name: built-in ones and those that other packages bring."""

from importlib.metadata import EntryPoint

import pytest

from k2_connectors import (
    Binance,
    Coinbase,
    UnknownVenueError,
    VenueConflictError,
    find_venue,
    list_venues,
    open_venue,
    venues,
)


def install(patch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    """Pretend that packages with these entry points are installed: a real one would be a wheel."""
    made = [EntryPoint(name, value, venues.GROUP) for name, value in points]

    def entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
        return [p for p in made if p.group == group and name in (None, p.name)]

    patch.setattr(venues, "entry_points", entry_points)


def test_a_venue_of_another_package_is_found_by_its_entry_point():
    """Coinbase is added as a third party's would be."""
    assert list_venues() == ["binance", "coinbase", "kraken"]
    assert find_venue("coinbase") is Coinbase
    assert open_venue("coinbase", ["BTC/USD"], "ws://x").urls == ("ws://x",)


def test_a_name_of_ours_cannot_be_taken(monkeypatch: pytest.MonkeyPatch):
    """Whose trades they would be could not be told; both sources are named."""
    install(monkeypatch, ("binance", "other:Binance"))
    with pytest.raises(VenueConflictError, match=r"k2-connectors, other:Binance"):
        open_venue("binance", ["BTC/USDT"])


def test_two_packages_cannot_share_a_name(monkeypatch: pytest.MonkeyPatch):
    """Which one comes first must not depend on the order of installation."""
    install(monkeypatch, ("tiny", "a:Tiny"), ("tiny", "b:Tiny"))
    with pytest.raises(VenueConflictError, match=r"a:Tiny, b:Tiny"):
        find_venue("tiny")


def test_one_package_installed_twice_is_one(monkeypatch: pytest.MonkeyPatch):
    """An editable install may list its entry points twice."""
    install(monkeypatch, *[("tiny", "k2_connectors.venues.binance:Binance")] * 2)

    assert find_venue("tiny") is Binance


def test_an_unknown_name_lists_what_is_installed(monkeypatch: pytest.MonkeyPatch):
    """Those of other packages too."""
    install(monkeypatch, ("tiny", "a:Tiny"))
    with pytest.raises(UnknownVenueError, match="binance, kraken, tiny"):
        find_venue("okx")
