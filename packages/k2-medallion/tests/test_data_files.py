"""Data files are found as Iceberg's metadata has them."""

import pytest

from k2_medallion import GOLD_TRADES
from k2_medallion.data_files import list_arrivals, local_path


def test_arrivals_name_when_each_file_became_current(write):
    """Every data file is dated by the snapshot that brought it."""
    write(GOLD_TRADES, {"trade_id": "1"})
    table = write(GOLD_TRADES, {"trade_id": "2"})

    arrivals = list_arrivals(table)

    history = [entry.timestamp_ms for entry in table.history()]
    assert sorted(history) == sorted(arrivals.values())


@pytest.mark.parametrize(
    "location", ["file:/a/b c.parquet", "file:///a/b c.parquet", "/a/b c.parquet"]
)
def test_locations_become_paths(location):
    """Spark writes one slash, PyIceberg three; both are the same file."""
    assert local_path(location) == "/a/b c.parquet"
