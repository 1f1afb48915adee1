"""Binance: what its own frames mean. The shared behaviour is in test_venue_conformance.py."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from k2_connectors import Binance, Hole, RestPage, RestResponse, SubscriptionRejectedError
from k2_schemas import Trade

RECV_US = 1_790_446_200_000_123


def make_frame(**changes: Any) -> bytes:
    """One combined-stream trade frame; a change to `...` leaves the key out."""
    data = {
        "e": "trade",
        "E": 1_790_446_152_679,
        "s": "BTCUSDT",
        "t": 6_715_234_671,
        "p": "84106.09000000",
        "q": "0.00007000",
        "T": 1_790_446_152_678,
        "m": True,
        "M": True,
    }
    data = {key: value for key, value in (data | changes).items() if value is not ...}
    return json.dumps({"stream": "btcusdt@trade", "data": data}).encode()


def decode_one(frame: bytes, *symbols: str) -> Trade:
    """The only trade of a frame that holds nothing else."""
    decoded = Binance(symbols or ["BTC/USDT"]).decode(frame, RECV_US)
    assert (list(decoded.rejections), decoded.control) == ([], None)
    (trade,) = decoded.trades
    return trade


def reject(frame: bytes) -> str:
    """The only reason why a frame is rejected."""
    decoded = Binance(["BTC/USDT"]).decode(frame, RECV_US)
    assert (list(decoded.trades), decoded.control) == ([], None)
    (reason,) = decoded.rejections
    return reason


def test_a_trade_frame_is_one_exact_trade():
    """Every field of the contract comes from the frame, its receipt, or the list."""
    assert decode_one(make_frame()) == Trade(
        trade_id="6715234671",
        symbol="BTC/USDT",
        exchange="BINANCE",
        timestamp_us=1_790_446_152_678_000,
        price_units=8_410_609_000_000,
        quantity_units=7_000,
        currency="USDT",
        side="SELL",
        ingestion_us=RECV_US,
        vendor_data={"pair": "BTCUSDT", "event_time": "1790446152679"},
        source_sequence=6_715_234_671,
        platform_sequence=1,
    )


@pytest.mark.parametrize(("maker_is_buyer", "side"), [(True, "SELL"), (False, "BUY")])
def test_the_side_is_the_takers(maker_is_buyer: bool, side: str):
    """`m` true says the buyer made the order, so the taker sold."""
    assert decode_one(make_frame(m=maker_is_buyer)).side == side


def test_a_run_of_trade_frames_ends_before_what_is_none():
    """What is left is decoded alone, so that its reason is known."""
    frames = [make_frame(t=1), make_frame(t=2), make_frame(p="x"), make_frame(t=3)]

    run = Binance(["BTC/USDT"]).decode_run(frames, RECV_US)

    alone = [Binance(["BTC/USDT"]).decode(frame, RECV_US).trades[0] for frame in frames[:2]]
    assert [trade.source_sequence for trade in run] == [1, 2]
    assert [replace(trade, platform_sequence=1) for trade in run] == alone


def test_a_frame_of_the_raw_stream_is_the_same_trade():
    """Without the combined envelope the trade is the frame itself."""
    raw = json.dumps(json.loads(make_frame())["data"]).encode()

    assert decode_one(raw) == decode_one(make_frame())


def test_extra_keys_are_tolerated():
    """Frames before 2024-06 carry `b` and `a`; the next key will come one day."""
    assert decode_one(make_frame(b=1, a=2, X={"new": [1, None]})) == decode_one(make_frame())


def test_microsecond_times_are_recognised_by_their_size():
    """With timeUnit=MICROSECOND the same field has three more digits."""
    trade = decode_one(make_frame(T=1_790_446_152_678_123, E=1_790_446_152_679_456))

    assert trade.timestamp_us == 1_790_446_152_678_123


@pytest.mark.parametrize(
    "changes",
    [
        *[{key: ...} for key in "eEstpqTm"],
        *[{"m": 1}, {"m": "true"}, {"t": "1"}, {"t": 1.5}, {"p": 84106.09}, {"q": None}],
        *[{"T": "1"}, {"e": "aggTrade"}, {"s": 1}, {"p": "nan"}, {"p": ""}, {"p": "1,5"}],
        *[{"q": "0.123456789"}, {"q": "12345678901.0"}, {"s": "ETHUSDT"}],
    ],
    ids=str,
)
def test_a_trade_that_is_not_complete_and_exact_is_rejected(changes: dict[str, Any]):
    """Nothing is guessed, nothing is rounded; the reason is not empty."""
    assert reject(make_frame(**changes))


@pytest.mark.parametrize("data", ["null", "[]", '"x"', "1", "{}", '[{"e":"trade"}]'])
def test_a_trade_stream_without_a_trade_object_is_rejected(data: str):
    """The envelope alone is no trade."""
    assert reject(f'{{"stream":"btcusdt@trade","data":{data}}}'.encode())


def test_an_unknown_pair_is_rejected_with_the_closest():
    """A wrong subscription is found by reading the dead letters."""
    assert "did you mean BTCUSDT" in reject(make_frame(s="BTCUSDC"))


@pytest.mark.parametrize(
    ("frame", "control"),
    [
        (b'{"result":null,"id":1}', "acknowledgement"),
        (b'{"result":null,"id":"abc"}', "acknowledgement"),
        (b'{"e":"serverShutdown","E":1790446152678}', "shutdown"),
        (b'{"stream":"!serverShutdown","data":{"e":"serverShutdown"}}', "shutdown"),
        (b'{"stream":"btcusdt@bookTicker","data":{"u":1,"s":"BTCUSDT"}}', "other_stream"),
        (b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate"}}', "other_stream"),
        (b'{"e":"aggTrade","s":"BTCUSDT"}', "other_stream"),
    ],
)
def test_frames_that_are_no_trades_are_counted_by_name(frame: bytes, control: str):
    """Control frames are counted, not stored."""
    decoded = Binance(["BTC/USDT"]).decode(frame, RECV_US)

    assert (list(decoded.trades), list(decoded.rejections), decoded.control) == ([], [], control)


@pytest.mark.parametrize(
    "frame",
    [
        b'{"error":{"code":2,"msg":"Invalid request: unknown stream"},"id":1}',
        b'{"code":2,"msg":"Invalid request: unknown stream","id":1}',
    ],
)
def test_a_refused_subscription_is_raised_with_its_reason(frame: bytes):
    """Waiting would bring nothing but silence."""
    with pytest.raises(SubscriptionRejectedError, match="unknown stream") as caught:
        Binance(["BTC/USDT"]).decode(frame, RECV_US)

    assert caught.value.venue == "binance"


def test_all_symbols_are_subscribed_in_one_message():
    """Binance allows five inbound messages a second."""
    (text,) = Binance(["BTC/USDT", "eth/usdt"]).subscribe_frames(["BTCUSDT", "ETHUSDT"])

    assert json.loads(text) == {
        "method": "SUBSCRIBE",
        "params": ["btcusdt@trade", "ethusdt@trade"],
        "id": 1,
    }


def test_the_endpoint_is_the_combined_stream():
    """Combined frames name their stream; subscribing by message is acknowledged."""
    assert Binance(["BTC/USDT"]).urls[0] == "wss://stream.binance.com:9443/stream"
    assert (
        Binance(["BTC/USDT"], "ws://127.0.0.1:1/binance").urls[0]
        == "ws://127.0.0.1:1/binance/stream"
    )


REST_ROW = (
    '{"id":7,"price":"84106.09","qty":"0.5","time":1790446152678,"isBuyerMaker":true,"new":[1]}'
)


def read_rest(body: str, first_id: int = 7, last_id: int = 2_000) -> RestPage:
    """What Binance reads from a page of a hole."""
    binance = Binance(["BTC/USDT"])
    request = binance.first_request(Hole("BTCUSDT", first_id, last_id))
    return binance.read_page(request, RestResponse(200, {}, body.encode()), RECV_US)


def test_endpoints_are_of_one_venue():
    """stream.binance.us has a book, and ids, of its own."""
    urls = Binance(["BTC/USDT"]).urls

    assert len(urls) == len(set(urls)) == 3
    assert not [url for url in urls if "binance.us" in url]


def test_only_our_own_request_is_an_acknowledgement_of_pairs():
    """Replies to other requests say nothing about a subscription."""
    binance = Binance(["BTC/USDT", "ETH/USDT"])

    assert binance.decode(b'{"result":null,"id":1}', 0).acknowledged == ["BTCUSDT", "ETHUSDT"]
    assert list(binance.decode(b'{"result":null,"id":9}', 0).acknowledged) == []


def test_a_full_page_is_followed_by_the_next_id():
    """A page shorter than a thousand rows is the last."""
    rows = [REST_ROW.replace('"id":7', f'"id":{7 + n}') for n in range(1_000)]
    page = read_rest(f"[{','.join(rows)}]")

    assert [t.trade_id for t in page.trades] == [str(7 + n) for n in range(1_000)]
    assert page.next is not None
    assert "fromId=1007&" in page.next.url
    assert read_rest(f"[{','.join(rows[:-1])}]").next is None
    assert read_rest(f"[{','.join(rows)}]", last_id=1_006).next is None


def test_a_rejected_trade_is_named_by_its_id_live_and_fetched():
    """It came, so it is not missing."""
    decoded = Binance(["BTC/USDT"]).decode(make_frame(p="x"), RECV_US)
    page = read_rest(f"[{REST_ROW.replace('84106.09', 'x')}]")

    assert list(decoded.dead_ids) == [("BTCUSDT", 6_715_234_671)]
    assert [(row.trade_id, b'"x"' in row.raw) for row in page.dead] == [(7, True)]
    assert (list(page.trades), page.problem) == ([], None)
