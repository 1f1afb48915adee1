"""Kraken v2: what its own frames mean. The shared behaviour is in test_venue_conformance.py."""

import json
from typing import Any

import pytest

from k2_connectors import Kraken, SubscriptionRejectedError
from k2_schemas import Trade

RECV_US = 1_790_446_200_000_123


def make_row(**changes: str) -> str:
    """One trade of a batch as text; changes are JSON texts, and "" leaves the key out."""
    row = {
        "symbol": '"BTC/USD"',
        "side": '"buy"',
        "price": "84098.4",
        "qty": "0.00010000",
        "ord_type": '"limit"',
        "trade_id": "7",
        "timestamp": '"2026-09-26T18:07:54.626190Z"',
    }
    pairs = [f'"{key}":{value}' for key, value in (row | changes).items() if value]
    return f"{{{','.join(pairs)}}}"


def make_frame(*rows: str, kind: str = "update") -> bytes:
    """A trade frame of these rows."""
    return f'{{"channel":"trade","type":"{kind}","data":[{",".join(rows)}]}}'.encode()


def decode_one(frame: bytes, *symbols: str) -> Trade:
    """The only trade of a frame that holds nothing else."""
    decoded = Kraken(symbols or ["BTC/USD"]).decode(frame, RECV_US)
    assert (list(decoded.rejections), decoded.control) == ([], None)
    (trade,) = decoded.trades
    return trade


def test_a_row_is_one_exact_trade():
    """Every field of the contract comes from the row, its receipt, or the list."""
    assert decode_one(make_frame(make_row())) == Trade(
        trade_id="7",
        symbol="BTC/USD",
        exchange="KRAKEN",
        timestamp_us=1_790_446_074_626_190,
        price_units=8_409_840_000_000,
        quantity_units=10_000,
        currency="USD",
        side="BUY",
        ingestion_us=RECV_US,
        vendor_data={"pair": "BTC/USD", "ord_type": "limit"},
        source_sequence=7,
        platform_sequence=1,
    )


@pytest.mark.parametrize(("written", "side"), [('"buy"', "BUY"), ('"sell"', "SELL")])
def test_the_side_is_the_takers(written: str, side: str):
    """Kraken writes the taker's side in lower case."""
    assert decode_one(make_frame(make_row(side=written))).side == side


@pytest.mark.parametrize("kind", ["update", "snapshot"])
def test_every_trade_of_a_batch_counts(kind: str):
    """A frame holds many trades, in order, numbered per symbol."""
    rows = [make_row(trade_id=str(n)) for n in (7, 8)]
    other = make_row(trade_id="3", symbol='"ETH/USD"')
    decoded = Kraken(["BTC/USD", "ETH/USD"]).decode(
        make_frame(rows[0], other, rows[1], kind=kind), RECV_US
    )

    assert [(t.symbol, t.trade_id, t.platform_sequence) for t in decoded.trades] == [
        ("BTC/USD", "7", 1),
        ("ETH/USD", "3", 1),
        ("BTC/USD", "8", 2),
    ]
    assert list(decoded.rejections) == []


BAD_ROWS = {
    "no side": make_row(side=""),
    "unknown side": make_row(side='"hold"'),
    "11 digits": make_row(qty="12345678901.0"),
    "9 fraction digits": make_row(price="0.123456789"),
    "price null": make_row(price="null"),
    "price true": make_row(price="true"),
    "price object": make_row(price="{}"),
    "id text": make_row(trade_id='"9"'),
    "id fraction": make_row(trade_id="9.5"),
    "no time": make_row(timestamp=""),
    "naive time": make_row(timestamp='"2026-09-26T18:07:54.626190"'),
    "time number": make_row(timestamp="1790446074"),
    "unknown symbol": make_row(symbol='"XYZ/USD"'),
    "no symbol": make_row(symbol='"BTCUSD"'),
    "row null": "null",
    "row list": "[]",
    "not UTF-8": make_row(price='"\udcff"'),
    "not UTF-8 elsewhere": make_row(ord_type='"\udcff"'),
}


