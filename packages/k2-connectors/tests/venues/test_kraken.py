"""Kraken v2: what its own frames mean. The shared behaviour is in test_venue_conformance.py."""

import json
from typing import Any

import pytest

from k2_connectors import Hole, Kraken, RestPage, RestResponse, SubscriptionRejectedError
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
    (text,) = Kraken(["XBT/USD", "ETH/USD"]).subscribe_frames(["BTC/USD", "ETH/USD"])

    assert json.loads(text) == {
        "method": "subscribe",
        "params": {"channel": "trade", "symbol": ["BTC/USD", "ETH/USD"], "snapshot": True},
        "req_id": 1,
    }


def test_the_endpoint_is_version_2():
    """v1 is another protocol."""
    assert Kraken(["BTC/USD"]).urls[0] == "wss://ws.kraken.com/v2"
    assert Kraken(["BTC/USD"], "ws://127.0.0.1:1/kraken").urls[0] == "ws://127.0.0.1:1/kraken/v2"


def read_rest(
    rows: str, last: str = '"1790446074626190212"', after_us: int = 1_790_446_074_000_000
) -> RestPage:
    """What Kraken reads from a page of a hole from id 7 to 2000."""
    kraken = Kraken(["BTC/USD"])
    request = kraken.first_request(Hole("BTC/USD", 7, 2_000, after_us))
    body = f'{{"error":[],"result":{{"XXBTZUSD":[{rows}],"last":{last}}}}}'
    return kraken.read_page(request, RestResponse(200, {}, body.encode()), RECV_US)


def make_rest_row(trade_id: int = 7, moment: str = "1790446074.6261902", price: str = "1.5") -> str:
    """One row of REST."""
    return f'["{price}","0.25",{moment},"b","m","",{trade_id}]'


@pytest.mark.parametrize(
    ("moment", "expected_us"),
    [
        ("1790446074.6261902", 1_790_446_074_626_190),
        ("1790446074.6261909", 1_790_446_074_626_190),
        ("1790446074.6262", 1_790_446_074_626_200),
        ("1790446074", 1_790_446_074_000_000),
    ],
)
def test_times_of_rest_are_exact_by_their_text(moment: str, expected_us: int):
    """A double would be off by a part of a microsecond, and sometimes by a whole one."""
    (trade,) = read_rest(make_rest_row(moment=moment)).trades

    assert trade.timestamp_us == expected_us
    assert dict(trade.vendor_data) == {
        "pair": "BTC/USD",
        "ord_type": "market",
        "origin": "backfill",
    }


def test_pages_go_by_time_and_overlap():
    """From a microsecond before the last trade known; the last nanosecond is read again."""
    rows = ",".join(make_rest_row(n) for n in range(7, 1_007))
    page = read_rest(rows)

    assert page.next is not None
    assert "since=1790446074626190211&" in page.next.url
    assert read_rest(make_rest_row()).next is None
    assert read_rest(rows, after_us=0).next is None
    # No progress in time is the end: a page could be read for ever.
    assert read_rest(rows, last='"0"').next is None


def test_a_hole_without_a_time_asks_for_the_newest_page():
    """From 0 on Kraken would send its first trades of all."""
    kraken = Kraken(["BTC/USD"])

    assert "since" not in kraken.first_request(Hole("BTC/USD", 7, 9)).url
    assert "since=999000&" in kraken.first_request(Hole("BTC/USD", 7, 9, 1_000)).url


def test_a_rate_limit_comes_in_the_body():
    """Kraken answers 200 and names the error; any other is a problem."""
    kraken = Kraken(["BTC/USD"])
    request = kraken.first_request(Hole("BTC/USD", 7, 9, 1))
    pages = [
        kraken.read_page(request, RestResponse(200, {}, b'{"error":["%b"]}' % error), RECV_US)
        for error in (b"EAPI:Rate limit exceeded", b"EQuery:Unknown asset pair")
    ]

    assert [(bool(page.retry_after_s), page.problem) for page in pages] == [
        (True, None),
        (False, "EQuery:Unknown asset pair"),
    ]


def test_a_rejected_trade_is_named_by_its_id_live_and_fetched():
    """It came, so it is not missing."""
    decoded = Kraken(["BTC/USD"]).decode(make_frame(make_row(price="0.123456789")), RECV_US)
    page = read_rest(f"{make_rest_row(7, price='x')},{make_rest_row(8)}")

    assert list(decoded.dead_ids) == [("BTC/USD", 7)]
    assert [row.trade_id for row in page.dead] == [7]
    assert [trade.trade_id for trade in page.trades] == ["8"]


def test_trades_are_ascending_per_pair():
    """A batch that is not is put in order."""
    rows = [make_row(trade_id=str(n)) for n in (9, 7, 8)]
    decoded = Kraken(["BTC/USD"]).decode(make_frame(*rows), RECV_US)

    assert [trade.trade_id for trade in decoded.trades] == ["7", "8", "9"]


@pytest.mark.parametrize(
    ("data", "closing"),
    [('[{"system":"online"}]', False), ('[{"system":"maintenance"}]', True), ("[1]", False)],
)
def test_a_status_that_is_not_online_announces_the_end(data: str, closing: bool):
    """One that cannot be read announces nothing."""
    frame = f'{{"channel":"status","data":{data}}}'.encode()

    assert Kraken(["BTC/USD"]).decode(frame, RECV_US).closing is closing
