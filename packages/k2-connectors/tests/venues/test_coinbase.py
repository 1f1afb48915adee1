"""Coinbase: what its own frames mean. The shared behaviour is in test_venue_conformance.py."""

import json
from typing import Any

import pytest

from k2_connectors import Coinbase, Hole, RestResponse, SubscriptionRejectedError
from k2_connectors.rest import OPEN_END
from k2_schemas import Trade

RECV_US = 1_790_446_200_000_123


def make_frame(**changes: Any) -> bytes:
    """One match; a change to `...` leaves the key out."""
    match = {
        "type": "match",
        "trade_id": 41,
        "maker_order_id": "a",
        "taker_order_id": "b",
        "side": "sell",
        "size": "0.04",
        "price": "84100.5",
        "product_id": "BTC-USD",
        "sequence": 900,
        "time": "2026-09-26T18:07:54.244075Z",
    }
    return json.dumps({k: v for k, v in (match | changes).items() if v is not ...}).encode()


def test_a_match_is_one_exact_trade_of_the_takers_side():
    """Every field of the contract comes from the frame, its receipt, or the list."""
    decoded = Coinbase(["BTC/USD"]).decode(make_frame(), RECV_US)

    assert list(decoded.trades) == [
        Trade(
            trade_id="41",
            symbol="BTC/USD",
            exchange="COINBASE",
            timestamp_us=1_790_446_074_244_075,
            price_units=8_410_050_000_000,
            quantity_units=4_000_000,
            currency="USD",
            side="BUY",
            ingestion_us=RECV_US,
            vendor_data={"pair": "BTC-USD", "sequence": "900"},
            source_sequence=41,
            platform_sequence=1,
        )
    ]


@pytest.mark.parametrize(("maker", "taker"), [("sell", "BUY"), ("buy", "SELL")])
@pytest.mark.parametrize("kind", ["match", "last_match"])
def test_the_side_is_the_makers_turned_round(kind: str, maker: str, taker: str):
    """The maker sold, so the taker bought."""
    (trade,) = Coinbase(["BTC/USD"]).decode(make_frame(type=kind, side=maker), 0).trades

    assert trade.side == taker


@pytest.mark.parametrize(
    "changes",
    [
        *[{key: ...} for key in ("trade_id", "side", "size", "price", "product_id", "time")],
        *[{"side": "hold"}, {"price": 1.5}, {"trade_id": "41"}, {"time": "yesterday"}],
        *[{"time": "2026-09-26T18:07:54"}, {"size": "0.123456789"}, {"product_id": "XYZ-USD"}],
    ],
    ids=str,
)
def test_a_match_that_is_not_complete_and_exact_is_rejected(changes: dict[str, Any]):
    """Nothing is guessed; what is left of its id says that it came."""
    decoded = Coinbase(["BTC/USD"]).decode(make_frame(**changes), RECV_US)

    assert (list(decoded.trades), len(decoded.rejections), decoded.control) == ([], 1, None)
    is_known = not {"trade_id", "product_id"} & set(changes)
    assert list(decoded.dead_ids) == ([("BTC-USD", 41)] if is_known else [])


def test_only_products_of_the_channel_matches_are_acknowledged():
    """A reply also lists other channels."""
    channels = [
        {"name": "heartbeat", "product_ids": ["BTC-USD", "ETH-USD"]},
        {"name": "matches", "product_ids": ["ETH-USD", "XYZ-USD"]},
    ]
    frame = json.dumps({"type": "subscriptions", "channels": channels}).encode()
    decoded = Coinbase(["BTC/USD", "ETH/USD"]).decode(frame, RECV_US)

    assert (decoded.control, list(decoded.acknowledged)) == ("acknowledgement", ["ETH-USD"])


def test_a_refused_subscription_is_raised_with_its_reason():
    """Waiting would bring nothing but silence."""
    frame = b'{"type":"error","message":"Failed to subscribe","reason":"X is not a valid product"}'
    with pytest.raises(SubscriptionRejectedError, match="Failed to subscribe: X is not a valid"):
        Coinbase(["BTC/USD"]).decode(frame, RECV_US)


def test_pages_come_upwards_by_id():
    """`after` is exclusive and pages go backwards: a page's length above the first id."""
    coinbase = Coinbase(["BTC/USD"], rest_url="http://x")
    hole = Hole("BTC-USD", 100, 2_400)
    request = coinbase.first_request(hole)
    row = {
        "trade_id": 100,
        "side": "buy",
        "size": "1",
        "price": "2",
        "time": "2026-09-26T18:07:54Z",
    }
    page = coinbase.read_page(request, RestResponse(200, {}, json.dumps([row]).encode()), RECV_US)

    assert request.url == "http://x/products/BTC-USD/trades?after=1100&limit=1000"
    assert request.headers["User-Agent"] == "k2-connectors"
    assert [(t.trade_id, t.side) for t in page.trades] == [("100", "SELL")]
    assert page.next is not None
    assert "after=2100&" in page.next.url


@pytest.mark.parametrize(
    ("last_id", "newest", "goes_on"),
    [(5_000, 90, True), (OPEN_END, 90, False), (OPEN_END, 1_050, True), (1_099, 1_099, False)],
)
def test_ids_that_lack_by_the_thousand_end_no_hole(last_id: int, newest: int, goes_on: bool):
    """What comes after them is still there; a probe ends where the venue does."""
    coinbase = Coinbase(["BTC/USD"])
    row = {
        "trade_id": newest, "side": "buy", "size": "1", "price": "2",
        "time": "2026-09-26T18:07:54Z",
    }  # fmt: skip
    request = coinbase.first_request(Hole("BTC-USD", 100, last_id))
    page = coinbase.read_page(request, RestResponse(200, {}, json.dumps([row]).encode()), RECV_US)

    assert (page.next is not None) == goes_on


def test_a_row_that_cannot_be_a_trade_is_dead_with_its_bytes():
    """The exchange has it, so it is not missing; its neighbours arrive."""
    coinbase = Coinbase(["BTC/USD"])
    good = '{"trade_id":8,"side":"buy","size":"1","price":"2","time":"2026-09-26T18:07:54Z"}'
    bad = '{"trade_id":7,"side":"buy","size":"1","price":"x","time":"2026-09-26T18:07:54Z"}'
    request = coinbase.first_request(Hole("BTC-USD", 7, 8))
    page = coinbase.read_page(request, RestResponse(200, {}, f"[{good},{bad}]".encode()), RECV_US)

    assert [t.trade_id for t in page.trades] == ["8"]
    assert [(d.trade_id, d.raw, bool(d.reason)) for d in page.dead] == [(7, bad.encode(), True)]
