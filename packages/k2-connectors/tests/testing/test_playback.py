"""Playback: the frames of a run and their labels, which must say what a reader makes of them."""

import json
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from k2_connectors import RecordedFrame, RecordingError, SubscriptionRejectedError, open_venue
from k2_connectors.testing import (
    Emission,
    Ledger,
    MarketModel,
    Recording,
    SentTrade,
    keep_epoch,
    open_recording,
    play_model,
)
from k2_connectors.testing.dialects import DIALECTS
from k2_connectors.testing.market import SPACING_US
from k2_schemas import InstrumentList, SchemaError, TradeCodec

NOW_US = 1_795_000_000_000_000
DAY_US = 86_400_000_000
MODEL = MarketModel(seed=7, epoch_us=NOW_US - DAY_US)
SYMBOLS = {"binance": ["BTC/USDT", "ETH/USDT"], "kraken": ["BTC/USD", "ETH/USD"]}
BINANCE_FRAME = (
    '{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":41,'
    '"p":"61837.63000000","q":"0.02","T":1723161255342,"m":true,"M":true}}'
)
KRAKEN_FRAME = (
    '{"channel":"trade","type":"update","data":['
    '{"symbol":"BTC/USD","side":"buy","price":84098.40,"qty":1.0e-4,"ord_type":"limit",'
    '"trade_id":7,"timestamp":"2026-09-26T18:07:54.626190Z"},'
    '{"symbol":"BTC/USD","side":"sell","price":84098.4,"qty":0.5,"ord_type":"market",'
    '"trade_id":8,"timestamp":"2026-09-26T18:07:55.000001Z"}]}'
)
CODEC = TradeCodec()


def write_recording(folder: Path, *raws: str) -> Path:
    """Write frames as a recording."""
    path = folder / "frames.jsonl"
    path.write_text("".join(json.dumps({"recv_ns": None, "raw": raw}) + "\n" for raw in raws))
    return path


def play(folder: Path, *raws: str, now_us: int = NOW_US) -> list[Emission]:
    """Write, open and play a recording that ends one second before now."""
    recording = open_recording(write_recording(folder, *raws), SYMBOLS)
    with Ledger(folder / "ledger.db") as ledger:
        return list(recording.play(recording.keep_shift(ledger, now_us), now_us))


def read_as_feed(name: str, frame: bytes) -> tuple[Counter[object], bool]:
    """What a feed makes of a frame: trades that have bytes, and whether it is a dead letter."""
    decoded = open_venue(name, SYMBOLS[name]).decode(frame, NOW_US)
    trades: Counter[object] = Counter()
    dead = bool(decoded.rejections)
    for t in decoded.trades:
        try:
            CODEC.encode(t)
        except SchemaError:
            dead = True
        else:
            numbers = (t.price, t.quantity, t.side, t.timestamp_us)
            trades[(t.exchange, t.pair, t.trade_id, t.symbol, *numbers)] += 1
    return trades, dead


def read_labels(emission: Emission) -> tuple[Counter[object], bool]:
    """What the ledger expects a feed to make of a frame."""
    trades = Counter(
        (*t[:4], Decimal(t.price), Decimal(t.quantity), t.side, t.timestamp_us)
        for t in [*emission.trades, *(bad for bad, _ in emission.bad_trades)]
    )
    return trades, emission.bad_frame is not None


# The model


@pytest.mark.parametrize("count", [0, 1, 10, 333, 2000])
def test_the_model_plays_exactly_the_trades_that_were_asked_for(count: int):
    """Bad input and duplicates come on top."""
    frames = play_model(MODEL, count)
    distinct = {trade[:3] for venue in frames.values() for e in venue for trade in e.trades}

    assert len(distinct) == count
    assert set(frames) == set(SYMBOLS)


def test_labels_of_the_model_are_what_a_feed_makes_of_its_frames():
    """The demo reconciles against these labels."""
    for name, emissions in play_model(MODEL, 2000).items():
        found = [read_as_feed(name, emission.frame) for emission in emissions]

        assert found == [read_labels(emission) for emission in emissions]


