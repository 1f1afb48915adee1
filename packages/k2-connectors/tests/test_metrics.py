"""Metrics: what a scrape shows is what the feed counts."""

import asyncio
import re
from dataclasses import fields
from pathlib import Path

import prometheus_client as prometheus

from k2_connectors import Binance, Feed, Kraken, TradeFeed, VenueStats, open_venue
from k2_connectors.metrics import FeedCollector
from k2_connectors.testing import (
    Fault,
    Ledger,
    MarketModel,
    MemoryPublisher,
    ReplayExchange,
    play_model,
)
from k2_connectors.testing.market import EVERY_LISTING, EVERY_PATTERN, exchanges
from k2_schemas import InstrumentList

SYMBOLS = exchanges(EVERY_LISTING)
PAIRS = {name: [i.pair for i in InstrumentList(name, SYMBOLS[name])] for name in SYMBOLS}
METRICS = {
    *("connected", "symbols", "held", "missing", "memory_bytes"),
    *("last_message_age_seconds", "exchange_lag_seconds"),
    *("reconnects_total", "messages_total", "trades_total", "rotations_total", "gaps_total"),
    *("decode_errors_total", "publish_errors_total"),
    *("backfilled_total", "duplicates_dropped_total"),
}


def scrape(feed: Feed | TradeFeed) -> dict[tuple[str, str], float]:
    """Return every value that a scrape shows, by metric and venue."""
    registry = prometheus.CollectorRegistry()
    registry.register(FeedCollector(feed))
    text = prometheus.generate_latest(registry).decode()
    lines = re.findall(r'^k2_feed_(\w+)\{venue="(\w+)"\} (\S+)$', text, re.M)
    assert len(lines) == len([x for x in text.splitlines() if not x.startswith("#")])
    return {(name, venue): float(value) for name, venue, value in lines}


def test_every_metric_is_there_for_every_venue_before_the_first_frame():
    """A venue that never connects must show as 0, not be absent."""
    found = scrape(TradeFeed([Binance(["BTC/USDT", "ETH/USDT"]), Kraken(["BTC/USD"])]))

    assert set(found) == {(name, venue) for name in METRICS for venue in ("binance", "kraken")}
    assert found["symbols", "binance"] == 2
    assert found["symbols", "kraken"] == 1
    assert {found[name, "kraken"] for name in METRICS if name.endswith("_total")} == {0.0}


def test_a_running_feed_of_three_venues_shows_what_it_does(tmp_path: Path):
    """Each venue's own values, the same in `stats` and in a scrape."""
    model = MarketModel(7, 1_790_000_000_000_000, EVERY_LISTING, EVERY_PATTERN)
    emissions = play_model(model, 3_000, bad_input=False)
    # Kraken sends trades again by itself, with every subscription.
    faults = {name: [Fault(60, "drop", 2), Fault(80, "duplicate", 2)] for name in SYMBOLS}

    async def run(ledger: Ledger) -> dict[tuple[str, str], float]:
        exchange = ReplayExchange(
            emissions, PAIRS, ledger, live=True, trades_per_s=300.0, faults=faults
        )
        async with asyncio.timeout(60), exchange.serve(0) as port:
            venues = [
                open_venue(name, SYMBOLS[name], f"ws://127.0.0.1:{port}/{name}") for name in SYMBOLS
            ]
            feed, stop = Feed(venues, MemoryPublisher()), asyncio.Event()
            running = asyncio.create_task(feed.run(stop))
            while not all(s.backfilled and s.duplicates > 1 for s in feed.stats().values()):
                await asyncio.sleep(0.01)
            found, stats = scrape(feed), feed.stats()
            stop.set()
            await running
        assert {v: s.trades for v, s in stats.items()} == {
            v: found["trades_total", v] for v in SYMBOLS
        }
        return found

    with Ledger(tmp_path / "ledger.db") as ledger:
        found = asyncio.run(run(ledger))

    assert set(found) == {(name, venue) for name in METRICS for venue in SYMBOLS}
    for venue in SYMBOLS:
        assert (found["connected", venue], found["symbols", venue]) == (1, 2)
        assert found["messages_total", venue] > 80
        assert found["trades_total", venue] > 80
        assert found["last_message_age_seconds", venue] < 5
        assert found["exchange_lag_seconds", venue] > 0
        assert found["publish_errors_total", venue] == found["gaps_total", venue] == 0


def test_memory_is_counted_where_it_is_taken():
    """Events that nobody has read yet belong to the venue that they came from."""
    feed = TradeFeed([Binance(["BTC/USDT"]), Kraken(["BTC/USD"])])
    frame = b"""{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy",
      "price":1.5,"qty":2.5,"trade_id":7,"timestamp":"2026-09-26T18:07:54.626190Z"}]}"""
    core = feed._cores["kraken"]
    core.hear(0, frame, 10**18, 0)
    assert (scrape(feed)["held", "kraken"], scrape(feed)["memory_bytes", "binance"]) == (1, 0)
    held_bytes = scrape(feed)["memory_bytes", "kraken"]
    feed._take("kraken", core.tick(10**18))

    assert scrape(feed)["memory_bytes", "kraken"] == held_bytes == feed.pending_bytes
    assert scrape(feed)["memory_bytes", "binance"] == 0


def test_every_metric_has_its_place_in_the_statistics():
    """`feed.stats()` says no less than a scrape."""
    assert {field.name for field in fields(VenueStats)} >= {
        *("frames", "trades", "backfilled", "duplicates", "gaps", "dead_letters", "reconnects"),
        *("rotations", "live_connections", "held", "missing", "symbols", "memory_bytes"),
        *("last_message_age_s", "exchange_lag_s", "publish_errors"),
    }
