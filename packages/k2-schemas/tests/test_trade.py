"""Trade: the identity of a trade, and its numbers as they were sent."""

import uuid

from hypothesis import given, settings
from hypothesis import strategies as st

from k2_schemas import derive_message_id
from k2_schemas._backend import native
from k2_schemas._message_id import PythonMessageIds
from k2_schemas.testing import make_trade
from k2_schemas.trade import MESSAGE_ID_NAMESPACE


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=30))
@settings(deadline=None, max_examples=200)
def test_message_ids_are_uuid5(exchange: str, pair: str, trade_id: str):
    """The hand-made id is the standard library's UUIDv5, letter for letter."""
    expected = str(uuid.uuid5(MESSAGE_ID_NAMESPACE, f"{exchange}|{pair}|{trade_id}"))
    python = PythonMessageIds(MESSAGE_ID_NAMESPACE.bytes)

    assert derive_message_id(exchange, pair, trade_id) == expected
    assert python.derive(exchange, pair, trade_id) == expected


def test_names_of_every_length_are_uuid5():
    """One, two and more blocks of SHA-1, and names too long for the compiled one."""
    python = PythonMessageIds(MESSAGE_ID_NAMESPACE.bytes)
    makers = [python] if native is None else [python, native.MessageIds(python)]
    for size in range(400):
        expected = uuid.uuid5(MESSAGE_ID_NAMESPACE, f"B|{'p' * size}|1")
        assert {maker.derive("B", "p" * size, "1") for maker in makers} == {str(expected)}


def test_equal_trades_have_equal_ids():
    """Who sends it, when it arrives and what else is known do not change a trade's identity."""
    first = make_trade(7)
    again = make_trade(7, price="1", quantity="2", side="BUY", timestamp_us=1)

    assert first.message_id == again.message_id


def test_different_trades_have_different_ids():
    """Exchange, pair and trade id each tell trades apart."""
    ids = {
        make_trade(7).message_id,
        make_trade(8).message_id,
        make_trade(7, exchange="KRAKEN").message_id,
        make_trade(7, pair="ETHUSDT").message_id,
    }

    assert len(ids) == 4


def test_the_id_of_a_known_trade_never_changes():
    """Another namespace or form would give every stored trade a second identity."""
    assert make_trade(3_735_683_259).message_id == "ea3f6f07-a4f9-50ef-a49e-dfd2af51e7fa"


def test_price_quantity_and_pair_are_read_from_the_fields():
    """The properties show what the integers hold, with 8 fraction digits."""
    trade = make_trade(price="61837.63", quantity="0.02")

    assert (str(trade.price), str(trade.quantity)) == ("61837.63000000", "0.02000000")
    assert trade.pair == "BTCUSDT"
    assert (trade.price_text, trade.quantity_text) == ("61837.63000000", "0.02000000")