def test_a_longer_run_begins_with_the_trades_of_a_shorter_one():
    """A second demo with more trades sends the first ones again, as duplicates."""
    short, long = (
        {trade for venue in play_model(MODEL, n).values() for e in venue for trade in e.trades}
        for n in (500, 2000)
    )

    assert short < long


def test_the_same_model_plays_identical_frames():
    """No clock and no random number are involved."""
    assert play_model(MODEL, 700) == play_model(MarketModel(7, NOW_US - DAY_US), 700)


@pytest.mark.parametrize("name", SYMBOLS)
def test_every_kind_of_fault_comes_on_every_venue(name: str):
    """Each of them must be seen to end in the dead letters."""
    emissions = play_model(MODEL, 2000)[name]

    assert {e.bad_frame for e in emissions if e.bad_frame} == {
        "not JSON",
        "no side",
        "11-digit quantity",
    }
    assert {label for e in emissions for _, label in e.bad_trades} == {"price 0", "far future"}
    assert {_is_text(e.frame) for e in emissions if e.bad_frame == "not JSON"} == {True, False}


def _is_text(frame: bytes) -> bool:
    return "\ufffd" not in frame.decode(errors="replace")


def test_some_trades_come_twice():
    """Deduplication must have something to do."""
    frames = [e for venue in play_model(MODEL, 2000).values() for e in venue]
    sent = Counter(trade for e in frames for trade in e.trades)

    assert set(sent.values()) == {1, 2}


def test_no_bad_trade_has_the_identity_of_a_good_one():
    """Otherwise missing and unexpected could hide each other."""
    frames = [e for venue in play_model(MODEL, 2000).values() for e in venue]
    good = {trade[:3] for e in frames for trade in e.trades}
    bad = {trade[:3] for e in frames for trade, _ in e.bad_trades}

    assert bad
    assert good & bad == set()


def test_the_epoch_lets_every_trade_be_past(tmp_path: Path):
    """No valid trade of the model is in the future, however many are asked for."""
    for count in (10, 2_000_000):
        with Ledger(tmp_path / f"{count}.db") as ledger:
            epoch_us = keep_epoch(ledger, count, NOW_US)

        assert epoch_us + count * SPACING_US <= NOW_US
        assert epoch_us <= NOW_US - DAY_US
        assert epoch_us % 1000 == 0


def test_the_epoch_is_kept_while_there_is_room(tmp_path: Path):
    """A second run sends identical trades; one that reaches the present names the cure."""
    with Ledger(tmp_path / "ledger.db") as ledger:
        epoch_us = keep_epoch(ledger, 1000, NOW_US)

        assert keep_epoch(ledger, 20_000, NOW_US + DAY_US) == epoch_us
        with pytest.raises(RecordingError, match=r"began too late for 3000000 trades.*--home"):
            keep_epoch(ledger, 3_000_000, NOW_US)


# Recordings


def test_a_recording_ends_one_second_before_now_and_keeps_its_digits(tmp_path: Path):
    """One constant is added to every time; ids, prices and quantities keep their text."""
    second = BINANCE_FRAME.replace('"t":41', '"t":42').replace("342", "999").replace("343", "999")
    first, last = play(tmp_path, BINANCE_FRAME, second)
    (one,), (two,) = first.trades, last.trades

    assert two.timestamp_us == NOW_US - 1_000_000
    assert two.timestamp_us - one.timestamp_us == 657_000
    assert one == SentTrade(
        *("BINANCE", "BTCUSDT", "41", "BTC/USDT", "61837.63000000", "0.02", "SELL"),
        one.timestamp_us,
    )
    assert _without_times(first.frame.decode()) == _without_times(BINANCE_FRAME)


def test_kraken_times_move_and_nothing_else(tmp_path: Path):
    """Microseconds keep their distance, numbers their text."""
    (emission,) = play(tmp_path, KRAKEN_FRAME)
    first, last = emission.trades

    assert [(t.trade_id, t.price, t.quantity, t.side) for t in (first, last)] == [
        ("7", "84098.40", "1.0e-4", "BUY"),
        ("8", "84098.4", "0.5", "SELL"),
    ]
    assert last.timestamp_us - first.timestamp_us == 373_811
    assert NOW_US - 1_001_000 < last.timestamp_us <= NOW_US - 1_000_000
    assert _without_times(emission.frame.decode()) == _without_times(KRAKEN_FRAME)


