"""MarketModel: every trade a pure function of seed, epoch and position."""

from collections import defaultdict
from decimal import Decimal
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from k2_connectors.testing import MarketModel, SentTrade
from k2_connectors.testing.market import LISTINGS, SPACING_US, exchanges
from k2_schemas import parse_units
from k2_schemas.units import units_to_decimal

EPOCH_US = 1_790_000_000_000_000
SEEDS = st.integers(0, 2**64)
POSITIONS = st.integers(0, 10**7)


def make_trades(seed: int, count: int) -> list[SentTrade]:
    """The first trades of a market."""
    model = MarketModel(seed, EPOCH_US)
    return [model.trade_at(position) for position in range(count)]


@given(SEEDS, POSITIONS)
@settings(deadline=None, max_examples=100)
def test_a_trade_depends_on_seed_epoch_and_position_only(seed: int, position: int):
    """Another model, asked in another order, gives the same trade."""
    model = MarketModel(seed, EPOCH_US)
    model.trade_at(position + 1)

    assert model.trade_at(position) == MarketModel(seed, EPOCH_US).trade_at(position)


@given(SEEDS, POSITIONS)
@settings(deadline=None, max_examples=200)
def test_every_trade_fits_the_contract(seed: int, position: int):
    """Prices and quantities are positive texts that come back digit for digit."""
    model = MarketModel(seed, EPOCH_US)
    trade, listing = model.trade_at(position), model.listing_at(position)
    units = [parse_units("number", text) for text in (trade.price, trade.quantity)]

    assert min(units) > 0
    assert list(map(units_to_decimal, units)) == [Decimal(trade.price), Decimal(trade.quantity)]
    assert len(trade.price.partition(".")[2]) == listing.text_digits
    assert trade[:2] == (listing.exchange, listing.pair)
    assert trade.side in {"BUY", "SELL"}


@given(SEEDS, POSITIONS)
@settings(deadline=None, max_examples=200)
def test_times_lie_between_their_position_and_the_next(seed: int, position: int):
    """Trades are ordered by time, in the whole milliseconds that Binance stamps."""
    model = MarketModel(seed, EPOCH_US)
    time_us = model.trade_at(position).timestamp_us

    assert model.time_at(position) <= time_us < model.time_at(position + 1)
    assert model.time_at(position) == EPOCH_US + position * SPACING_US
    assert time_us % 1000 == 0


def test_ids_are_contiguous_per_listing():
    """A hole in the ids would be a proof of loss."""
    ids: dict[str, list[int]] = defaultdict(list)
    for trade in make_trades(7, 5000):
        ids[trade.pair].append(int(trade.trade_id))

    assert set(ids) == {listing.pair for listing in LISTINGS}
    assert ids == {pair: list(range(n[0], n[0] + len(n))) for pair, n in ids.items()}


def test_another_seed_is_another_market():
    """Runs of different seeds in one home share no trade."""
    identities = [{t[:3] for t in make_trades(seed, 2000)} for seed in range(8)]

    assert len(set.union(*identities)) == 8 * 2000


def test_prices_move_but_never_jump():
    """Candles of the model look like a market: within 3 % of the start, small steps."""
    prices: dict[str, list[Decimal]] = defaultdict(list)
    for trade in make_trades(7, 5000):
        prices[trade.pair].append(Decimal(trade.price))
    for listing in LISTINGS:
        start = Decimal(listing.price_ticks).scaleb(-listing.tick_digits)
        found = prices[listing.pair]
        steps = [abs(b / a - 1) for a, b in pairwise(found)]

        assert len(set(found)) > 10
        assert max(abs(price / start - 1) for price in found) < Decimal("0.03")
        assert max(steps) < Decimal("0.01")


def test_the_symbols_are_listed_per_exchange():
    """What the feed is told to subscribe."""
    assert exchanges() == {
        "binance": ["BTC/USDT", "ETH/USDT"],
        "kraken": ["BTC/USD", "ETH/USD"],
    }
