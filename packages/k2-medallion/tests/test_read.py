"""Reading needs no Spark, answers from one state of the lake, exactly, and cannot write."""

import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from pyiceberg.types import LongType

import k2_medallion
from k2_medallion import (
    GOLD_TRADES,
    CatalogError,
    LakeReader,
    MissingExtraError,
    QueryError,
    open_catalog,
)
from k2_medallion.data_files import find_path
from k2_medallion.spark import table_name

START = datetime(2026, 11, 23, 22, 59, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def make_trade(seconds, number, **others):
    """Return a Gold row of BTC/USDT on Binance."""
    return {
        "message_id": str(number),
        "trade_id": str(number),
        "symbol": "BTC/USDT",
        "exchange": "BINANCE",
        "timestamp": START + timedelta(seconds=seconds),
        "price": Decimal(1),
        "quantity": Decimal(1),
        "source_sequence": number,
    } | others


@pytest.fixture
def gold(write):
    """Return what appends trades to Gold."""
    return lambda *trades: write(GOLD_TRADES, *trades)


@pytest.fixture
def lake(home, gold):
    """Open the lake."""
    with k2_medallion.open(home.path) as lake:
        yield lake


def list_ids(result):
    """Return the trade ids of a result, in its order."""
    return result.to_arrow()["trade_id"].to_pylist()


def test_trades_are_of_one_symbol_from_start_to_before_end(lake, gold):
    """Both bounds are exact to the microsecond; other symbols are not there."""
    second, instant = timedelta(seconds=1), timedelta(microseconds=1)
    gold(
        make_trade(0, 1, timestamp=START - instant),
        make_trade(0, 2),
        make_trade(0, 3, symbol="ETH/USDT"),
        make_trade(0, 4, timestamp=START + second - instant),
        make_trade(1, 5),
    )

    assert list_ids(lake.trades("BTC/USDT", START, START + second)) == ["2", "4"]
    assert list_ids(lake.trades("BTC/USDT", START)) == ["2", "4", "5"]
    assert list_ids(lake.trades("BTC/USDT", end=START)) == ["1"]


def test_trades_come_in_order_over_all_files(lake, gold):
    """By time, exchange and the exchange's own number, whatever order they were written in."""
    gold(make_trade(1, 10), make_trade(1, 9), make_trade(1, 1, exchange="KRAKEN"))
    gold(make_trade(0, 11))

    assert list_ids(lake.trades("BTC/USDT")) == ["11", "9", "10", "1"]
    # Ordered by columns that are not asked for, too.
    symbols = lake.trades("BTC/USDT", columns=["exchange"]).to_arrow()["exchange"].to_pylist()
    assert symbols == ["BINANCE"] * 3 + ["KRAKEN"]


def test_an_exchange_can_be_named_in_lower_case(lake, gold):
    """As in configuration and table names; records have it in upper case."""
    gold(make_trade(0, 1), make_trade(0, 2, exchange="KRAKEN"))

    assert list_ids(lake.trades("BTC/USDT", exchange="kraken")) == ["2"]


def test_times_of_other_zones_are_the_same_instants(lake, gold):
    """A bound in New York is not read as UTC."""
    gold(make_trade(0, 1), make_trade(60, 2))
    new_york = timezone(timedelta(hours=-5))

    start = (START + MINUTE).astimezone(new_york)
    assert list_ids(lake.trades("BTC/USDT", start)) == ["2"]


@pytest.mark.parametrize("symbol", ["DOGE/USDT", "", "'; DROP TABLE x; --", "BTC/USDT\x00"])
def test_an_unknown_symbol_has_no_trades_but_all_columns(lake, gold, symbol):
    """Nothing found is an empty table of the right types, quotes and all."""
    gold(make_trade(0, 1))
    found, all_trades = lake.trades(symbol).to_arrow(), lake.trades("BTC/USDT").to_arrow()

    assert (found.num_rows, found.schema) == (0, all_trades.schema)


def test_a_lake_without_rows_answers_with_the_columns_types(lake, gold):
    """Before the first batch the answer has the types that it has after it."""
    empty = lake.trades("BTC/USDT").to_arrow()
    gold(make_trade(0, 1))
    full = lake.trades("BTC/USDT").to_arrow()

    assert empty.column_names == list(GOLD_TRADES.column_names)
    assert empty.schema == full.schema
    assert full.schema.field("price").type == pa.decimal128(18, 8)
    assert full.schema.field("timestamp").type == pa.timestamp("us", "UTC")


def test_rows_from_before_a_column_have_null_in_it(home, gold, lake):
    """A table that evolves keeps answering: files with and without the column, together."""
    gold(make_trade(0, 1))
    catalog = open_catalog(home)
    with catalog.load_table(GOLD_TRADES.identifier).update_schema() as update:
        update.add_column("venue_rank", LongType())
    catalog.close()
    old_files = lake.trades("BTC/USDT", columns=["trade_id", "venue_rank"]).to_arrow()
    gold(make_trade(1, 2, venue_rank=7))

    both = lake.trades("BTC/USDT", columns=["trade_id", "venue_rank"]).to_arrow()
    query = "SELECT trade_id, venue_rank FROM gold_crypto_trades ORDER BY 1"
    assert old_files.to_pylist() == [{"trade_id": "1", "venue_rank": None}]
    assert both["venue_rank"].to_pylist() == [None, 7]
    assert lake.sql(query).to_arrow()["venue_rank"].to_pylist() == [None, 7]


def test_only_files_that_overlap_are_opened(lake, gold):
    """A file of another hour may even be gone; one that is asked for is an error that says so."""
    gold(make_trade(0, 1))
    table = gold(make_trade(7200, 2))
    table.refresh()
    (task,) = table.scan(f"timestamp > '{(START + MINUTE).isoformat()}'").plan_files()
    later = Path(find_path(task.file.file_path))
    later.unlink()
    early = f"""SELECT trade_id FROM gold_crypto_trades WHERE "timestamp" < '{START + MINUTE}'"""

    assert list_ids(lake.trades("BTC/USDT", end=START + MINUTE)) == ["1"]
    assert list_ids(lake.sql(early)) == ["1"]
    with pytest.raises(QueryError, match=rf"{later.name}.*ask again"):
        lake.trades("BTC/USDT").to_arrow()
    with pytest.raises(QueryError, match=later.name):
        lake.sql("SELECT trade_id FROM gold_crypto_trades")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"columns": ["price", "prize"]}, "no columns 'prize'; choose a list of: message_id, "),
        ({"columns": []}, "no columns at all"),
        ({"columns": "price"}, "choose a list of"),
        ({"start": datetime(2026, 11, 23)}, "start=2026-11-23T00:00:00 has no time zone"),
        ({"end": datetime(2026, 11, 23)}, "end=2026-11-23T00:00:00 has no time zone"),
        ({"start": START + MINUTE, "end": START}, "is after end"),
        ({"as_of": 7}, "no table keeps a snapshot 7"),
        ({"as_of": "monday"}, "no table has a tag 'monday'"),
        ({"as_of": datetime(2026, 11, 23)}, "has no time zone"),
    ],
)
def test_a_question_that_cannot_be_meant_is_one_sentence(lake, gold, arguments, complaint):
    """Unknown columns and states, times without zone, bounds the wrong way round."""
    gold(make_trade(0, 1))

    with pytest.raises(QueryError, match=complaint):
        lake.trades("BTC/USDT", **arguments)


