"""An id, a time or a tag means one state of each table, or an error that says what there is."""

from datetime import UTC, datetime, timedelta

import pytest

from k2_medallion import GOLD_CANDLES, GOLD_TRADES, QueryError, open_catalog
from k2_medallion.snapshots import find_snapshot

GOLD, CANDLES = GOLD_TRADES.name, GOLD_CANDLES.name


@pytest.fixture
def tables(write):
    """Publish to Gold, candles and Gold again; return the tables by name."""
    write(GOLD_TRADES, {"trade_id": "1"})
    candles = write(GOLD_CANDLES, {"symbol": "BTC/USDT"})
    return {GOLD: write(GOLD_TRADES, {"trade_id": "2"}), CANDLES: candles}


def to_time(time_ms):
    """Return the time of milliseconds since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)


def test_without_a_wish_the_newest_is_meant(tables):
    """Of each table its own."""
    for name, table in tables.items():
        assert find_snapshot(name, tables, None) == table.history()[-1].snapshot_id


def test_a_time_means_what_was_current_then(tables):
    """From the millisecond in which a state became current to before the next one."""
    first, second = tables[GOLD].history()
    instant = timedelta(milliseconds=1)
    cases = {
        to_time(first.timestamp_ms) - instant: None,
        to_time(first.timestamp_ms): first.snapshot_id,
        to_time(second.timestamp_ms) - instant: first.snapshot_id,
        to_time(second.timestamp_ms): second.snapshot_id,
        to_time(second.timestamp_ms) + timedelta(days=99): second.snapshot_id,
    }

    assert {time: find_snapshot(GOLD, tables, time) for time in cases} == cases


def test_another_tables_id_or_tag_means_its_time(tables):
    """One id pins every table: to what each held when that snapshot became current."""
    candles = tables[CANDLES]
    snapshot_id = candles.metadata.current_snapshot_id
    candles.manage_snapshots().create_tag(snapshot_id, "closed").commit()
    first, second = tables[GOLD].history()

    assert find_snapshot(GOLD, tables, snapshot_id) == first.snapshot_id
    assert find_snapshot(GOLD, tables, "closed") == first.snapshot_id
    assert find_snapshot(CANDLES, tables, second.snapshot_id) == snapshot_id
    assert find_snapshot(CANDLES, tables, first.snapshot_id) is None


def test_what_was_only_staged_is_no_state(tables):
    """An unaudited snapshot is in the metadata, yet was never current."""
    gold = tables[GOLD]
    first, second = (entry.snapshot_id for entry in gold.history())
    staged = gold.metadata.model_copy(
        update={
            "snapshot_log": gold.metadata.snapshot_log[:1],
            "current_snapshot_id": first,
            "refs": {"main": gold.refs()["main"].model_copy(update={"snapshot_id": first})},
        }
    )
    gold.metadata = staged
    assert gold.snapshot_by_id(second) is not None

    with pytest.raises(QueryError, match=rf"no table keeps a snapshot {second}.*newest: {first}"):
        find_snapshot(GOLD, tables, second)


def test_a_state_that_has_expired_is_not_an_empty_table(tables):
    """Before the oldest state that is kept nothing is known; the error says how far back it is."""
    gold = tables[GOLD]
    first, second = gold.history()
    gold.maintenance.expire_snapshots().by_id(first.snapshot_id).commit()
    gold.refresh()

    with pytest.raises(
        QueryError, match=rf"no longer keeps.*oldest.*\.{second.timestamp_ms % 1000:03}\+"
    ):
        find_snapshot(GOLD, tables, to_time(first.timestamp_ms))
    with pytest.raises(QueryError, match="no table keeps a snapshot"):
        find_snapshot(GOLD, tables, first.snapshot_id)
    assert find_snapshot(GOLD, tables, to_time(second.timestamp_ms)) == second.snapshot_id


def test_a_table_that_never_had_rows_is_empty_at_any_time(home, write):
    """No history is a whole history."""
    catalog = open_catalog(home)
    tables = {GOLD: catalog.load_table(GOLD_TRADES.identifier)}
    catalog.close()

    assert tables[GOLD].history() == []
    assert find_snapshot(GOLD, tables, None) is None
    assert find_snapshot(GOLD, tables, datetime(2020, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("as_of", "complaint"),
    [
        ("tuesday", "no table has a tag 'tuesday'; those of gold_crypto_trades: monday"),
        (5, "no table keeps a snapshot 5"),
        (datetime(2026, 11, 23), "has no time zone"),
    ],
)
def test_what_is_unknown_is_named_beside_what_is_known(tables, as_of, complaint):
    """A misspelt tag is answered with those there are."""
    gold = tables[GOLD]
    gold.manage_snapshots().create_tag(gold.metadata.current_snapshot_id, "monday").commit()

    with pytest.raises(QueryError, match=complaint):
        find_snapshot(GOLD, tables, as_of)
