"""The lake's tables are loaded once, and again when they have changed."""

import pytest
from pyiceberg.expressions import EqualTo

from k2_medallion import (
    GOLD_CANDLES,
    GOLD_TRADES,
    CatalogError,
    bronze_trades,
    ensure_tables,
    open_catalog,
    silver_trades,
)
from k2_medallion.lake import Lake


@pytest.fixture
def lake(home, write):
    """Open an empty lake."""
    write(GOLD_TRADES)
    lake = Lake(home)
    yield lake
    lake.close()


def test_a_table_is_loaded_again_only_when_its_pointer_moves(lake, write):
    """What has not changed is the very same object; what has is new, and the rest is kept."""
    before = lake.load_all()
    unchanged = lake.load_all()
    write(GOLD_TRADES, {"trade_id": "1"})
    after = lake.load_all()

    assert all(unchanged[name] is table for name, table in before.items())
    assert {name for name in before if after[name] is not before[name]} == {GOLD_TRADES.name}
    assert after[GOLD_TRADES.name].history() != before[GOLD_TRADES.name].history()


def test_what_is_published_while_tables_are_loaded_is_not_there_yet(lake, write, monkeypatch):
    """All of them are as the pointers said at one instant: the audit compares them."""
    pointers = lake._read_pointers()
    write(GOLD_TRADES, {"trade_id": "1"})
    monkeypatch.setattr(lake, "_read_pointers", lambda: pointers)
    before = lake.load_all()[GOLD_TRADES.name]
    monkeypatch.undo()
    after = lake.load_all()[GOLD_TRADES.name]

    assert before.metadata_location == pointers[GOLD_TRADES.name]
    assert len(after.history()) == len(before.history()) + 1


def test_a_missing_table_is_named_when_it_is_needed(home, lake):
    """An old lake may lack one; who can do without it does."""
    catalog = open_catalog(home)
    catalog.drop_table(GOLD_CANDLES.identifier)
    catalog.close()
    tables = lake.load(GOLD_TRADES, GOLD_CANDLES)

    assert list(tables) == [GOLD_TRADES.name]
    assert lake.require(tables, GOLD_TRADES) is tables[GOLD_TRADES.name]
    with pytest.raises(CatalogError, match=r"no table gold_candles_1m; k2-lake makes it"):
        lake.require(tables, GOLD_CANDLES)


def test_exchanges_are_named_as_in_records(home, lake):
    """In upper case, from the tables there are; one that is added is there too."""
    lake.load_all()
    before = lake.list_exchanges()
    catalog = open_catalog(home)
    ensure_tables(catalog, [bronze_trades("coinbase"), silver_trades("coinbase")])
    catalog.close()
    lake.load_all()

    assert before == ["BINANCE", "KRAKEN"]
    assert lake.list_exchanges() == ["BINANCE", "COINBASE", "KRAKEN"]


def test_a_plan_is_made_once_per_state_and_question(lake, write):
    """A snapshot never changes; the oldest plans are forgotten, the used ones kept."""
    table = write(GOLD_TRADES, {"trade_id": "1"})
    snapshot_id = table.metadata.current_snapshot_id
    questions = [EqualTo("trade_id", str(number)) for number in range(100)]
    first = lake.plan(table, snapshot_id, questions[1])

    for question in questions:
        lake.plan(table, snapshot_id, question)
        assert lake.plan(table, snapshot_id, questions[1]) is first
    assert lake.plan(table, snapshot_id, questions[0]) == []
    assert len(first) == 1
    assert lake.plan(table, None, questions[1]) == []
