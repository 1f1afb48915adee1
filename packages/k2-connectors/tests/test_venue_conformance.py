"""What every venue must do, run on each venue against the server's side of its protocol."""

import json
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_connectors import (
    Decoded,
    SubscriptionRejectedError,
    UnknownVenueError,
    Venue,
    find_venue,
    list_venues,
    open_venue,
    read_frames,
)
from k2_connectors.rest import Hole, RestRequest, RestResponse
from k2_connectors.testing import Emission, Payloads, SentTrade, check_venue
from k2_connectors.testing.dialects import DIALECTS
from k2_connectors.testing.tape import History
from k2_schemas import Trade, TradeCodec

RECV_US = 1_790_446_200_000_000
RECORDINGS = Path(__file__).resolve().parents[3].parent / "shared" / "recordings"
SYMBOLS = {
    "binance": ["BTC/USDT", "ETH/USDT"],
    "coinbase": ["BTC/USD", "ETH/USD"],
    "kraken": ["BTC/USD", "ETH/USD"],
}

every_venue = pytest.mark.parametrize("name", SYMBOLS)


def open_known(name: str) -> Venue:
    """A venue with the symbols of this file."""
    return open_venue(name, SYMBOLS[name])


def make_sent(name: str, **changes: Any) -> SentTrade:
    """A trade as the venue's exchange would send it."""
    symbol = SYMBOLS[name][0]
    sent = SentTrade(
        exchange=name.upper(),
        pair=DIALECTS[name].pair_of(*symbol.split("/")),
        trade_id="4503599627370497",
        symbol=symbol,
        price="84106.10000000",
        quantity="0.00021000",
        side="BUY",
        timestamp_us=1_790_446_152_678_000,
    )
    return sent._replace(**changes)


def to_sent(trade: Trade) -> SentTrade:
    """What a decoded trade says was sent, with numbers of 8 fraction digits."""
    return SentTrade(
        exchange=trade.exchange,
        pair=trade.pair,
        trade_id=trade.trade_id,
        symbol=trade.symbol,
        price=format(trade.price, "f"),
        quantity=format(trade.quantity, "f"),
        side=trade.side,
        timestamp_us=trade.timestamp_us,
    )


def decode(name: str, frame: bytes) -> Decoded | None:
    """Decode by a fresh venue; None for a refused subscription, the one error that may escape."""
    try:
        return open_known(name).decode(frame, RECV_US)
    except SubscriptionRejectedError:
        return None


def test_every_venue_has_a_dialect():
    """A venue without the server's side could not be tested here."""
    assert set(list_venues()) == set(DIALECTS) == set(SYMBOLS)


def test_an_unknown_venue_names_the_known_ones():
    """A typing error in the configuration is found by reading the message."""
    with pytest.raises(UnknownVenueError, match="choose one of: binance, coinbase, kraken"):
        open_venue("binanse", ["BTC/USDT"])


@every_venue
def test_a_rendered_trade_is_decoded_as_it_was_sent(name: str):
    """Client and server, written apart, agree on every field."""
    sent = make_sent(name)
    decoded = open_known(name).decode(DIALECTS[name].render([sent]).encode(), RECV_US)

    assert [to_sent(trade) for trade in decoded.trades] == [sent]
    assert (list(decoded.rejections), decoded.control) == ([], None)


@every_venue
@given(data=st.data())
@settings(deadline=None, max_examples=100)
def test_any_exact_trade_is_decoded_and_encoded_without_loss(name: str, data: st.DataObject):
    """Every number that V2 holds comes through, digit for digit, to the wire and back."""
    digits = st.integers(1, 10**18 - 1).map(lambda n: f"{n // 10**8}.{n % 10**8:08d}")
    sent = make_sent(
        name,
        trade_id=str(data.draw(st.integers(0, 2**63 - 1))),
        price=data.draw(digits),
        quantity=data.draw(digits),
        side=data.draw(st.sampled_from(["BUY", "SELL"])),
        timestamp_us=data.draw(st.integers(10**9, 2 * 10**12)) * 1000,
    )
    (trade,) = open_known(name).decode(DIALECTS[name].render([sent]).encode(), RECV_US).trades
    codec = TradeCodec()

    assert to_sent(codec.decode(codec.encode(trade))) == sent


