"""Checkpoint: positions move only over what is safe, and survive a crash."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_connectors import CheckpointError
from k2_connectors.checkpoint import (
    CheckpointFile,
    Position,
    Watermark,
    Watermarks,
    rebuild_positions,
)
from k2_schemas.testing import make_trade

POSITIONS = {"binance": {"BTCUSDT": Position(7, 70)}, "kraken": {"BTC/USD": Position(9, 90)}}


@given(st.integers(0, 2**32), st.integers(1, 80))
@settings(max_examples=200, deadline=None)
def test_the_position_is_the_end_of_what_is_settled_without_a_hole(seed: int, count: int):
    """Acknowledgements in any order, some twice, some never."""
    pick = random.Random(seed)
    settled = [n for n in range(1, count + 1) if pick.random() > 0.1]
    order = settled + [n for n in settled if pick.random() < 0.2]
    pick.shuffle(order)
    mark = Watermark(Position(0, 0))
    for n in order:
        mark.settle(n, n, n * 10)
    expected = next((n for n in range(1, count + 2) if n not in settled), 0) - 1

    assert mark.position == Position(expected, expected * 10)


def test_a_gap_lets_the_position_pass():
    """What is lost for ever must not hold back what is not; the time stays the last known."""
    mark = Watermark(Position(5, 50))
    mark.settle(8, 8, 80)
    mark.settle(6, 7, 0)

    assert mark.position == Position(8, 80)


def test_a_position_has_the_time_of_a_trade_where_it_can():
    """A dead letter that is safe before its neighbours must not make a venue be asked from 0 on."""
    mark = Watermark(Position(100, 5_000))
    mark.settle(102, 105, 0)
    mark.settle(101, 101, 5_100)

    assert mark.position == Position(105, 5_100)


def test_a_pair_begins_with_its_first_trade_whatever_is_acknowledged_first():
    """Acknowledgements may overtake each other; the promise begins before them."""
    marks = Watermarks()
    assert [marks.begin([make_trade(n)]) for n in (5, 6)] == [True, False]
    marks.settle([make_trade(6)])

    assert marks.positions()["binance"]["BTCUSDT"].trade_id == 4
    marks.settle([make_trade(5)])
    assert marks.positions()["binance"]["BTCUSDT"].trade_id == 6


def test_a_pair_that_was_left_begins_anew():
    """Neither what is acknowledged late nor what it had before says where it is safe."""
    marks = Watermarks(POSITIONS)
    marks.forget("binance", "BTCUSDT")
    marks.settle([make_trade(8)])
    assert "binance" not in marks.positions()
    assert marks.begin([make_trade(50)])
    marks.settle([make_trade(9)])

    assert marks.positions()["binance"]["BTCUSDT"].trade_id == 49


def test_positions_come_back_from_the_file(tmp_path: Path):
    """As they were written."""
    file = CheckpointFile(tmp_path / "deep" / "positions.json")
    assert file.read() is None
    file.write(POSITIONS)

    assert file.read() == POSITIONS
    assert [path.name for path in file.path.parent.iterdir()] == ["positions.json"]


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b'{"positions": {"b": {"P": [1]}}}', b"\xff"])
def test_a_file_that_is_none_says_so(tmp_path: Path, junk: bytes):
    """Never a wrong position: the error names the file and the way out."""
    file = CheckpointFile(tmp_path / "positions.json")
    file.path.write_bytes(junk)
    with pytest.raises(CheckpointError, match="rebuilt from the end of the Kafka topics"):
        file.read()


def test_a_lost_file_is_rebuilt_from_what_was_published():
    """Up to the first hole in the tail, never beyond it."""
    tail = [make_trade(n) for n in (5, 6, 8, 7, 10)]

    assert rebuild_positions(tail)["binance"]["BTCUSDT"].trade_id == 8
