"""DuckDB over the store's files: many threads in one file read what is there."""

import duckdb
from pyarrow.fs import LocalFileSystem

from k2_medallion.duck import _StoreFiles

ROWS = 1_000_000


class LocalFiles(_StoreFiles):
    """The same access, to this machine's files."""

    protocol = "here"


def test_a_file_of_many_row_groups_is_read_by_many_threads(tmp_path):
    """Of a file object with one place for all threads, four reads of five fail or are garbage."""
    path = tmp_path / "trades.parquet"
    duckdb.sql(
        f"COPY (SELECT range AS id, hash(range) AS other FROM range({ROWS})) TO '{path}' "
        "(ROW_GROUP_SIZE 20000)"
    )
    duck = duckdb.connect()
    duck.register_filesystem(LocalFiles(LocalFileSystem()))
    duck.execute("SET threads = 4")
    query = "SELECT count(*), sum(id), bit_xor(other) FROM"
    expected = duckdb.sql(f"{query} read_parquet('{path}')").fetchall()

    for _ in range(20):
        assert duck.sql(f"{query} read_parquet('here://{path}')").fetchall() == expected
