"""Plans: what a demo will send, fixed by one process and played by another."""

import json
import time
from pathlib import Path

import pytest

from k2_cli.errors import CommandError
from k2_cli.plan import KNOWN_SYMBOLS, Plan, list_pairs
from k2_connectors import RecordingError
from k2_connectors.testing import Ledger

NOW_US = time.time_ns() // 1000


def make_plan(folder: Path, **changes: object) -> Plan:
    """A plan with its ledger in a folder."""
    fields: dict[str, object] = {"trade_count": 200, "seed": 7, "now_us": NOW_US}
    return Plan(str(folder / "ledger.db"), **(fields | changes))  # type: ignore[arg-type]


def write_recording(path: Path, *trades: tuple[int, str]) -> str:
    """Write a recording of Binance trades (id, pair), a second apart, in 2024."""
    frames = [
        f'{{"stream":"{pair.lower()}@trade","data":{{"e":"trade","E":{1723161255342 + i * 1000},'
        f'"s":"{pair}","t":{trade_id},"p":"61837.63000000","q":"0.00002","T":'
        f'{1723161255340 + i * 1000},"m":true,"M":true}}}}'
        for i, (trade_id, pair) in enumerate(trades)
    ]
    path.write_text("".join(json.dumps({"recv_ns": None, "raw": raw}) + "\n" for raw in frames))
    return str(path)


def play(plan: Plan) -> dict[str, list[bytes]]:
    """The frames of a plan, per exchange."""
    with Ledger(Path(plan.ledger)) as ledger:
        return {name: [e.frame for e in emissions] for name, emissions in plan.play(ledger).items()}


def test_a_saved_plan_is_loaded_as_it_was(tmp_path: Path):
    """The exchange's process plays exactly what the demo planned."""
    plan = make_plan(tmp_path, frames=["a file"], symbols=["PEPE/USDT"])
    plan.save(tmp_path / "run" / "plan.json")

    assert Plan.load(tmp_path / "run" / "plan.json") == plan


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b'{"ledger": 3}'])
def test_a_file_that_is_no_plan_is_one_sentence(tmp_path: Path, content: bytes):
    """`k2 exchange --plan` names the file and where plans come from."""
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(CommandError, match="is not a plan that `k2 demo` wrote"):
        Plan.load(path)


def test_the_model_trades_on_both_exchanges(tmp_path: Path):
    """Without frames the plan is the model's market."""
    assert make_plan(tmp_path).list_exchanges() == {
        "binance": ["BTC/USDT", "ETH/USDT"],
        "kraken": ["BTC/USD", "ETH/USD"],
    }


def test_the_model_sends_as_many_valid_trades_as_asked(tmp_path: Path):
    """Bad input and duplicates come on top; no two valid trades share an identity."""
    plan = make_plan(tmp_path)
    with Ledger(Path(plan.ledger)) as ledger:
        emissions = [e for venue in plan.play(ledger).values() for e in venue]
    sent = [trade[:3] for e in emissions for trade in e.trades]

    assert len(set(sent)) == 200
    assert len(sent) > 200
    assert any(e.bad_frame for e in emissions)
    assert any(e.bad_trades for e in emissions)


def test_the_same_home_and_seed_send_identical_frames_later(tmp_path: Path):
    """The epoch is kept in the home: an hour later every trade is a duplicate."""
    first = play(make_plan(tmp_path))

    assert play(make_plan(tmp_path, now_us=NOW_US + 3_600_000_000)) == first


def test_another_seed_is_another_market(tmp_path: Path):
    """Otherwise the seed would mean nothing."""
    assert play(make_plan(tmp_path)) != play(make_plan(tmp_path, seed=8))


def test_recorded_frames_end_one_second_before_now(tmp_path: Path):
    """All times of a file move by one constant; ids, prices and quantities stay."""
    frames = write_recording(tmp_path / "f", (1, "BTCUSDT"), (2, "BTCUSDT"), (9, "ETHUSDT"))
    plan = make_plan(tmp_path, frames=[frames])

    assert plan.list_exchanges() == {"binance": ["BTC/USDT", "ETH/USDT"]}
    with Ledger(Path(plan.ledger)) as ledger:
        trades = [trade for e in plan.play(ledger)["binance"] for trade in e.trades]
    last_us = (NOW_US - 1_000_000) // 1000 * 1000
    assert [(t.trade_id, t.price, t.quantity) for t in trades] == [
        (trade_id, "61837.63000000", "0.00002") for trade_id in ("1", "2", "9")
    ]
    times = [t.timestamp_us for t in trades]
    assert [t - times[-1] for t in times] == [-2_000_000, -1_000_000, 0]
    assert abs(times[-1] - last_us) <= 1000


def test_the_shift_of_a_file_is_kept_in_the_home(tmp_path: Path):
    """A later run sends the very same bytes."""
    frames = write_recording(tmp_path / "frames.jsonl", (1, "BTCUSDT"))
    first = play(make_plan(tmp_path, frames=[frames]))

    assert play(make_plan(tmp_path, frames=[frames], now_us=NOW_US + 10**10)) == first


def test_files_of_one_exchange_are_played_one_after_the_other(tmp_path: Path):
    """Both are in the plan, their symbols listed once."""
    files = [
        write_recording(tmp_path / "one.jsonl", (1, "BTCUSDT")),
        write_recording(tmp_path / "two.jsonl", (2, "BTCUSDT"), (1, "ETHUSDT")),
    ]
    plan = make_plan(tmp_path, frames=files)

    assert plan.list_exchanges() == {"binance": ["BTC/USDT", "ETH/USDT"]}
    assert len(play(plan)["binance"]) == 3


def test_a_symbol_that_k2_does_not_know_is_named_with_its_cure(tmp_path: Path):
    """BTCUSDT could be split in two ways, so the user says which symbol it is."""
    frames = write_recording(tmp_path / "frames.jsonl", (1, "PEPEUSDT"))
    with pytest.raises(RecordingError, match=r"PEPEUSDT.*--symbol BASE/QUOTE"):
        make_plan(tmp_path, frames=[frames]).list_exchanges()

    told = make_plan(tmp_path, frames=[frames], symbols=["PEPE/USDT"])
    assert told.list_exchanges() == {"binance": ["PEPE/USDT"]}


def test_known_symbols_have_distinct_pairs():
    """No two known symbols of a venue are written alike, or one would hide the other."""
    pairs = list_pairs(KNOWN_SYMBOLS)

    assert {name: len(set(found)) for name, found in pairs.items()} == {
        name: len(symbols) for name, symbols in KNOWN_SYMBOLS.items()
    }
    assert "BTCUSDT" in pairs["binance"]
    assert "BTC/USD" in pairs["kraken"]
