"""One Spark session for all tests of this package; a lake of its own for each."""

import os
import warnings
from pathlib import Path

import pyarrow as pa
import pytest

from k2_medallion import LakeHome, all_tables, ensure_tables, open_catalog
from k2_medallion.testing import open_lake, open_test_session

EXCHANGES = ("binance", "kraken")


@pytest.fixture(scope="session")
def cache():
    """Where Java and jars are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "k2"


@pytest.fixture(scope="session")
def root_session(tmp_path_factory, cache):
    """Start the JVM once, in a home as somebody's "My Documents" is called."""
    spark = open_test_session(LakeHome(tmp_path_factory.mktemp('a "spark" home')), cache)
    yield spark
    spark.stop()


@pytest.fixture
def home(tmp_path):
    """Give each test an empty lake home."""
    return LakeHome(tmp_path)


@pytest.fixture
def spark(root_session, home):
    """Give each test a session on its own, empty lake."""
    return open_lake(root_session, home.path, EXCHANGES)


@pytest.fixture
def write(home):
    """Make a lake and return what appends rows to one of its tables, without Spark."""
    catalog = open_catalog(home, create=True)
    ensure_tables(catalog, all_tables(EXCHANGES))

    def append(spec, *rows):
        table = catalog.load_table(spec.identifier)
        with warnings.catch_warnings():
            # PyIceberg says that it leaves a setting of Spark's writer alone.
            warnings.filterwarnings("ignore", "Parquet writer option", UserWarning)
            table.append(pa.Table.from_pylist(list(rows), schema=table.schema().as_arrow()))
        return table

    yield append
    catalog.close()


@pytest.fixture
def publish(home, write):
    """Return what appends a row under a batch's id, as the flows do; returns sequence numbers."""
    catalog = open_catalog(home)

    def append(spec, row, publish_id, key="wap.id"):
        table = catalog.load_table(spec.identifier)
        rows = pa.Table.from_pylist([row] if row else [], schema=table.schema().as_arrow())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Parquet writer option", UserWarning)
            table.append(rows, snapshot_properties={key: publish_id})
        return table.current_snapshot().sequence_number

    yield append
    catalog.close()
