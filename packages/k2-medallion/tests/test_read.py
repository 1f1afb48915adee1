"""Reading needs no Spark, sees one consistent state, and cannot write."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from k2_medallion import (
    GOLD_TRADES,
    LakeReader,
    QueryError,
    all_tables,
    ensure_tables,
    open_catalog,
)
from k2_medallion.read import CANDLES_SQL, list_arrivals, local_path

# Row groups are sized for Spark, which writes Gold; PyIceberg says that it does not size them.
pytestmark = pytest.mark.filterwarnings("ignore:Parquet writer option:UserWarning")

START = datetime(2026, 11, 23, 22, 59, tzinfo=UTC)


@pytest.fixture
def gold(home):
    """Make a lake and return what appends (seconds, id, price, quantity) of BTC/USDT to Gold."""
    catalog = open_catalog(home, create=True)
    ensure_tables(catalog, all_tables(["binance"]))
    table = catalog.load_table(GOLD_TRADES.identifier)

    def append(*trades):
        rows = [
            {
                "message_id": str(trade_id),
                "trade_id": str(trade_id),
                "symbol": "BTC/USDT",
                "exchange": "BINANCE",
                "timestamp": START + timedelta(seconds=seconds),
                "price": Decimal(price),
                "quantity": Decimal(quantity),
                "source_sequence": trade_id,
            }
            for seconds, trade_id, price, quantity in trades
        ]
        table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))
        return table

    yield append
    catalog.close()


def test_sql_reads_exact_decimals(home, gold):
    """No digit is lost between Parquet and the result."""
    gold((0, 1, "9999999999.99999999", "0.00000001"))

    with LakeReader(home) as lake:
        result = lake.sql("SELECT price, quantity FROM gold_crypto_trades")

    expected = [{"price": Decimal("9999999999.99999999"), "quantity": Decimal("1E-8")}]
    assert expected == result.to_pylist()


def test_candles_open_and_close_by_time_then_by_id(home, gold):
    """Of trades at one instant the exchange's own order decides, as a number, not as text."""
    gold((0, 10, "5", "1"), (0, 9, "4", "2"), (30, 11, "9", "1"), (61, 12, "7", "3"))

    with LakeReader(home) as lake:
        first, second = lake.sql(CANDLES_SQL).to_pylist()

    assert shape(first) == ("4", "9", "4", "9", "4", 3)
    assert shape(second) == ("7", "7", "7", "7", "3", 1)
    assert START + timedelta(minutes=1) == second["start"]


def shape(candle):
    """Return open, high, low, close and volume as short text, and the number of trades."""
    names = ("open", "high", "low", "close", "volume")
    return (*(f"{candle[name].normalize():f}" for name in names), candle["trades"])


def test_tables_without_rows_can_be_queried(home, gold):
    """An empty table has its columns."""
    with LakeReader(home) as lake:
        result = lake.sql("SELECT * FROM gold_crypto_trades")

    assert (0, list(GOLD_TRADES.column_names)) == (result.num_rows, result.column_names)


def test_a_reader_sees_the_state_it_was_opened_on(home, gold):
    """What is published later does not change an answer half-way."""
    gold((0, 1, "1", "1"))
    with LakeReader(home) as lake:
        gold((1, 2, "1", "1"))

        assert lake.sql("SELECT count(*) AS n FROM gold_crypto_trades").to_pylist() == [{"n": 1}]


@pytest.mark.parametrize(
    "statement",
    [
        "DROP VIEW gold_crypto_trades",
        "COPY gold_crypto_trades TO '/tmp/out.parquet'",
        "CREATE TABLE t AS SELECT 1",
        "ATTACH '/tmp/other.db'",
        "SET enable_external_access = true",
        "SELECT 1; SELECT 2",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/out.csv'",
        "SELEKT 1",
        "",
    ],
)
def test_nothing_but_one_select_over_the_tables_runs(home, gold, statement):
    """Writing, other files, settings and several statements are all refused."""
    gold((0, 1, "1", "1"))

    with LakeReader(home) as lake, pytest.raises(QueryError):
        lake.sql(statement)


def test_arrivals_name_when_each_file_became_current(home, gold):
    """Every data file is dated by the snapshot that brought it."""
    gold((0, 1, "1", "1"))
    table = gold((1, 2, "1", "1"))

    arrivals = list_arrivals(table)

    history = [entry.timestamp_ms for entry in table.history()]
    assert sorted(history) == sorted(arrivals.values())


@pytest.mark.parametrize(
    "location", ["file:/a/b c.parquet", "file:///a/b c.parquet", "/a/b c.parquet"]
)
def test_locations_become_paths(location):
    """Spark writes one slash, PyIceberg three; both are the same file."""
    assert local_path(location) == "/a/b c.parquet"