def _without_times(text: str) -> str:
    return re.sub(r'("[ET]":)\d+|("timestamp":)"[^"]*"', "time", text)


def test_microsecond_frames_move_by_the_same_constant(tmp_path: Path):
    """A recording with timeUnit=MICROSECOND is played in its own unit."""
    raws = [
        BINANCE_FRAME.replace("1723161255343", stamp).replace("1723161255342", stamp)
        for stamp in ("1723161255342007", "1723161256342008")
    ]
    first, last = (emission.trades[0] for emission in play(tmp_path, *raws))

    assert last.timestamp_us - first.timestamp_us == 1_000_001
    assert NOW_US - 1_001_000 < last.timestamp_us <= NOW_US - 1_000_000


def test_times_of_other_zones_are_the_same_moment(tmp_path: Path):
    """20:07:55 at +02:00 is 18:07:55 in UTC."""
    there = KRAKEN_FRAME.replace("18:07:55.000001Z", "20:07:55.000001+02:00")

    assert play(tmp_path, there) == play(tmp_path, KRAKEN_FRAME)


def test_the_shift_is_kept_for_the_same_file(tmp_path: Path):
    """A later run sends the very same bytes; another file has a shift of its own."""
    first = play(tmp_path, BINANCE_FRAME)

    assert play(tmp_path, BINANCE_FRAME, now_us=NOW_US + 10**9) == first
    other = play(tmp_path, BINANCE_FRAME.replace("41", "42"), now_us=NOW_US + 10**9)
    assert other[0].trades[0].timestamp_us == NOW_US + 10**9 - 1_000_000


def test_only_traded_symbols_are_subscribed(tmp_path: Path):
    """The exchange lists what the file trades."""
    recording = open_recording(write_recording(tmp_path, KRAKEN_FRAME), SYMBOLS)

    assert (recording.dialect.name, [i.symbol for i in recording.instruments]) == (
        "kraken",
        ["BTC/USD"],
    )


def test_krakens_own_asset_names_are_the_same_book(tmp_path: Path):
    """XBT/USD recorded is BTC/USD in the ledger, as it is in the record."""
    (emission,) = play(tmp_path, KRAKEN_FRAME.replace("BTC/USD", "XBT/USD"))

    assert {(t.pair, t.symbol) for t in emission.trades} == {("BTC/USD", "BTC/USD")}
    assert read_labels(emission) == read_as_feed("kraken", emission.frame)


@pytest.mark.parametrize(
    ("raws", "reason"),
    [
        ([], "no frame of a known venue"),
        (['{"kind":"match","trade_id":1}', "not JSON", "[]"], r"\(binance, coinbase, kraken\)"),
        (['{"result":null,"id":1}'], "no binance trade in it"),
        (['{"channel":"heartbeat"}'], "no kraken trade in it"),
        ([BINANCE_FRAME.replace("BTCUSDT", "PEPEUSDT")], "PEPEUSDT.*--symbol BASE/QUOTE"),
        ([BINANCE_FRAME.replace('"s":"BTCUSDT"', '"s":["x"]')], "no binance trade in it"),
        ([BINANCE_FRAME.replace('"data":{', '"data":[{')[:-1] + "]}"], "no binance trade in it"),
        ([BINANCE_FRAME.replace("1723161255342", "9" * 30)], "no binance trade in it"),
    ],
    ids=range(8),
)
def test_a_file_that_cannot_be_played_says_why(tmp_path: Path, raws: list[str], reason: str):
    """One sentence with the reason, before anything is started."""
    with pytest.raises(RecordingError, match=reason):
        open_recording(write_recording(tmp_path, *raws), SYMBOLS)


@pytest.mark.parametrize("content", [b"nonsense\n", b'{"raw":1}\n', b"\xff\n", b'{"raw":"\xff"}\n'])
def test_a_broken_line_is_named(tmp_path: Path, content: bytes):
    """The user finds it with an editor."""
    path = tmp_path / "frames.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match="line 1: "):
        open_recording(path, SYMBOLS)