def test_a_result_stays_with_the_state_it_was_asked_of(lake, gold):
    """What is published later does not change it; the next question sees it."""
    gold(make_trade(0, 1))
    trades = lake.trades("BTC/USDT")
    count = lake.sql("SELECT count(*) AS n FROM gold_crypto_trades")
    gold(make_trade(1, 2))

    assert list_ids(trades) == ["1"]
    assert count.to_arrow().to_pylist() == [{"n": 1}]
    assert list_ids(lake.trades("BTC/USDT")) == ["1", "2"]
    assert lake.sql("SELECT count(*) AS n FROM gold_crypto_trades").to_arrow()["n"][0].as_py() == 2


def test_any_earlier_state_can_be_asked_for(home, lake, gold):
    """By id, by time and by tag, for one question or for all of a reader's."""
    table = gold(make_trade(0, 1))
    table.manage_snapshots().create_tag(table.metadata.current_snapshot_id, "monday").commit()
    first = table.history()[-1]
    gold(make_trade(1, 2))
    then = datetime.fromtimestamp(first.timestamp_ms / 1000, UTC)
    count = "SELECT count(*) AS n FROM gold_crypto_trades"

    for as_of in (first.snapshot_id, "monday", then):
        assert list_ids(lake.trades("BTC/USDT", as_of=as_of)) == ["1"]
        assert lake.sql(count, as_of=as_of).to_arrow().to_pylist() == [{"n": 1}]
        with k2_medallion.open(home.path, as_of=as_of) as pinned:
            assert list_ids(pinned.trades("BTC/USDT")) == ["1"]
            assert pinned.sql(count).to_arrow().to_pylist() == [{"n": 1}]
    assert list_ids(lake.trades("BTC/USDT")) == ["1", "2"]
    before = then - timedelta(days=1)
    assert list_ids(lake.trades("BTC/USDT", as_of=before)) == []


