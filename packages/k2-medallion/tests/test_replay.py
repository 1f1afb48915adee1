"""A replay gives back what tables have lost of Bronze, once, and nothing else."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import count

import pytest

from k2_medallion import (
    DEAD_LETTERS,
    GOLD_CANDLES,
    GOLD_TRADES,
    bronze_sink,
    open_catalog,
    silver_trades,
)
from k2_medallion import replay as module
from k2_medallion.catalog import set_property
from k2_medallion.errors import ConservationError, SchemaLackingError
from k2_medallion.flow import Batch
from k2_medallion.fused import TradeSink
from k2_medallion.promotion import Promotion
from k2_medallion.replay import Replay
from k2_medallion.spark import table_name
from k2_medallion.tables import RETIRED_BEFORE
from k2_medallion.testing import KafkaRecord, kafka_frame
from k2_medallion.trade_contract import TradeContract
from k2_schemas import TradeCodec
from k2_schemas.testing import EXAMPLE_TIME_US, make_trade

pytestmark = [pytest.mark.spark, pytest.mark.filterwarnings("ignore::ResourceWarning")]

CODEC = TradeCodec()
MINUTE_US = 60_000_000
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
TABLES = (silver_trades("binance"), DEAD_LETTERS, GOLD_TRADES, GOLD_CANDLES)


@pytest.fixture
def promotion(home, spark):
    """Return the steps of a driver that starts now."""
    return lambda: Promotion("binance", open_catalog(home), TradeContract.packaged())


@pytest.fixture(autouse=True)
def noon(monkeypatch):
    """Let Bronze take in batches a second apart from noon on: a replay goes by its hours."""
    take_in_at(monkeypatch, (NOON + timedelta(seconds=second) for second in count()))


@pytest.fixture
def filled(spark, home, promotion):
    """Fill a lake: three minutes of trades, a duplicate, two bad records."""
    sink = TradeSink(promotion(), open_catalog(home))
    trades = [make_trade(n, timestamp_us=EXAMPLE_TIME_US + n * MINUTE_US) for n in range(3)]
    values = [*map(CODEC.encode, trades), CODEC.encode(trades[1]), b"junk", b"more junk"]
    records = [KafkaRecord(0, offset, value) for offset, value in enumerate(values)]
    rows = kafka_frame(spark, sink.topic, records)
    sink.write(rows, Batch(sink.flow, {0: 0}, {0: len(values)}))
    return holdings(spark)


def holdings(spark):
    """Return what tables hold, without the times at which they were written."""
    moments = ("validation_timestamp", "error_timestamp", "dlq_date")
    return {
        spec.name: sorted(map(str, spark.table(table_name(spec)).drop(*moments).collect()))
        for spec in TABLES
    }


def take_in_at(monkeypatch, times):
    """Let these be the times at which Bronze takes in the batches from now on."""
    clock = type("Clock", (datetime,), {"now": classmethod(lambda cls, tz: next(times))})
    monkeypatch.setattr(bronze_sink, "datetime", clock)


def count_calls(monkeypatch, owner, name):
    """Return a list that has a row for every call of a method from now on."""
    calls, method = [], getattr(owner, name)

    def call(*arguments):
        calls.append(arguments)
        return method(*arguments)

    monkeypatch.setattr(owner, name, call)
    return calls


def replay(spark, promotion, **bounds):
    """Replay and return how many rows were added."""
    return sum(report.added for report in Replay(promotion()).run(spark, **bounds))


def test_a_replay_of_whole_tables_adds_nothing(spark, promotion, filled):
    """What is there is not added again, the duplicate in Silver included."""
    assert [len(rows) for rows in filled.values()] == [4, 2, 3, 2]
    assert replay(spark, promotion) == 0
    assert holdings(spark) == filled


@pytest.mark.parametrize("lost", TABLES, ids=lambda spec: spec.name)
def test_what_one_table_has_lost_comes_back(spark, promotion, filled, lost):
    """Each table alone is rebuilt from Bronze, row for row; a second run adds nothing."""
    spark.sql(f"DELETE FROM {table_name(lost)}")

    assert replay(spark, promotion) == len(filled[lost.name])
    assert holdings(spark) == filled
    assert replay(spark, promotion) == 0


def test_part_of_a_table_comes_back(spark, promotion, filled):
    """One of two equal rows, one of two dead letters: exactly those are added."""
    silver, dead = TABLES[:2]
    spark.sql(f"DELETE FROM {table_name(silver)} WHERE trade_id IN ('1', '2')")
    spark.sql(f"DELETE FROM {table_name(dead)} WHERE kafka_offset = 4")

    assert replay(spark, promotion) == 4
    assert holdings(spark) == filled


def test_a_trade_that_came_in_two_batches_comes_back_to_the_one_that_lacks_it(
    spark, home, promotion, filled
):
    """As many rows of the trade would be there with the other batch's row twice."""
    sink = TradeSink(promotion(), open_catalog(home))
    sink.read_positions(spark, {0})
    raw = CODEC.encode(make_trade(0, timestamp_us=EXAMPLE_TIME_US))
    rows = kafka_frame(spark, sink.topic, [KafkaRecord(0, 6, raw)])
    sink.write(rows, Batch(sink.flow, {0: 6}, {0: 7}))
    held, silver = holdings(spark), table_name(TABLES[0])
    spark.sql(
        f"DELETE FROM {silver} WHERE trade_id = '0'"
        f" AND bronze_ingestion_timestamp = TIMESTAMP '{NOON.isoformat()}'"
    )

    assert replay(spark, promotion) == 1
    assert holdings(spark) == held