def change(raw: str, *pairs: tuple[str, str]) -> str:
    """A frame with texts replaced, each of which is in it."""
    for old, new in pairs:
        assert old in raw
        raw = raw.replace(old, new)
    return raw


ODD_BINANCE = {
    "data null": '{"stream":"btcusdt@trade","data":null}',
    "data list": '{"stream":"btcusdt@trade","data":[1]}',
    "data missing": '{"stream":"btcusdt@trade"}',
    "stream number": '{"stream":5,"data":{}}',
    "event number": '{"e":5}',
    "id text": change(BINANCE_FRAME, ('"t":41', '"t":"41"')),
    "id fraction": change(BINANCE_FRAME, ('"t":41', '"t":41.0')),
    "id beyond": change(BINANCE_FRAME, ('"t":41', f'"t":{2**63}')),
    "id huge": change(BINANCE_FRAME, ('"t":41', f'"t":{"4" * 5000}')),
    "price number": change(BINANCE_FRAME, ('"61837.63000000"', "61837.63000000")),
    "price padded": change(BINANCE_FRAME, ('"61837.63000000"', '" 61837.63"')),
    "price grouped": change(BINANCE_FRAME, ('"61837.63000000"', '"61_837"')),
    "price nan": change(BINANCE_FRAME, ('"61837.63000000"', '"NaN"')),
    "price negative": change(BINANCE_FRAME, ('"61837.63000000"', '"-1"')),
    "price zero": change(BINANCE_FRAME, ('"61837.63000000"', '"0"')),
    "quantity exponent": change(BINANCE_FRAME, ('"0.02"', '"2e-2"')),
    "quantity 9 digits": change(BINANCE_FRAME, ('"0.02"', '"0.020000001"')),
    "quantity 9 zeros": change(BINANCE_FRAME, ('"0.02"', '"0.0200000000"')),
    "quantity 1e10": change(BINANCE_FRAME, ('"0.02"', '"1e10"')),
    "side number": change(BINANCE_FRAME, ('"m":true', '"m":1')),
    "time text": change(BINANCE_FRAME, ('"T":1723161255342', '"T":"1723161255342"')),
    "time beyond": change(BINANCE_FRAME, ('"T":1723161255342', f'"T":{2**63}')),
    "time in year 33000": change(BINANCE_FRAME, ('"T":1723161255342', f'"T":{10**18}')),
    "time in year 3000": change(BINANCE_FRAME, ('"T":1723161255342', '"T":32503680000000')),
    "event time missing": change(BINANCE_FRAME, ('"E":1723161255343,', "")),
    "other event": change(BINANCE_FRAME, ('"e":"trade"', '"e":"aggTrade"')),
    "no event": change(BINANCE_FRAME, ('"e":"trade",', "")),
    "raw stream": BINANCE_FRAME[33:-1],
    "with id": change(BINANCE_FRAME, ('{"stream"', '{"id":1,"stream"')),
    "NaN elsewhere": change(BINANCE_FRAME, ('"M":true', '"M":NaN')),
    "acknowledgement": '{"result":null,"id":1}',
    "reply to nobody": '{"result":null,"id":null}',
    "other stream": '{"stream":"btcusdt@bookTicker","data":{"u":1}}',
    "not JSON": "<html>",
    "list": "[]",
    "empty": "",
}
ODD_KRAKEN = {
    "data null": '{"channel":"trade","data":null}',
    "data object": '{"channel":"trade","data":{}}',
    "data missing": '{"channel":"trade"}',
    "channel number": '{"channel":5,"data":[]}',
    "channel empty": '{"channel":""}',
    "pong": '{"method":"pong","req_id":1,"time_in":"2026-09-26T18:07:55Z"}',
    "method number": '{"method":5}',
    "row null": change(KRAKEN_FRAME, ('"data":[', '"data":[null,')),
    "no side": change(KRAKEN_FRAME, ('"side":"buy",', "")),
    "price text": change(KRAKEN_FRAME, ('"price":84098.40,', '"price":"84098.40",')),
    "price true": change(KRAKEN_FRAME, ('"price":84098.40,', '"price":true,')),
    "price null": change(KRAKEN_FRAME, ('"price":84098.40,', '"price":null,')),
    "price list": change(KRAKEN_FRAME, ('"price":84098.40,', '"price":[0,[1],0],')),
    "price grouped": change(KRAKEN_FRAME, ('"price":84098.40,', '"price":"1_0",')),
    "price zero": change(KRAKEN_FRAME, ('"price":84098.40,', '"price":0.0,')),
    "quantity 11 digits": change(KRAKEN_FRAME, ('"qty":0.5', '"qty":12345678901.0')),
    "id text": change(KRAKEN_FRAME, ('"trade_id":7', '"trade_id":"7"')),
    "id beyond": change(KRAKEN_FRAME, ('"trade_id":7', f'"trade_id":{2**63}')),
    "naive time": change(KRAKEN_FRAME, ("54.626190Z", "54.626190")),
    "no time": change(KRAKEN_FRAME, ("2026-09-26T18:07:54.626190Z", "yesterday")),
    "lower case": change(KRAKEN_FRAME, ("2026-09-26T18:07:54.626190Z", "2026-09-26t18:07:54z")),
    "nanoseconds": change(KRAKEN_FRAME, ("54.626190Z", "54.626190999Z")),
    "basic time": change(KRAKEN_FRAME, ("2026-09-26T18:07:54.626190Z", "20260926T180754Z")),
    "year 1": change(KRAKEN_FRAME, ("2026-09-26T18:07:54.626190Z", "0001-01-01T00:00:00+23:59")),
    "order type null": change(KRAKEN_FRAME, ('"ord_type":"limit"', '"ord_type":null')),
    "no order type": change(KRAKEN_FRAME, ('"ord_type":"limit",', "")),
}
GOOD = {"binance": BINANCE_FRAME, "kraken": KRAKEN_FRAME}


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        pytest.param(name, raw, id=f"{name}-{key}")
        for name, odd in (("binance", ODD_BINANCE), ("kraken", ODD_KRAKEN))
        for key, raw in odd.items()
    ],
)
def test_labels_of_odd_recorded_frames_are_what_a_feed_makes_of_them(
    name: str, raw: str, tmp_path: Path
):
    """A label that disagrees with the decoder would be a missing or unexpected row in the demo."""
    for emission in play(tmp_path, GOOD[name], raw):
        assert read_labels(emission) == read_as_feed(name, emission.frame)