def test_results_come_as_arrow_polars_duckdb_or_a_stream(lake, gold):
    """The same rows, exact, in every form."""
    gold(make_trade(0, 1, price=Decimal("9999999999.99999999"), quantity=Decimal("1E-8")))
    for result in (
        lake.trades("BTC/USDT", columns=["price", "quantity"]),
        lake.sql("SELECT price, quantity FROM gold_crypto_trades"),
    ):
        expected = [{"price": Decimal("9999999999.99999999"), "quantity": Decimal("1E-8")}]

        assert result.to_arrow().to_pylist() == expected
        assert result.to_polars().rows(named=True) == expected
        assert pl.DataFrame(result).rows(named=True) == expected
        assert pa.table(result).to_pylist() == expected
        notional = result.to_duckdb().aggregate("sum(price::DECIMAL(38, 8) * quantity) AS n")
        assert notional.to_arrow_table()["n"].to_pylist() == [Decimal("99.9999999999999999")]


def test_a_relation_that_is_read_halfway_is_in_nobodys_way(lake, gold):
    """DuckDB lets a connection do nothing else until a result is read to its end."""
    gold(*(make_trade(number % 60, number) for number in range(5000)))
    trades = lake.trades("BTC/USDT", columns=["trade_id"])
    halfway = trades.to_duckdb().to_arrow_reader(2048)
    first = halfway.read_next_batch()

    assert trades.to_arrow().num_rows == 5000
    assert lake.candles("BTC/USDT").to_arrow().num_rows == 1
    assert first.num_rows + halfway.read_all().num_rows == 5000


@pytest.mark.parametrize("form", ["polars", "pandas"])
def test_a_form_that_is_not_installed_is_named_with_its_cure(lake, gold, form, monkeypatch):
    """Neither is needed to read the lake, so neither is installed with it."""
    monkeypatch.setitem(sys.modules, form, None)

    with pytest.raises(MissingExtraError, match=rf"pip install 'k2-medallion\[{form}\]'"):
        getattr(lake.trades("BTC/USDT"), f"to_{form}")()


def test_pandas_keeps_every_digit(lake, gold):
    """Decimals are objects there, not floats."""
    pytest.importorskip("pandas")
    gold(make_trade(0, 1, price=Decimal("9999999999.99999999")))

    frame = lake.trades("BTC/USDT").to_pandas()
    assert frame["price"].to_list() == [Decimal("9999999999.99999999")]


@pytest.mark.parametrize("prefix", ["", "file:", "file://"])
def test_a_lake_is_opened_by_path_or_uri(home, gold, prefix):
    """As text, as Path and as the two spellings of a file URI."""
    gold(make_trade(0, 1))

    with k2_medallion.open(f"{prefix}{home.path}") as lake:
        assert list_ids(lake.trades("BTC/USDT")) == ["1"]


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("s3://bucket/lake", "a folder of this machine"),
        ("http://127.0.0.1/lake", "a folder of this machine"),
        ("/does/not/exist", "no lake in /does/not/exist"),
        ("file:///does/not/exist", "no lake in /does/not/exist"),
    ],
)
def test_a_place_without_a_lake_is_named(uri, complaint):
    """What cannot be opened says so, and nothing is made there."""
    with pytest.raises(CatalogError, match=complaint):
        k2_medallion.open(uri)


def test_a_closed_reader_says_that_it_is_closed(home, gold):
    """Its unread results as well; closing twice is nothing."""
    gold(make_trade(0, 1))
    lake = LakeReader(home)
    unread = lake.trades("BTC/USDT")
    lake.close()
    lake.close()

    for ask in (
        unread.to_arrow,
        lambda: lake.trades("BTC/USDT"),
        lambda: lake.candles("BTC/USDT"),
        lambda: lake.sql("SELECT 1"),
    ):
        with pytest.raises(QueryError, match="closed"):
            ask()


@pytest.mark.spark
def test_row_level_deletes_are_refused(spark, lake, gold):
    """K2 only appends; showing rows that someone else has deleted would be a lie."""
    gold(make_trade(0, 1), make_trade(1, 2))
    name = table_name(GOLD_TRADES)
    spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('write.delete.mode' = 'merge-on-read')")
    spark.sql(f"DELETE FROM {name} WHERE trade_id = '1'")

    with pytest.raises(QueryError, match=r"gold_crypto_trades has row-level deletes"):
        lake.trades("BTC/USDT")
    with pytest.raises(QueryError, match="row-level deletes"):
        lake.sql("SELECT * FROM gold_crypto_trades")
