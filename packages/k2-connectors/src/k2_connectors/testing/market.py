"""Market model: every trade a pure function of seed and position. No state, no float, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .emission import SentTrade

SPACING_US = 60_000
"""Mean time between two positions: about 1,000 trades a minute over all symbols."""

_MASK = (1 << 64) - 1
_OCTAVES = ((20_000, 150), (4_000, 60), (700, 25), (60, 6), (1, 1))
"""Price waves: (positions between two lattice points, amplitude in 1/10,000 of the price)."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A symbol the model trades. `price_ticks` ticks of 10**-`tick_digits` is where it starts."""

    exchange: str
    pair: str
    symbol: str
    price_ticks: int
    tick_digits: int
    text_digits: int


LISTINGS = (
    Listing("BINANCE", "BTCUSDT", "BTC/USDT", 8_410_000, 2, 8),
    Listing("BINANCE", "ETHUSDT", "ETH/USDT", 268_400, 2, 8),
    Listing("KRAKEN", "BTC/USD", "BTC/USD", 840_900, 1, 1),
    Listing("KRAKEN", "ETH/USD", "ETH/USD", 268_350, 2, 2),
)

_PATTERN = (0, 2, 0, 1, 0, 0, 3, 0, 1, 2)
"""Which listing trades at position p: a busy venue and a quiet one, as in life."""

EVERY_LISTING = (
    *LISTINGS,
    Listing("COINBASE", "BTC-USD", "BTC/USD", 8_410_150, 2, 2),
    Listing("COINBASE", "ETH-USD", "ETH/USD", 268_380, 2, 2),
)
EVERY_PATTERN = (0, 2, 4, 1, 0, 5, 3, 0, 4, 2)
"""The listings and the pattern of a market with a third venue."""


@dataclass(frozen=True, slots=True)
class MarketModel:
    """Trades of `listings` from an epoch on. The same seed and epoch give the same market.

    `pattern` says which listing trades at position p, again and again.
    """

    seed: int
    epoch_us: int
    listings: Sequence[Listing] = LISTINGS
    pattern: tuple[int, ...] = _PATTERN
    spacing_us: int = SPACING_US
    """Between two positions; times are whole milliseconds all the same."""

    def listing_at(self, position: int) -> Listing:
        """Return the listing that trades at a position."""
        return self.listings[self.pattern[position % len(self.pattern)]]

    def trade_at(self, position: int) -> SentTrade:
        """Return the trade at a position; ids are contiguous per listing."""
        slot = self.pattern[position % len(self.pattern)]
        listing = self.listings[slot]
        ticks = listing.price_ticks + self._price_offset(slot, position, listing.price_ticks)
        noise = self._hash(slot, position, 77)
        quantity = 1_000 + (noise % 4_000) ** 2 * (1 + noise % 7)
        return SentTrade(
            exchange=listing.exchange,
            pair=listing.pair,
            trade_id=str(self._first_id(slot) + self._count_before(slot, position)),
            symbol=listing.symbol,
            price=_to_text(ticks, listing.tick_digits, listing.text_digits),
            quantity=_to_text(quantity, 8, 8),
            side="BUY" if noise & 0x10000 else "SELL",
            # Binance stamps milliseconds, so every time is a whole one.
            timestamp_us=self.time_at(position) + noise % 40 * 1000,
        )

    def time_at(self, position: int) -> int:
        """Return the earliest time a trade at a position can have (microseconds UTC)."""
        return self.epoch_us + position * self.spacing_us // 1000 * 1000

    def _first_id(self, slot: int) -> int:
        return 10_000_000 * (1 + self._hash(slot, 0, 1) % 400_000_000)

    def _count_before(self, slot: int, position: int) -> int:
        rounds, within = divmod(position, len(self.pattern))
        return rounds * self.pattern.count(slot) + self.pattern[:within].count(slot)

    def _price_offset(self, slot: int, position: int, price_ticks: int) -> int:
        total = 0
        for octave, (spacing, amplitude) in enumerate(_OCTAVES):
            step, within = divmod(position, spacing)
            hashes = (self._hash(slot, step + side, 10 + octave) for side in (0, 1))
            low, high = (value % 2001 - 1000 for value in hashes)
            total += (low * (spacing - within) + high * within) * amplitude // spacing
        return total * price_ticks // 10_000_000

    def _hash(self, slot: int, value: int, salt: int) -> int:
        """Mix by splitmix64 (Steele et al., OOPSLA 2014)."""
        mixed = (self.seed * 0x9E3779B97F4A7C15 + slot * 0xD1B54A32D192ED03 + salt) & _MASK
        mixed = (mixed + (value + 1) * 0x9E3779B97F4A7C15) & _MASK
        mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _MASK
        return mixed ^ mixed >> 31


def _to_text(units: int, digits: int, text_digits: int) -> str:
    whole, fraction = divmod(units, 10**digits)
    return f"{whole}.{str(fraction).zfill(digits).ljust(text_digits, '0')}"


def exchanges(listings: Sequence[Listing] = LISTINGS) -> dict[str, list[str]]:
    """Return the model's symbols per lower-case exchange name."""
    found: dict[str, list[str]] = {}
    for listing in listings:
        found.setdefault(listing.exchange.lower(), []).append(listing.symbol)
    return found
