"""Ledger: what was truly sent, once each, whatever happens in between."""

from pathlib import Path

import pytest

from k2_connectors import LedgerConflictError
from k2_connectors.testing import Emission, Ledger, MarketModel, SentTrade

MODEL = MarketModel(seed=3, epoch_us=1_790_000_000_000_000)
TRADES = [MODEL.trade_at(position) for position in range(6)]
EMISSIONS = [
    Emission(b"batch", trades=TRADES[:3]),
    Emission(b"one", trades=[TRADES[3]], bad_trades=[(TRADES[4], "price 0")]),
    Emission(b"\xff\x00", bad_frame="not JSON"),
    Emission(b"ack"),
    Emission(b"half", trades=[TRADES[5]], bad_frame="no side"),
]
CONTENT = (
    {(trade, 100) for trade in [*TRADES[:4], TRADES[5]]},
    {(TRADES[4], "price 0")},
    {(b"\xff\x00", "not JSON"), (b"half", "no side")},
)


def read(ledger: Ledger) -> tuple[set[object], set[object], set[object]]:
    """Everything a ledger holds: trades, bad trades, bad records."""
    return set(ledger.trades()), set(ledger.bad_trades()), set(ledger.bad_records())


def test_it_holds_what_was_written(tmp_path: Path):
    """Texts, times and labels stay as they were; control frames leave no trace."""
    with Ledger(tmp_path / "new" / "ledger.db") as ledger:
        ledger.write(EMISSIONS, 100)

        assert read(ledger) == CONTENT
        assert ledger.count_trades() == 5


def test_writing_again_changes_nothing(tmp_path: Path):
    """A duplicate is not another trade, and the first time it was sent counts."""
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.write(EMISSIONS, 100)
        ledger.write(EMISSIONS, 200)
        ledger.write(EMISSIONS * 2, 300)

        assert read(ledger) == CONTENT


def test_it_survives_reopening(tmp_path: Path):
    """The ledger lives in the home and accumulates over runs."""
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.write(EMISSIONS[:1], 100)
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.write(EMISSIONS, 100)
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert read(ledger) == CONTENT


@pytest.mark.parametrize(
    "changes",
    [
        {"price": "1.5"},
        {"quantity": "0.10000000"},
        {"side": "neither"},
        {"timestamp_us": 1},
        {"symbol": "X/Y"},
    ],
    ids=str,
)
def test_a_trade_with_another_content_is_a_conflict(tmp_path: Path, changes: dict[str, object]):
    """Two truths about one trade cannot be reconciled: the whole write is undone."""
    other: SentTrade = TRADES[1]._replace(**changes)
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.write(EMISSIONS[:1], 100)
        before = read(ledger)
        with pytest.raises(LedgerConflictError) as caught:
            ledger.write([*EMISSIONS[1:], Emission(b"x", trades=[other])], 200)

        error = caught.value
        assert (error.exchange, error.pair, error.trade_id) == other[:3]
        assert read(ledger) == before
        ledger.write(EMISSIONS, 100)
        assert read(ledger) == CONTENT


def test_a_conflict_within_one_write_is_found(tmp_path: Path):
    """Also when neither trade was known before."""
    other = TRADES[0]._replace(price="1")
    with Ledger(tmp_path / "ledger.db") as ledger:
        with pytest.raises(LedgerConflictError):
            ledger.write([Emission(b"x", trades=[TRADES[0], other])], 100)

        assert read(ledger) == (set(), set(), set())


def test_any_failure_undoes_the_whole_write(tmp_path: Path):
    """A frame is in the ledger with all its labels or not at all."""
    broken = Emission(b"x", bad_trades=[(TRADES[4]._replace(timestamp_us=2**70), "far")])
    with Ledger(tmp_path / "ledger.db") as ledger:
        with pytest.raises(OverflowError):
            ledger.write([*EMISSIONS, broken], 100)

        assert read(ledger) == (set(), set(), set())


def test_another_process_sees_what_is_written(tmp_path: Path):
    """The judge reads while the exchange still has the file open."""
    with Ledger(tmp_path / "ledger.db") as writer, Ledger(tmp_path / "ledger.db") as reader:
        writer.write(EMISSIONS, 100)
        writer.write_bad_records([(b"poison", "bad magic")])

        assert read(reader) == (*CONTENT[:2], CONTENT[2] | {(b"poison", "bad magic")})


def test_a_setting_is_kept_for_ever(tmp_path: Path):
    """The first value wins, in every later run."""
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert ledger.find("shift") is None
        assert ledger.keep("shift", -5) == -5
    with Ledger(tmp_path / "ledger.db") as ledger:
        assert ledger.keep("shift", 7) == -5
        assert ledger.find("shift") == -5
        assert ledger.keep("other", 7) == 7
