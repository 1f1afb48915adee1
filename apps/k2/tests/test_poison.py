"""Poison: five records that no feed would write, each broken in its own way."""

import socket
from pathlib import Path

import pytest

import k2_cli.poison
from k2_cli.errors import CommandError
from k2_cli.poison import make_poison, produce_poison
from k2_connectors.testing import Ledger
from k2_schemas import FrameError, RecordDecodeError, SchemaError, TradeCodec, UnknownSchemaError

CAUSES = {
    "bad magic": FrameError,
    "unknown schema id": UnknownSchemaError,
    "truncated body": RecordDecodeError,
    "empty": FrameError,
    "random bytes": SchemaError,
}


@pytest.mark.parametrize("exchange", ["binance", "kraken"])
@pytest.mark.parametrize("seed", range(20))
def test_no_poison_can_be_decoded(seed: int, exchange: str):
    """Each record fails for the reason on its label, whatever the seed."""
    poison = make_poison(seed, exchange)
    codec = TradeCodec()

    assert [label for _, label in poison] == list(CAUSES)
    for record, label in poison:
        with pytest.raises(CAUSES[label]):
            codec.decode(record)


def test_the_same_seed_makes_the_same_poison():
    """A second demo sends the same bytes, so that the ledger explains both."""
    assert make_poison(7, "binance") == make_poison(7, "binance")


def test_each_seed_and_exchange_has_poison_of_its_own():
    """Only the empty record is the same everywhere."""
    records = [
        {record for record, _ in make_poison(seed, exchange)}
        for seed in (7, 8)
        for exchange in ("binance", "kraken")
    ]

    assert set.intersection(*records) == {b""}
    assert len(set.union(*records)) == 4 * 4 + 1


def test_poison_that_kafka_does_not_take_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """No broker answers: the demo ends with a sentence instead of waiting for ever."""
    monkeypatch.setattr(k2_cli.poison, "_FLUSH_TIMEOUT_S", 0.2)
    with socket.socket() as closed, Ledger(tmp_path / "ledger.db") as ledger:
        closed.bind(("127.0.0.1", 0))  # bound, but not listening
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(CommandError, match="has not taken 10 of 10 poison records"):
            produce_poison(address, ["binance", "kraken"], 7, ledger)
        noted = {record for record, _ in ledger.bad_records()}

    # In the ledger first: a crash between the two leaves no unexplained dead letter.
    assert noted == {r for name in ("binance", "kraken") for r, _ in make_poison(7, name)}
