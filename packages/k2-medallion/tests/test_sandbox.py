"""A stranger's SQL reads the tables, and that is all that it can do."""

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from k2_medallion import GOLD_TRADES, LakeReader, QueryError
from k2_medallion.data_files import find_path
from k2_medallion.tables import DEAD_LETTERS

TRADE = {"trade_id": "1", "symbol": "BTC/USDT", "price": Decimal("9999999999.99999999")}

a_variable_of_the_caller = pa.table({"secret": [1]})


@pytest.fixture
def table(write):
    """Give Gold one trade."""
    return write(GOLD_TRADES, TRADE)


@pytest.fixture
def lake(home, table):
    """Open the lake."""
    with LakeReader(home) as lake:
        yield lake


def read_files(folder):
    """Return every file below a folder with its bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_digit_is_lost_between_parquet_and_the_result(lake):
    """Decimals come out as they are."""
    result = lake.sql("SELECT price FROM gold_crypto_trades").to_arrow()

    assert result.to_pylist() == [{"price": Decimal("9999999999.99999999")}]


def test_tables_without_rows_can_be_queried(lake):
    """An empty table has its columns, and every table is listed."""
    dead = lake.sql("SELECT * FROM silver_dlq_trades").to_arrow()
    listed = lake.sql("SHOW TABLES").to_arrow()["name"].to_pylist()

    assert (0, list(DEAD_LETTERS.column_names)) == (dead.num_rows, dead.column_names)
    assert {"gold_candles_1m", "gold_crypto_trades", "bronze_kraken_trades"} <= set(listed)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP VIEW gold_crypto_trades",
        "COPY gold_crypto_trades TO '{stolen}'",
        "CREATE TABLE t AS SELECT 1",
        "CREATE OR REPLACE TEMP VIEW gold_crypto_trades AS SELECT 1",
        "INSERT INTO gold_crypto_trades SELECT * FROM gold_crypto_trades",
        "ATTACH '{stolen}'",
        "EXPORT DATABASE '{stolen}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "CALL checkpoint()",
        "PRAGMA enable_profiling",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{stolen}'",
        "SELECT 1; SELECT 2",
        "SELEKT 1",
        "",
        # All of these are SELECTs by DuckDB's own account.
        "WITH a AS (COPY (SELECT 1) TO '{stolen}') SELECT * FROM a",
        "WITH a AS (COPY (SELECT 1) TO '{data_file}' (FORMAT parquet)) SELECT * FROM a",
        "SELECT * FROM query('WITH a AS (COPY (SELECT 1) TO ''{data_file}'') SELECT * FROM a')",
        "WITH a AS (INSERT INTO gold_crypto_trades (symbol) VALUES ('x') RETURNING *) FROM a",
        "WITH a AS (INSERT INTO silver_dlq_trades (schema_id) VALUES (1) RETURNING *) FROM a",
        "WITH a AS (DELETE FROM gold_crypto_trades RETURNING *) SELECT * FROM a",
        "SELECT * FROM enable_logging(storage = 'file', storage_path = '{stolen}')",
        "SELECT * FROM enable_profiling(save_location = '{stolen}')",
    ],
)
def test_nothing_can_be_written(lake, home, table, tmp_path, statement):
    """Not the tables, not their files, no other file, no setting: every byte stays as it was."""
    (task,) = table.scan().plan_files()
    places = {"stolen": tmp_path / "stolen", "data_file": find_path(task.file.file_path)}
    before = read_files(tmp_path)

    with pytest.raises(QueryError):
        lake.sql(statement.format(**places))

    assert read_files(tmp_path) == before
    assert lake.sql("SELECT trade_id FROM gold_crypto_trades").to_arrow().num_rows == 1
    assert lake.sql("SELECT * FROM silver_dlq_trades").to_arrow().num_rows == 0


@pytest.mark.parametrize(
    "source",
    [
        "read_csv('/etc/passwd')",
        "read_text('/etc/passwd')",
        "'/etc/passwd'",
        "glob('/etc/*')",
        "sniff_csv('/etc/passwd')",
        "read_blob('{home}/catalog.db')",
        "read_text('{metadata}')",
        # Its bytes are in the table, but a staged file would lie beside it.
        "read_parquet('{data_file}')",
        "parquet_metadata('{data_file}')",
        "'http://127.0.0.1:9/x.parquet'",
        "a_variable_of_the_caller",
        "duckdb_secrets()",
    ],
)
def test_nothing_but_the_tables_can_be_read(lake, home, table, source):
    """No file, no address, no variable of the program, no secret; not even a table's file."""
    (task,) = table.scan().plan_files()
    places = {
        "home": home.path,
        "metadata": find_path(table.metadata_location),
        "data_file": find_path(task.file.file_path),
    }
    assert Path(places["data_file"]).exists()

    with pytest.raises(QueryError):
        lake.sql(f"SELECT * FROM {source.format(**places)}")


def test_what_does_not_fit_into_memory_is_not_put_beside_the_caller(lake, tmp_path, monkeypatch):
    """Scratch files are the system's temporary ones, and none is left behind."""
    monkeypatch.chdir(tmp_path)
    before = read_files(tmp_path)
    place = lake.sql("SELECT current_setting('temp_directory') AS place").to_arrow()["place"][0]

    lake.sql("SELECT count(*) FROM (SELECT random() AS r FROM range(3000000) ORDER BY r)")
    lake.close()

    assert read_files(tmp_path) == before
    assert not Path(place.as_py()).exists()