def test_only_the_range_is_replayed(spark, promotion, filled):
    """Bounds are Bronze's ingestion times, the end excluded."""
    spark.sql(f"DELETE FROM {table_name(GOLD_TRADES)}")
    second = timedelta(seconds=1)

    assert replay(spark, promotion, end=NOON) == 0
    assert replay(spark, promotion, start=NOON + second) == 0
    assert replay(spark, promotion, start=NOON, end=NOON + second) == 3


def test_bounds_may_be_of_any_zone(spark, promotion, filled):
    """The day of a time in Kolkata is not Bronze's day."""
    spark.sql(f"DELETE FROM {table_name(GOLD_TRADES)}")
    zone = timezone(timedelta(hours=14))
    day = NOON.replace(hour=0)

    bounds = (day.astimezone(zone), (day + timedelta(days=1)).astimezone(timezone.min))
    assert replay(spark, promotion, start=bounds[0], end=bounds[1]) == 3


def test_each_hour_has_a_report(spark, home, promotion, filled, monkeypatch):
    """A batch that came a minute before the next hour, and one that came with it."""
    one = NOON + timedelta(hours=1)
    take_in_at(monkeypatch, iter([one - timedelta(minutes=1), one]))
    sink = TradeSink(promotion(), open_catalog(home))
    sink.read_positions(spark, {0})
    for place in (6, 7):
        rows = kafka_frame(spark, sink.topic, [KafkaRecord(0, place, b"junk")])
        sink.write(rows, Batch(sink.flow, {0: place}, {0: place + 1}))

    reports = list(Replay(promotion()).run(spark))

    told = [(report.start, report.end, report.bronze) for report in reports]
    assert told == [(NOON, one, 7), (one, one + timedelta(hours=1), 1)]


def test_a_busy_hour_is_replayed_in_parts(spark, home, promotion, filled, monkeypatch):
    """Each part has batches whole; what comes of them is one report and the same rows."""
    monkeypatch.setattr(module, "MOST_ROWS", 5)
    sink = TradeSink(promotion(), open_catalog(home))
    sink.read_positions(spark, {0})
    for place in (6, 8, 10):
        values = [CODEC.encode(make_trade(place)), b"junk"]
        records = [KafkaRecord(0, place + n, value) for n, value in enumerate(values)]
        rows = kafka_frame(spark, sink.topic, records)
        sink.write(rows, Batch(sink.flow, {0: place}, {0: place + 2}))
    held = holdings(spark)
    for spec in TABLES:
        spark.sql(f"DELETE FROM {table_name(spec)}")
    parts = count_calls(monkeypatch, Replay, "_replay")

    reports = list(Replay(promotion()).run(spark))

    # Of a minute's candles only the newest version is what it was: parts are not batches.
    rebuilt, name = holdings(spark), GOLD_CANDLES.name
    assert rebuilt.pop(name)[-1] == held.pop(name)[-1]
    assert rebuilt == held
    assert len(parts) == 3, "a batch of 6, two of 2, one of 2"
    assert sum(report.bronze for report in reports) == 12
    assert sum(report.silver for report in reports) == 7
    assert replay(spark, promotion) == 0


def test_what_silver_has_let_go_is_left_alone(spark, home, promotion, filled):
    """Bronze keeps the day of its newest rows for ever: rebuilt, it would go again, each time."""
    catalog = open_catalog(home)
    tomorrow = str((NOON + timedelta(days=1)).date())
    spark.sql(f"DELETE FROM {table_name(TABLES[0])}")
    set_property(catalog, TABLES[0], RETIRED_BEFORE, lambda _: tomorrow)

    assert replay(spark, promotion) == 0


def test_rows_of_a_schema_that_is_not_known_here_are_not_made_dead(spark, promotion, filled):
    """A registry knew it when they were read: their bytes would become dead letters beside them."""
    silver = TABLES[0]
    spark.sql(f"UPDATE {table_name(silver)} SET schema_id = 77 WHERE trade_id = '2'")
    before = holdings(spark)

    with pytest.raises(SchemaLackingError, match=r"schema id 77.*K2_SCHEMAS__URL"):
        replay(spark, promotion)
    assert holdings(spark) == before


def test_what_has_died_stays_dead(spark, promotion, filled):
    """A rule was mended since: the record would be accepted today, and be in both tables."""
    silver, dead = TABLES[:2]
    spark.sql(f"DELETE FROM {table_name(silver)} WHERE trade_id = '2'")
    spark.sql(f"DELETE FROM {table_name(GOLD_TRADES)} WHERE trade_id = '2'")
    spark.sql(f"UPDATE {table_name(dead)} SET kafka_offset = 2 WHERE kafka_offset = 4")
    before = holdings(spark)

    reports = list(Replay(promotion()).run(spark))

    assert [(r.silver, r.dead_letters, r.gold) for r in reports] == [(0, 1, 0)]
    assert holdings(spark)[silver.name] == before[silver.name]


def test_rows_beyond_what_bronze_has_stop_it(spark, promotion, filled):
    """A rule was made stricter since: what Silver holds would die as well. Nothing is published."""
    silver, dead = TABLES[:2]
    columns = ", ".join(
        "'another' AS message_id" if name == "message_id" else name for name in silver.column_names
    )
    table = table_name(silver)
    spark.sql(f"INSERT INTO {table} SELECT {columns} FROM {table} WHERE trade_id = '2'")
    spark.sql(f"DELETE FROM {table_name(dead)} WHERE kafka_offset = 4")
    before = holdings(spark)

    with pytest.raises(ConservationError, match="expected 6 rows, found 7"):
        replay(spark, promotion)
    assert holdings(spark) == before
