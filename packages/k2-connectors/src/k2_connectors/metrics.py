"""Metrics: a feed's counters in Prometheus' terms, read when they are scraped and not before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from .errors import MissingExtraError
from .trade_feed import VenueStats

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError:
    raise MissingExtraError("prometheus-client", "metrics") from None

_COUNTERS = {
    "reconnects": ("reconnects", "Connections that were lost and taken up again"),
    "messages": ("frames", "Frames received"),
    "trades": ("trades", "Trades passed on, live and fetched"),
    "decode_errors": ("dead_letters", "Frames that went to the dead letters"),
    "publish_errors": ("publish_errors", "Records that Kafka did not take"),
    "rotations": ("rotations", "Connections replaced before they were closed"),
    "gaps": ("gaps", "Id ranges that nobody has any more"),
    "backfilled": ("backfilled", "Trades fetched over REST"),
    "duplicates_dropped": ("duplicates", "Trades dropped because their id was known"),
}
_GAUGES = {
    "connected": ("live_connections", "Connections that are live"),
    "last_message_age_seconds": ("last_message_age_s", "Time since the last frame"),
    "exchange_lag_seconds": ("exchange_lag_s", "Arrival minus match time of the last trade"),
    "symbols": ("symbols", "Symbols subscribed"),
    "held": ("held", "Trades that wait for an earlier one"),
    "missing": ("missing", "Trades that are being fetched over REST right now"),
    "memory_bytes": ("memory_bytes", "Memory of events not yet published"),
}


class Observed(Protocol):
    """What the collector reads: a `Feed` or a `TradeFeed`."""

    def stats(self) -> Mapping[str, VenueStats]:
        """Return what each venue's feed has done."""


class FeedCollector(Collector):
    """Register it with a `prometheus_client` registry: `REGISTRY.register(FeedCollector(feed))`."""

    def __init__(self, feed: Observed) -> None:
        self._feed = feed

    def collect(self) -> Iterator[Any]:
        """Yield every metric of every venue, `k2_feed_…{venue="…"}`."""
        stats = self._feed.stats()
        for name, (field, text) in _COUNTERS.items():
            yield _fill(
                CounterMetricFamily(f"k2_feed_{name}", text, labels=["venue"]), field, stats
            )
        for name, (field, text) in _GAUGES.items():
            yield _fill(GaugeMetricFamily(f"k2_feed_{name}", text, labels=["venue"]), field, stats)


def _fill(family: Any, field: str, stats: Mapping[str, VenueStats]) -> Any:
    for venue, values in stats.items():
        family.add_metric([venue], getattr(values, field))
    return family
