"""Data files are found as Iceberg's metadata has them."""

import pytest

from k2_medallion import GOLD_TRADES
from k2_medallion.data_files import find_path, list_arrivals


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
    assert find_path(location) == "/a/b c.parquet"


def test_a_location_in_an_object_store_stays_what_it_is():
    """Whoever opens it knows the store."""
    assert find_path("s3://lake/a/b%20c.parquet") == "s3://lake/a/b%20c.parquet"
