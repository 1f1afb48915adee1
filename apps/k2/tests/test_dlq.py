"""k2 dlq: what died and why, its very bytes, and what may go back to its topic."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from k2_medallion import DEAD_LETTERS, GOLD_TRADES, bronze_trades
from k2_schemas import TradeCodec
from k2_schemas.testing import make_trade
from k2_schemas.topics import DEADLETTER_TOPIC, trades_topic

NOW = datetime.now(UTC).replace(microsecond=0)
TOPIC = trades_topic("binance")
WORTHLESS = TradeCodec().encode(make_trade(7, price="0"))
FRAME = b'{"stream":"btcusdt@trade"'
BROKEN = b"\x00\x00\x00\x00\x01\xff\xfe"


def dead_row(offset, raw, **others):
    """Return a dead letter from the trade topic, dead for an hour."""
    row = {
        "raw_record": raw,
        "error_reason": "price_gt_0: price > 0, found price=0",
        "error_type": "range",
        "error_timestamp": NOW - timedelta(hours=1),
        "bronze_source": "bronze_binance_trades",
        "kafka_topic": TOPIC,
        "kafka_partition": 0,
        "kafka_offset": offset,
        "schema_id": 1,
        "dlq_date": NOW.date(),
    }
    return row | others


def bronze_row(offset, raw, minutes=-60, **others):
    """Return a Bronze row, read some minutes from now."""
    time = NOW + timedelta(minutes=minutes)
    row = {
        "message_key": "BTC/USDT",
        "raw_bytes": raw,
        "topic": TOPIC,
        "partition": 0,
        "offset": offset,
        "ingestion_timestamp": time,
        "ingestion_date": time.date(),
    }
    return row | others


@pytest.fixture
def letters(append):
    """Write three dead letters: a trade without a price, broken bytes, and a frame of the feed."""
    append(
        bronze_trades("binance"),
        bronze_row(7, WORTHLESS, message_key="a key of its own", minutes=-61),
        bronze_row(8, BROKEN, minutes=-61),
    )
    reason = "binance: no JSON"
    of_feed = {"kafka_topic": DEADLETTER_TOPIC, "error_reason": reason, "bronze_source": None}
    append(
        DEAD_LETTERS,
        dead_row(7, WORTHLESS),
        dead_row(8, BROKEN, error_type="schema", error_reason="body does not decode"),
        dead_row(0, FRAME, error_type="schema", schema_id=None, **of_feed),
    )


def test_help_of_every_command_shows_an_example(run_k2, capsys):
    """Ready to copy."""
    for command in ("list", "show", "requeue"):
        code, out, _ = run_k2("dlq", command, "--help")
        assert code == 0
        assert f"Example: k2 dlq {command}" in out


def test_list_counts_by_type_and_reason(run_k2, letters, append):
    """What a rule found differs from row to row; what it demands is the reason."""
    append(
        DEAD_LETTERS, dead_row(9, WORTHLESS, error_reason="price_gt_0: price > 0, found price=-1")
    )
    code, out, _ = run_k2("dlq", "list", "--json", "--limit", 1)
    shown = json.loads(out)

    assert code == 0
    assert shown["counts"] == [
        {"rows": 2, "error_type": "range", "reason": "price_gt_0: price > 0"},
        {"rows": 1, "error_type": "schema", "reason": "binance: no JSON"},
        {"rows": 1, "error_type": "schema", "reason": "body does not decode"},
    ]
    assert len(shown["rows"]) == 1


@pytest.mark.parametrize(
    ("options", "offsets"),
    [
        ((), {0, 7, 8}),
        (("--type", "schema"), {0, 8}),
        (("--exchange", "binance"), {0, 7, 8}),
        (("--exchange", "kraken"), set()),
        (("--type", "it's"), set()),
        (("--since", "30m"), set()),
        (("--since", "2h", "--type", "range"), {7}),
    ],
)
def test_list_takes_only_what_is_asked_for(run_k2, letters, options, offsets):
    """By age, by type, and by exchange: the feed's own dead letters are of one too."""
    code, out, _ = run_k2("dlq", "list", "--json", *options)

    assert code == 0
    assert {row["kafka_offset"] for row in json.loads(out)["rows"]} == offsets


def test_list_shows_people_both(run_k2, letters):
    """Counts first, then rows with their size and reason."""
    _, out, _ = run_k2("dlq", "list")

    assert "price_gt_0: price > 0 " in out
    assert f"  {TOPIC} 0 8  schema, {len(BROKEN)} bytes: body does not decode\n" in out


def test_show_says_why_and_what(run_k2, letters):
    """Row, bytes and every field of what decodes; exact."""
    code, out, _ = run_k2("dlq", "show", TOPIC, 0, 7)
    shown = json.loads(out)

    assert code == 0
    assert shown["error_reason"] == "price_gt_0: price > 0, found price=0"
    assert bytes.fromhex(shown["bytes"]) == WORTHLESS
    assert (shown["record"]["trade_id"], shown["record"]["price"]) == ("7", "0.00000000")
    assert (shown["trade"], shown["returned"]) == ("exact", 0)