@every_venue
def test_a_resent_trade_is_the_same_trade(name: str):
    """A duplicate differs only in when it came: its identity and its sequence are its own."""
    venue = open_known(name)
    frame = DIALECTS[name].render([make_sent(name)]).encode()
    (first,) = venue.decode(frame, RECV_US).trades
    (again,) = venue.decode(frame, RECV_US + 1).trades

    assert first.message_id == again.message_id
    assert first.source_sequence == again.source_sequence == int(make_sent(name).trade_id)
    assert (first.platform_sequence, again.platform_sequence) == (1, 2)
    assert (first.ingestion_us, again.ingestion_us) == (RECV_US, RECV_US + 1)


@every_venue
def test_the_exchange_understands_the_subscription(name: str):
    """The server reads every pair from the client's request, and its replies are control."""
    venue, dialect = open_known(name), DIALECTS[name]
    pairs = [instrument.pair for instrument in venue.instruments]
    requests = [json.loads(text) for text in venue.subscribe_frames(pairs)]

    assert [pair for request in requests for pair in dialect.subscribes(request)] == pairs
    replies = [reply for request in requests for reply in dialect.answer(request, pairs)]
    assert {venue.decode(reply.encode(), RECV_US).control for reply in replies} == {
        "acknowledgement"
    }


@every_venue
def test_greetings_and_heartbeats_are_control(name: str):
    """What the server says unasked is counted, never a dead letter."""
    dialect = DIALECTS[name]
    frames = [*dialect.greet(), *filter(None, [dialect.heartbeat])]
    decoded = [open_known(name).decode(frame.encode(), RECV_US) for frame in frames]

    assert [d for d in decoded if d.control is None or d.trades or d.rejections] == []


@every_venue
@pytest.mark.parametrize(
    "frame",
    [
        *[b"", b"{", b"<html>502</html>", b"\xff\xfe\x00", b"null", b"1", b'"x"', b"[]", b"[[1]]"],
        *[b"{}", b'{"what":"is this"}', b"[" * 100_000, b'{"x":' * 50_000, b'{"price":NaN}'],
    ],
    ids=lambda frame: repr(frame[:20]),
)
def test_what_is_no_known_frame_is_rejected_with_a_reason(name: str, frame: bytes):
    """Unknown bytes become a dead letter, never an error and never silence."""
    decoded = open_known(name).decode(frame, RECV_US)

    assert (list(decoded.trades), decoded.control) == ([], None)
    assert [bool(reason) for reason in decoded.rejections] == [True]


@every_venue
@given(frame=st.binary(max_size=120))
@settings(deadline=None, max_examples=200)
def test_arbitrary_bytes_never_raise(name: str, frame: bytes):
    """Whatever comes is trades, rejections or control, and never nothing."""
    decoded = decode(name, frame)

    assert decoded is None or decoded.trades or decoded.rejections or decoded.control


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
KEYS = ["stream", "data", "e", "id", "channel", "method", "success", "error", "code", "msg", "type"]


@every_venue
@given(
    frame=st.dictionaries(st.sampled_from(KEYS), JSON | st.sampled_from(["trade", "btcusdt@trade"]))
)
@settings(deadline=None, max_examples=200)
def test_frames_of_the_wrong_shape_never_raise(name: str, frame: dict[str, Any]):
    """Any value under any known key is decoded, rejected or counted."""
    decode(name, json.dumps(frame).encode())


