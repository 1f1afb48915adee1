"""TradeFactory: an instrument's trades from what an exchange sends."""

import pytest

from k2_schemas import FieldError, Instrument, Trade, open_trade_factory
from k2_schemas.testing import make_trade

INSTRUMENT = Instrument("BTC/USDT", "BTCUSDT")
ARGUMENTS = (7, "61837.63", "0.02", "SELL", 1_723_161_255_342_000, 1_723_161_255_343_000)


def test_a_trade_has_every_field(engine: str):
    """Instrument and venue fill in what a frame does not say."""
    trade = open_trade_factory("binance", INSTRUMENT).make(*ARGUMENTS, {"pair": "BTCUSDT"})

    assert trade == make_trade(7)
    assert type(trade) is Trade


def test_trades_are_numbered_as_they_come(engine: str):
    """platform_sequence counts what this process made of this instrument."""
    factory = open_trade_factory("binance", INSTRUMENT)
    made = [factory.make(*ARGUMENTS, {"pair": "BTCUSDT"}) for _ in range(3)]

    assert [trade.platform_sequence for trade in made] == [1, 2, 3]


@pytest.mark.parametrize("trade_id", [0, 1, 10, -5, 2**63 - 1, -(2**63)])
def test_ids_are_their_own_text(engine: str, trade_id: int):
    """As str() writes them, at every size that the contract holds."""
    factory = open_trade_factory("binance", INSTRUMENT)
    trade = factory.make(trade_id, *ARGUMENTS[1:], {"pair": "BTCUSDT"})

    assert (trade.trade_id, trade.source_sequence) == (str(trade_id), trade_id)


@pytest.mark.parametrize(
    ("price", "quantity", "field"),
    [("1e99", "1", "price"), ("x", "1", "price"), ("1", "0.123456789", "quantity")],
)
def test_digits_that_v2_cannot_hold_name_their_field(
    engine: str, price: str, quantity: str, field: str
):
    """The error says price or quantity; no number is given to a trade that never was."""
    factory = open_trade_factory("binance", INSTRUMENT)
    with pytest.raises(FieldError) as caught:
        factory.make(7, price, quantity, *ARGUMENTS[3:], {"pair": "BTCUSDT"})  # type: ignore[arg-type]

    assert caught.value.field == field
    assert factory.make(*ARGUMENTS, {"pair": "BTCUSDT"}).platform_sequence == 1


@pytest.mark.parametrize(
    "trade_id",
    [2**63, -(2**63) - 1, 2**70, 10**5000, True, "7"],
    ids=lambda n: type(n).__name__ + str(n)[:9] if n != 10**5000 else "huge",
)
def test_ids_beyond_64_bits_are_refused(engine: str, trade_id: int):
    """Before the trade exists, so that its frame is still at hand for the dead letters."""
    factory = open_trade_factory("binance", INSTRUMENT)
    with pytest.raises(FieldError, match="not an int within the 64 bits"):
        factory.make(trade_id, *ARGUMENTS[1:], {"pair": "BTCUSDT"})


@pytest.mark.parametrize("timestamp_us", [2**63, 253_402_300_800_000_000, -62_135_596_800_000_001])
def test_times_beyond_the_calendar_are_refused(engine: str, timestamp_us: int):
    """A reader's datetime ends with the year 9999."""
    factory = open_trade_factory("binance", INSTRUMENT)
    with pytest.raises(FieldError, match="years 1 to 9999"):
        factory.make(*ARGUMENTS[:4], timestamp_us, ARGUMENTS[5], {"pair": "BTCUSDT"})