@pytest.mark.parametrize(
    ("place", "raw", "text"),
    [((TOPIC, 0, 8), BROKEN, None), ((DEADLETTER_TOPIC, 0, 0), FRAME, FRAME.decode())],
)
def test_show_says_where_bytes_stop_to_make_sense(run_k2, letters, place, raw, text):
    """What does not decode is shown as it is; a frame of an exchange as its text."""
    shown = json.loads(run_k2("dlq", "show", *place)[1])

    assert bytes.fromhex(shown["bytes"]) == raw
    assert "record" not in shown
    assert shown["trade"] != "exact"
    assert shown.get("text") == text


def test_show_raw_is_the_bytes_and_nothing_else(letters, tmp_path):
    """To be piped, into `k2 schema inspect -` or a file."""
    command = [sys.executable, "-m", "k2_cli", "dlq", "show", "--raw", TOPIC, "0", "8"]
    result = subprocess.run([*command, "--home", str(tmp_path)], capture_output=True, timeout=60)

    assert (result.returncode, result.stdout, result.stderr) == (0, BROKEN, b"")


def test_a_place_without_a_dead_letter_is_one_sentence(run_k2, letters):
    """And it says how to find one."""
    for command in ("show", "requeue"):
        code, out, err = run_k2("dlq", command, TOPIC, 0, 99)
        assert (code, out) == (1, "")
        assert f"no dead letter at {TOPIC}/0/99; see those there are: k2 dlq list" in err


def test_requeue_by_condition_leaves_frames_out(run_k2, letters):
    """A raw frame is no record of a trade topic, and it says so."""
    code, out, _ = run_k2("dlq", "requeue", "--where", "true -- all", "--dry-run")

    assert code == 0
    assert out.splitlines() == [
        f"{TOPIC}/0/7",
        f"{TOPIC}/0/8",
        "would requeue 2 records",
        f"1 left out: {DEADLETTER_TOPIC} is no trade topic of this lake: its records are frames as "
        "the exchange sent them, and no part of the pipeline reads frames from Kafka",
    ]


def test_requeue_of_a_frame_by_its_place_is_an_error(run_k2, letters):
    """Nothing is done, and it says why it never can be."""
    code, out, err = run_k2("dlq", "requeue", DEADLETTER_TOPIC, 0, 0)

    assert (code, out) == (1, "")
    assert "is no trade topic of this lake" in err


def test_a_condition_that_is_none_is_one_sentence(run_k2, letters):
    """DuckDB's own words; and it cannot write."""
    code, out, err = run_k2("dlq", "requeue", "--where", "no_such_column = 1")

    assert (code, out) == (1, "")
    assert "no_such_column" in err


def test_what_came_again_is_left_out_and_counted(run_k2, letters, append):
    """Its bytes are in Bronze at a later place; --again takes it all the same."""
    append(bronze_trades("binance"), bronze_row(20, WORTHLESS, minutes=-10))
    append(bronze_trades("binance"), bronze_row(21, WORTHLESS, minutes=-5))
    where = ("--where", "kafka_topic <> 'x'", "--dry-run", "--json")
    plan = json.loads(run_k2("dlq", "requeue", *where)[1])
    again = json.loads(run_k2("dlq", "requeue", *where, "--again")[1])

    assert plan["places"] == [f"{TOPIC}/0/8"]
    assert plan["returned"] == {f"{TOPIC}/0/7": 2}
    assert again["places"] == [f"{TOPIC}/0/7", f"{TOPIC}/0/8"]
    assert json.loads(run_k2("dlq", "show", TOPIC, 0, 7)[1])["returned"] == 2
    said = run_k2("dlq", "requeue", TOPIC, 0, 7, "--dry-run")[1]
    assert "1 came again already, up to 2 times: left out" in said


def test_what_came_again_is_known_when_bronze_has_let_go_of_it(run_k2, letters, append):
    """A week later: one died once more, one is in Gold; neither goes a second time."""
    valid = make_trade(9)
    append(
        DEAD_LETTERS,
        dead_row(9, TradeCodec().encode(valid)),
        dead_row(20, BROKEN, error_timestamp=NOW - timedelta(minutes=5)),
    )
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=valid.timestamp_us + 3)
    append(
        GOLD_TRADES,
        {"message_id": valid.message_id, "exchange": "BINANCE", "timestamp": time},
    )
    options = ("--where", "kafka_offset < 20", "--dry-run", "--json")
    code, out, _ = run_k2("dlq", "requeue", *options)

    assert code == 0
    shown = json.loads(out)
    assert shown["places"] == [f"{TOPIC}/0/7"]
    assert shown["returned"] == {f"{TOPIC}/0/8": 1, f"{TOPIC}/0/9": 1}


def test_a_kafka_that_is_silent_takes_nothing(run_k2, letters, monkeypatch):
    """One sentence, exit code 1, and what to do next."""
    monkeypatch.setattr("k2_cli.watermarks._TIMEOUT_S", 0.5)
    code, out, err = run_k2("dlq", "requeue", TOPIC, 0, 7, "--bootstrap", "127.0.0.1:9")

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "Kafka at 127.0.0.1:9 does not answer us" in err
    assert "…PASSWORD" in err
