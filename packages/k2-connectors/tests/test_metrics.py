"""Metrics: what a scrape shows is what the feed counts."""

import prometheus_client as prometheus

from k2_connectors import Binance, Kraken, TradeFeed
from k2_connectors.metrics import FeedCollector


def test_every_metric_is_there_for_every_venue():
    """Also before the first frame: a venue that never connects must show as 0, not be absent."""
    feed = TradeFeed([Binance(["BTC/USDT", "ETH/USDT"]), Kraken(["BTC/USD"])])
    registry = prometheus.CollectorRegistry()
    registry.register(FeedCollector(feed))
    text = prometheus.generate_latest(registry).decode()

    for venue, symbols in (("binance", "2.0"), ("kraken", "1.0")):
        assert f'k2_feed_connected{{venue="{venue}"}} 0.0' in text
        assert f'k2_feed_symbols{{venue="{venue}"}} {symbols}' in text
        for name in (
            *("reconnects", "messages", "trades", "decode_errors", "rotations", "gaps"),
            *("backfilled", "duplicates_dropped"),
        ):
            assert f'k2_feed_{name}_total{{venue="{venue}"}} 0.0' in text
        for name in ("last_message_age_seconds", "exchange_lag_seconds", "held"):
            assert f'k2_feed_{name}{{venue="{venue}"}}' in text
    assert "k2_feed_memory_bytes 0.0" in text