@every_venue
@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_damaged_trade_frames_never_raise(name: str, data: st.DataObject):
    """A frame with bytes replaced, removed or inserted gives trades that can be encoded or none."""
    frame = bytearray(DIALECTS[name].render([make_sent(name)]).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(frame) - 1))
        frame[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    decode(name, bytes(frame))


@every_venue
@pytest.mark.parametrize("count", [5, 2_600])
def test_every_venue_passes_the_kit_that_others_use(name: str, count: int):
    """On payloads by the server's side, holes of one page and of many."""
    dialect, pairs = DIALECTS[name], [i.pair for i in open_known(name).instruments]
    trades = [
        make_sent(name, trade_id=str(7_000 + n), timestamp_us=RECV_US + n // 3 * 1000)
        for n in range(count)
    ]
    history = History()
    history.add(Emission(b"", trades))

    def answer(request: RestRequest) -> RestResponse:
        url = urlsplit(request.url)
        found = dialect.answer_get(url.path, dict(parse_qsl(url.query)), pairs, history)
        assert found is not None
        return RestResponse(found.status, {}, found.body.encode())

    def answer_unknown() -> RestResponse:
        """What REST says when it lists no pair at all."""
        url = urlsplit(open_known(name).first_request(Hole(pairs[0], 0, 0)).url)
        found = dialect.answer_get(url.path, dict(parse_qsl(url.query)), [], history)
        assert found is not None
        return RestResponse(found.status, {}, found.body.encode())

    requests = [json.loads(text) for text in open_known(name).subscribe_frames(pairs)]
    payloads = Payloads(
        symbols=SYMBOLS[name],
        frames=[(dialect.render([trade]).encode(), [trade]) for trade in trades[:3]],
        acknowledgements=[
            reply.encode() for request in requests for reply in dialect.answer(request, pairs)
        ],
        history=trades,
        answer=answer,
        control=[f.encode() for f in [*dialect.greet(), *filter(None, [dialect.heartbeat])]],
        refusals=[dialect.refuse(request, pairs[0])[0].encode() for request in requests],
        unknown_pairs=[answer_unknown()],
    )
    check_venue(find_venue(name), payloads)


def read_expected(raw: str) -> list[tuple[str, str, Decimal, Decimal, str]]:
    """The trades of a recorded frame by a JSON parser of our own: numbers stay text."""
    frame = json.loads(raw, parse_float=str)
    if frame.get("stream", "").endswith("@trade"):
        d = frame["data"]
        side = "SELL" if d["m"] else "BUY"
        return [(d["s"], str(d["t"]), Decimal(d["p"]), Decimal(d["q"]), side)]
    if frame.get("type") in ("match", "last_match"):
        side = {"buy": "SELL", "sell": "BUY"}[frame["side"]]
        numbers = (Decimal(frame["price"]), Decimal(frame["size"]))
        return [(frame["product_id"], str(frame["trade_id"]), *numbers, side)]
    if frame.get("channel") != "trade":
        return []
    return [
        (d["symbol"], str(d["trade_id"]), Decimal(d["price"]), Decimal(d["qty"]), d["side"].upper())
        for d in frame["data"]
    ]


@pytest.mark.parametrize(
    ("file", "name", "contiguous"),
    [
        ("binance.jsonl", "binance", True),
        ("binance_2026.jsonl", "binance", False),
        ("binance_mixed.jsonl", "binance", False),
        ("kraken_v2.jsonl", "kraken", True),
        ("coinbase.jsonl", "coinbase", False),
    ],
)
def test_real_frames_decode_to_their_exact_digits(file: str, name: str, contiguous: bool):
    """Every recorded trade arrives with its own price and quantity, no stream frame is rejected."""
    path = RECORDINGS / file
    if not path.exists():
        pytest.skip(f"no recordings at {RECORDINGS}: they are not part of the project")
    traded = {trade[0] for frame in read_frames(path) for trade in read_expected(frame.raw)}
    venue = open_known(name)
    if name == "coinbase":
        venue = open_venue(name, [pair.replace("-", "/") for pair in sorted(traded)])
    expected: list[object] = []
    decoded: list[object] = []
    rejections: list[str] = []
    snapshots = 0
    ids: dict[str, list[int]] = defaultdict(list)
    for frame in read_frames(path):
        expected.extend(read_expected(frame.raw))
        # Two order books that the recorder fetched over REST lie among the mixed frames.
        snapshots += "lastUpdateId" in json.loads(frame.raw)
        result = venue.decode(frame.raw.encode(), RECV_US)
        rejections.extend(result.rejections)
        for t in result.trades:
            decoded.append((t.pair, t.trade_id, t.price, t.quantity, t.side))
            ids[t.pair].append(int(t.trade_id))

    assert rejections == ["JSON, but no frame that Binance is known to send"] * snapshots
    assert expected
    assert decoded == expected
    if contiguous:
        assert {p: sorted(set(n)) for p, n in ids.items()} == {
            p: list(range(min(n), max(n) + 1)) for p, n in ids.items()
        }