VALUES = ["null", "true", "1", '""', '"trade"', "[]", "{}", "1.5", "1e3", "NaN", "-1", '"1"', "0"]


@st.composite
def damaged_frames(draw: st.DrawFn) -> tuple[str, str]:
    """A venue and its frame with one or two values or characters replaced."""
    name = draw(st.sampled_from(sorted(GOOD)))
    raw = GOOD[name]
    for _ in range(draw(st.integers(1, 2))):
        values = list(re.finditer(r'(?<=:)("[^"]*"|[\w.\-]+)|"\w+"(?=:)', raw))
        if values and draw(st.booleans()):
            found = draw(st.sampled_from(values))
            raw = raw[: found.start()] + draw(st.sampled_from(VALUES)) + raw[found.end() :]
        else:
            place = draw(st.integers(0, len(raw)))
            new = draw(st.sampled_from('0123456789.,:{}[]"eE-+ntZTX/ _'))
            raw = raw[:place] + new + raw[place + draw(st.integers(0, 1)) :]
    return name, raw


@given(damaged_frames())
@example(("kraken", '{"method":"pong"}'))
@settings(deadline=None, max_examples=400)
def test_labels_of_damaged_frames_are_what_a_feed_makes_of_them(damaged: tuple[str, str]):
    """Labels and decoder are written apart and agree on whatever a file may hold."""
    name, raw = damaged
    recording = Recording(
        path=Path("damaged"),
        dialect=DIALECTS[name],
        instruments=InstrumentList(name, SYMBOLS[name], DIALECTS[name].pair_of),
        frames=[RecordedFrame(raw)],
        last_us=NOW_US,
        fingerprint="",
    )
    try:
        (emission,) = recording.play(0, NOW_US)
        found = read_as_feed(name, emission.frame)
    except (SchemaError, SubscriptionRejectedError):
        # A symbol that opening the recording would have named, or a recorded refusal.
        return
    assert read_labels(emission) == found
