"""Instruments: symbols come from the configured list, never from guessing."""

import pytest

from k2_schemas import (
    Instrument,
    InstrumentList,
    Naming,
    SchemaError,
    UnknownSymbolError,
    split_symbol,
)


def make_list(*symbols: str) -> InstrumentList:
    """A venue that writes BTC and USDT as BTCUSDT."""
    return InstrumentList("binance", symbols, lambda base, quote: base + quote)


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("BTC/USDT", ("BTC", "USDT")),
        ("XBT/USD", ("BTC", "USD")),
        ("XDG/XBT", ("DOGE", "BTC")),
        (" eth/usd ", ("ETH", "USD")),
        ("1000SATS/USDT", ("1000SATS", "USDT")),
    ],
)
def test_symbols_are_canonical_with_aliases_resolved(symbol: str, expected: tuple[str, str]):
    """Kraken's XBT and XDG are everyone else's BTC and DOGE."""
    assert split_symbol(symbol) == expected


@pytest.mark.parametrize("symbol", ["", "/", "BTC", "BTCUSDT", "BTC/", "/USD", "A/B/C", "BTC-USD"])
def test_what_is_not_base_slash_quote_is_refused(symbol: str):
    """The error shows the form that is wanted."""
    with pytest.raises(SchemaError, match="BASE/QUOTE, such as BTC/USDT"):
        split_symbol(symbol)


def test_an_instrument_is_found_by_the_venues_own_symbol():
    """The list answers with the canonical symbol and its quote currency."""
    found = make_list("BTC/USDT", "ETH/BTC").find("ETHBTC")

    assert found == Instrument("ETH/BTC", "ETHBTC")
    assert found.currency == "BTC"


def test_aliases_in_the_configuration_name_the_canonical_symbol():
    """XBT/USDT configured is BTC/USDT recorded."""
    assert list(make_list("XBT/USDT")) == [Instrument("BTC/USDT", "BTCUSDT")]


def test_a_symbol_listed_twice_is_one_instrument():
    """Otherwise it would be subscribed twice."""
    assert list(make_list("BTC/USDT", "XBT/USDT", "btc/usdt")) == [
        Instrument("BTC/USDT", "BTCUSDT")
    ]
    assert len(make_list("BTC/USDT", "XBT/USDT")) == 1


def test_an_unknown_symbol_names_the_closest():
    """A typing error in the configuration is found by reading the message."""
    with pytest.raises(UnknownSymbolError, match="did you mean BTCUSDT") as caught:
        make_list("BTC/USDT", "ETH/USDT").find("BTCUSD")

    assert caught.value.closest == "BTCUSDT"


def test_nothing_close_is_nothing_suggested():
    """A wrong hint would be worse than none."""
    with pytest.raises(UnknownSymbolError) as caught:
        make_list("BTC/USDT").find("XXX")

    assert caught.value.closest is None
    assert "did you mean" not in str(caught.value)


def test_a_symbol_is_never_split_by_its_suffix():
    """SOLUSDT looks like SOL and USDT, but an unlisted symbol stays unknown."""
    with pytest.raises(UnknownSymbolError):
        make_list("BTC/USDT", "SOL/USDC").find("SOLUSDT")


@pytest.mark.parametrize(
    ("venue", "symbol", "names"),
    [
        ("binance", "BTC/USDT", ["BTCUSDT"]),
        ("coinbase", "BTC/USD", ["BTC-USD"]),
        ("kraken", "BTC/USD", ["BTC/USD", "XBT/USD", "XBTUSD", "XXBTZUSD"]),
        ("kraken", "DOGE/USD", ["DOGE/USD", "XDG/USD", "XDGUSD", "XXDGZUSD"]),
        ("kraken", "XBT/EUR", ["BTC/EUR", "XBT/EUR", "XBTEUR", "XXBTZEUR"]),
        ("kraken", "ETH/BTC", ["ETH/BTC", "ETH/XBT", "ETHXBT", "XETHXXBT"]),
        ("kraken", "BTC/USDT", ["BTC/USDT", "XBT/USDT", "XBTUSDT"]),
        ("kraken", "SOL/USD", ["SOL/USD", "SOLUSD"]),
    ],
)
def test_every_name_a_venue_has_leads_to_the_instrument(venue: str, symbol: str, names: list[str]):
    """WebSocket names, REST names and result keys are the same pair; the stream's name is first."""
    instruments = InstrumentList(venue, [symbol])
    (instrument,) = instruments

    assert list(instruments.names) == names
    assert instrument.pair == names[0]
    assert {instruments.find(name) for name in names} == {instrument}


def test_a_venue_we_do_not_know_brings_its_own_naming():
    """Someone else's venue needs nothing from us but this."""
    naming = Naming(
        lambda base, quote: f"{base}_{quote}".lower(), lambda base, quote: (f"{base}.",)
    )
    instruments = InstrumentList("elsewhere", ["BTC/USD"], naming)

    assert instruments.find("BTC.") == Instrument("BTC/USD", "btc_usd")
    with pytest.raises(SchemaError, match="known: binance, coinbase, kraken"):
        InstrumentList("elsewhere", ["BTC/USD"])


def test_two_instruments_of_one_name_are_refused():
    """A frame must never be filed under a pair that was guessed."""
    with pytest.raises(SchemaError, match="calls both A/BC and AB/C ABC"):
        make_list("A/BC", "AB/C")


def test_an_unknown_kraken_symbol_names_the_closest():
    """Of any of its names."""
    with pytest.raises(UnknownSymbolError, match="did you mean XBT/USD"):
        InstrumentList("kraken", ["BTC/USD"]).find("XBT/USF")
