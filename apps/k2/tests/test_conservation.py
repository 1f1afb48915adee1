"""The laws between the layers can be broken, and then they are named."""

import pyarrow as pa
import pytest

from k2_cli.conservation import find_breaches
from k2_medallion import (
    DEAD_LETTERS,
    LakeHome,
    all_tables,
    bronze_trades,
    ensure_tables,
    open_catalog,
    silver_trades,
)
from k2_schemas.topics import DEADLETTER_TOPIC, trades_topic

TOPIC = trades_topic("binance")


@pytest.fixture
def lake(tmp_path):
    """Make a lake with two Bronze records, one accepted, one dead, and one dead frame."""
    home = LakeHome(tmp_path)
    catalog = open_catalog(home, create=True)
    ensure_tables(catalog, all_tables(["binance"]))

    def append(spec, *rows):
        table = catalog.load_table(spec.identifier)
        table.append(pa.Table.from_pylist(list(rows), schema=table.schema().as_arrow()))

    append(bronze_trades("binance"), bronze_row(0), bronze_row(1))
    append(silver_trades("binance"), {"trade_id": "1"})
    append(DEAD_LETTERS, {"bronze_source": "bronze_binance_trades", "kafka_topic": TOPIC})
    append(DEAD_LETTERS, {"kafka_topic": DEADLETTER_TOPIC})
    yield home, append
    catalog.close()


def bronze_row(offset):
    """Return a Bronze row at an offset."""
    return {"topic": TOPIC, "partition": 0, "offset": offset}


def test_a_lake_where_every_row_is_accounted_for_breaks_no_law(lake):
    """Two records and one dead frame, three offsets written."""
    home, _ = lake

    assert find_breaches(home, offsets_written=3) == []


def test_a_record_that_never_reached_the_lake_is_named(lake):
    """Kafka has been given more than Bronze and the dead letters hold."""
    home, _ = lake

    (breach,) = find_breaches(home, offsets_written=4)
    assert "Kafka has written 4 offsets" in breach
    assert "hold 3 rows" in breach


def test_a_record_without_a_verdict_is_named(lake):
    """Bronze has a row that is neither in Silver nor dead."""
    home, append = lake
    append(bronze_trades("binance"), bronze_row(2))

    (breach,) = find_breaches(home, offsets_written=4)
    assert breach == "bronze_binance_trades has 3 rows, Silver 1 and dead letters 1"


def test_a_record_that_is_in_bronze_twice_is_named(lake):
    """One place in Kafka, two rows, both with a verdict: still one too many."""
    home, append = lake
    append(bronze_trades("binance"), bronze_row(1))
    append(silver_trades("binance"), {"trade_id": "2"})

    breaches = find_breaches(home, offsets_written=4)
    assert breaches == ["bronze_binance_trades has 3 rows of 2 places in Kafka"]
