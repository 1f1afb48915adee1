"""The whole pipeline as a user runs it: real processes, real Kafka, real Spark, one judge."""

import json
import os
import shutil
import signal
from decimal import Decimal
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.pipeline

TRADES = 3_000
RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
KEYS = {
    "sent",
    "kafka",
    "bronze",
    "silver",
    "dlq",
    "gold",
    "duplicates",
    "missing",
    "unexpected",
    "freshness_p50_s",
    "freshness_p99_s",
    "seconds",
    "peak_rss_mb",
    "symbols",
}


def test_nothing_is_lost_when_the_lake_is_killed_and_its_checkpoints_are_deleted(command):
    """Kill -9 in the middle ends the demo with one sentence; the same command then reconciles.

    A third run on the same home, without any checkpoint, sends only duplicates: Gold stays.
    """
    with command.start("--trades", str(TRADES)) as first:
        command.wait_for_log("lake", '"event": "positions"', first)
        jvm = psutil.Process(command.pid_of("lake")).children(recursive=True)
        os.kill(command.pid_of("lake"), signal.SIGKILL)
        out, err = first.communicate(timeout=60)
    assert first.returncode not in (0, None)
    assert out == ""
    assert err.strip().splitlines()[-1].startswith("k2: lake was killed (signal 9).")
    psutil.wait_procs(jvm, timeout=10)
    assert command.survivors() == []

    second = command.demo("--trades", str(TRADES))

    assert set(second) == KEYS
    assert totals(second) == (TRADES, TRADES, 0, 0)
    assert second["kafka"] == second["bronze"] + dead_letters_of_the_feed(command)
    assert second["bronze"] == second["silver"] + second["dlq"] - dead_letters_of_the_feed(command)
    assert second["symbols"] == ["BTC/USD", "BTC/USDT", "ETH/USD", "ETH/USDT"]
    assert second["peak_rss_mb"] < 3_500

    assert sorted(p.name for p in (command.home / "checkpoints").iterdir()) == [
        "deadletter",
        "fused-binance",
        "fused-kraken",
    ]
    shutil.rmtree(command.home / "checkpoints")
    before = command.query("SELECT * FROM gold_crypto_trades ORDER BY ALL")

    third = command.demo("--trades", str(TRADES))

    assert totals(third) == (TRADES, TRADES, 0, 0)
    assert third["freshness_p50_s"] is None
    assert third["bronze"] > second["bronze"]
    assert before == command.query("SELECT * FROM gold_crypto_trades ORDER BY ALL")


def totals(result):
    """Return what must hold: sent, gold, missing, unexpected."""
    return tuple(result[key] for key in ("sent", "gold", "missing", "unexpected"))


def dead_letters_of_the_feed(command):
    """Count the dead letters that came through the feed's own topic."""
    (row,) = command.query(
        "SELECT count(*) AS n FROM silver_dlq_trades WHERE kafka_topic = 'market.crypto.deadletter'"
    )
    return row["n"]


def write_recording(path):
    """Write frames as Binance sent them, with what a market may throw in; return the trades."""
    texts = [("61837.63000000", "0.02000000"), ("9999999999.99999999", "0.00000001")]
    texts += [(f"61{n}.50000000", "1.00000000") for n in range(100, 400)]
    frames = [
        f'{{"stream":"btcusdt@trade","data":{{"e":"trade","E":{1723161255343 + n},"s":"BTCUSDT",'
        f'"t":{900 + n},"p":"{price}","q":"{quantity}","T":{1723161255342 + n},'
        f'"m":true,"M":true}}}}'
        for n, (price, quantity) in enumerate(texts)
    ]
    bad = [
        "no JSON at all",
        frames[0].replace('"t":900', '"t":7000').replace('"q":"0.02000000"', '"q":"0.000000001"'),
        frames[0].replace('"t":900', '"t":7001').replace('"p":"61837.63000000"', '"p":"0.00"'),
    ]
    lines = [json.dumps({"recv_ns": None, "src": "test", "raw": raw}) for raw in (*frames, *bad)]
    path.write_text("\n".join(lines) + "\n")
    return {(str(900 + n), Decimal(price), Decimal(q)) for n, (price, q) in enumerate(texts)}


def test_recorded_frames_keep_every_digit(command, tmp_path):
    """Prices and quantities in Gold are those of the frames, as decimals.

    A later run in the same home may bring another exchange: everything is still accounted for.
    """
    expected = write_recording(tmp_path / "frames.jsonl")

    result = command.demo("--frames", str(tmp_path / "frames.jsonl"))

    assert (len(expected), len(expected), 0, 0) == totals(result)
    assert result["symbols"] == ["BTC/USDT"]
    rows = command.query("SELECT trade_id, price, quantity FROM gold_crypto_trades")
    assert expected == {(r["trade_id"], Decimal(r["price"]), Decimal(r["quantity"])) for r in rows}
    reasons = command.query("SELECT error_reason FROM silver_dlq_trades ORDER BY 1")
    assert len(reasons) == 3 + 5
    assert all(row["error_reason"] for row in reasons)

    both = command.demo("--trades", "300")

    total = len(expected) + 300
    assert (total, total, 0, 0) == totals(both)
    assert both["bronze"] > result["bronze"]


@pytest.mark.skipif(not RECORDINGS.exists(), reason=f"no recordings in {RECORDINGS}")
def test_the_exchanges_own_frames_reconcile(command):
    """15,863 real Binance trades and 51 of Kraken, digit for digit."""
    files = [RECORDINGS / "binance.jsonl", RECORDINGS / "kraken_v2.jsonl"]

    result = command.demo(*(f"--frames={file}" for file in files))

    assert totals(result) == (15_914, 15_914, 0, 0)
    rows = command.query("SELECT exchange, trade_id, price, quantity FROM gold_crypto_trades")
    assert read_trades(files) == {
        (r["exchange"], r["trade_id"], Decimal(r["price"]), Decimal(r["quantity"])) for r in rows
    }


def read_trades(files):
    """Read the trades of recordings with nothing but the json module."""
    found = set()
    for file in files:
        for line in file.read_text().splitlines():
            frame = json.loads(json.loads(line)["raw"], parse_float=str, parse_int=str)
            if "stream" in frame:
                rows = [("BINANCE", frame["data"]["t"], frame["data"]["p"], frame["data"]["q"])]
            elif frame.get("channel") == "trade":
                rows = [("KRAKEN", r["trade_id"], r["price"], r["qty"]) for r in frame["data"]]
            else:
                rows = []
            found |= {(name, i, Decimal(price), Decimal(q)) for name, i, price, q in rows}
    return found


def test_ctrl_c_leaves_no_process_behind(command):
    """Interrupted in the middle, the demo ends what it started and says so."""
    with command.start("--trades", "200000", start_new_session=True) as process:
        command.wait_for_log("feed", '"event": "connected"', process)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert out == ""
    assert "interrupted" in err
    assert len(children) >= 4
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def test_kill_9_of_the_demo_itself_leaves_no_process_behind(command):
    """Even without a chance to clean up, the kernel ends the children with their parent."""
    with command.start("--trades", "200000") as process:
        command.wait_for_log("lake", "\n", process)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate(timeout=60)

    _, alive = psutil.wait_procs(children, timeout=15)
    assert alive == []