@pytest.mark.parametrize("bad", BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_trade_does_not_hold_back_its_neighbours(bad: str):
    """The good trades arrive, the bad one has exactly one reason."""
    text = f'{{"channel":"trade","data":[{make_row(trade_id="1")},{bad},{make_row(trade_id="2")}]}}'
    decoded = Kraken(["BTC/USD"]).decode(text.encode(errors="surrogateescape"), RECV_US)

    assert [(t.trade_id, t.platform_sequence) for t in decoded.trades] == [("1", 1), ("2", 2)]
    assert [bool(reason) for reason in decoded.rejections] == [True]


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("84098.40000000", 8_409_840_000_000),
        ("0.10", 10_000_000),
        ("1e-8", 1),
        ("1.5E3", 150_000_000_000),
        ("9999999999.99999999", 10**18 - 1),
        ("0.00000001000", 1),
        ('"84098.4"', 8_409_840_000_000),
    ],
)
def test_bare_numbers_are_read_as_their_text(text: str, units: int):
    """No digit passes through a float: a double cannot hold the longest of these."""
    assert decode_one(make_frame(make_row(price=text))).price_units == units


@pytest.mark.parametrize(
    ("written", "symbol"),
    [("BTC/USD", "BTC/USD"), ("XBT/USD", "BTC/USD"), ("XDG/USD", "DOGE/USD")],
)
def test_krakens_own_asset_names_are_understood(written: str, symbol: str):
    """XBT/USD and BTC/USD are one book, so the same trade has one identity."""
    trade = decode_one(make_frame(make_row(symbol=f'"{written}"')), "BTC/USD", "XDG/USD")

    assert (trade.symbol, trade.pair) == (symbol, symbol)


@pytest.mark.parametrize(
    ("written", "expected_us"),
    [
        ("2026-09-26T18:07:54.626190Z", 1_790_446_074_626_190),
        ("2026-09-26T18:07:54Z", 1_790_446_074_000_000),
        ("2026-09-26T20:07:54.6+02:00", 1_790_446_074_600_000),
    ],
)
def test_times_are_exact_microseconds(written: str, expected_us: int):
    """Kraken stamps microseconds, and every one of them counts."""
    assert decode_one(make_frame(make_row(timestamp=f'"{written}"'))).timestamp_us == expected_us


def test_extra_keys_are_tolerated():
    """A new key must not turn every trade into a dead letter."""
    extended = make_row(liquidity='{"new":[1,null]}', misc="[]")

    assert decode_one(make_frame(extended)) == decode_one(make_frame(make_row()))


@pytest.mark.parametrize("data", ["null", "{}", '"x"', "1"])
def test_a_trade_frame_without_a_batch_is_rejected(data: str):
    """The envelope alone is no trade."""
    decoded = Kraken(["BTC/USD"]).decode(f'{{"channel":"trade","data":{data}}}'.encode(), RECV_US)

    assert (list(decoded.trades), len(decoded.rejections), decoded.control) == ([], 1, None)


@pytest.mark.parametrize(
    ("frame", "control"),
    [
        (b'{"channel":"status","type":"update","data":[{"system":"online"}]}', "status"),
        (b'{"channel":"heartbeat"}', "heartbeat"),
        (b'{"channel":"ticker","data":[{"last":1.5}]}', "ticker"),
        (b'{"method":"subscribe","result":{"symbol":"BTC/USD"},"success":true}', "acknowledgement"),
        (b'{"method":"pong","req_id":1,"time_in":"x","time_out":"y"}', "acknowledgement"),
    ],
)
def test_frames_that_are_no_trades_are_counted_by_name(frame: bytes, control: str):
    """Control frames are counted, not stored."""
    decoded = Kraken(["BTC/USD"]).decode(frame, RECV_US)

    assert (list(decoded.trades), list(decoded.rejections), decoded.control) == ([], [], control)


@pytest.mark.parametrize(
    "changes", [{"error": "Currency pair not supported XYZ/USD"}, {"error": None}], ids=str
)
def test_a_refused_subscription_is_raised_with_its_reason(changes: dict[str, Any]):
    """Waiting would bring nothing but silence."""
    frame = json.dumps({"method": "subscribe", "success": False} | changes).encode()
    with pytest.raises(SubscriptionRejectedError) as caught:
        Kraken(["BTC/USD"]).decode(frame, RECV_US)

    assert caught.value.reason == (changes["error"] or "no reason given")


def test_all_symbols_are_subscribed_with_their_snapshot():
    """The snapshot is asked for explicitly: its default has changed before."""
    (text,) = Kraken(["XBT/USD", "ETH/USD"]).subscribe_frames()

    assert json.loads(text) == {
        "method": "subscribe",
        "params": {"channel": "trade", "symbol": ["BTC/USD", "ETH/USD"], "snapshot": True},
        "req_id": 1,
    }


def test_the_endpoint_is_version_2():
    """v1 is another protocol."""
    assert Kraken(["BTC/USD"]).urls[0] == "wss://ws.kraken.com/v2"
    assert Kraken(["BTC/USD"], "ws://127.0.0.1:1/kraken").urls[0] == "ws://127.0.0.1:1/kraken/v2"
