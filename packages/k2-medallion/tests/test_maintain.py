"""Maintenance makes tables small and changes nothing that a reader or a flow relies on."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import functions as F

from k2_medallion import (
    DEAD_LETTERS,
    GOLD_TRADES,
    all_tables,
    bronze_trades,
    open_catalog,
    silver_trades,
)
from k2_medallion import maintain as module
from k2_medallion.catalog import load_table
from k2_medallion.data_files import find_path
from k2_medallion.deadletters import DeadLetterSink
from k2_medallion.errors import FencedError
from k2_medallion.flow import Batch
from k2_medallion.fused import TradeSink
from k2_medallion.maintain import Maintenance
from k2_medallion.promotion import Promotion
from k2_medallion.publish import Guard, stage_rows
from k2_medallion.published import list_published
from k2_medallion.spark import table_name
from k2_medallion.stage import FusedStage
from k2_medallion.tables import RETIRED_BEFORE
from k2_medallion.testing import KafkaRecord, kafka_frame
from k2_medallion.trade_contract import TradeContract
from k2_schemas import TradeCodec
from k2_schemas.testing import EXAMPLE_TIME_US, make_trade

pytestmark = [pytest.mark.spark, pytest.mark.filterwarnings("ignore::ResourceWarning")]

CODEC = TradeCodec()
BRONZE, SILVER = bronze_trades("binance"), silver_trades("binance")
KRAKEN = {"exchange": "KRAKEN", "symbol": "BTC/USD", "pair": "BTC/USD"}
LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def catalog(home, spark):
    """Open the lake's catalog."""
    return open_catalog(home)


@pytest.fixture
def sink(catalog):
    """Open the sink as a driver would."""
    return TradeSink(Promotion("binance", catalog, TradeContract.packaged()), catalog)


@pytest.fixture
def maintenance(catalog):
    """Look after all tables, for the fused flow."""
    stage = FusedStage(Promotion("binance", catalog, TradeContract.packaged()), catalog)
    return Maintenance(catalog, all_tables(["binance"]), [stage])


def fused_sink(spark, catalog, exchange):
    """Open an exchange's sink as a driver that starts now."""
    sink = TradeSink(Promotion(exchange, catalog, TradeContract.packaged()), catalog)
    sink.read_positions(spark, {0})
    return sink


def open_dead_letters(spark, catalog):
    """Open the sink of the dead-letter topic, and let it find its place."""
    sink = DeadLetterSink(catalog)
    sink.read_positions(spark, {0})
    return sink


def write_dead(spark, sink, place):
    """Write a batch of one dead letter."""
    record = KafkaRecord(0, place, b"junk")
    rows = kafka_frame(spark, sink.topic, [record])
    headers = F.array().cast("array<struct<key: string, value: binary>>")
    sink.write(rows.withColumn("headers", headers), Batch(sink.flow, {0: place}, {0: place + 1}))


def write(spark, sink, place, received_at=None, count=2, dead=0, hours=0):
    """Write a batch of trades out of order at a place of partition 0, then some that are none."""
    venue = KRAKEN if sink.flow.endswith("kraken") else {}
    began_us = EXAMPLE_TIME_US + hours * 3_600_000_000
    times = [began_us + (place + n) * 1000 for n in range(count)][::-1]
    records = [
        KafkaRecord(0, place + n, CODEC.encode(make_trade(place + n, timestamp_us=time, **venue)))
        for n, time in enumerate(times)
    ]
    records += [KafkaRecord(0, place + count + n, b"junk") for n in range(dead)]
    count += dead
    options = {} if received_at is None else {"received_at": received_at}
    rows = kafka_frame(spark, sink.topic, records, **options)
    sink.write(rows, Batch(sink.flow, {0: place}, {0: place + count}))


def rows_of(spark, spec):
    """Return a table's rows, in any order."""
    return sorted(map(str, spark.table(table_name(spec)).collect()))


def files_of(catalog, spec):
    """Return a table's current data files."""
    return [task.file for task in load_table(catalog, spec).scan().plan_files()]


def test_a_closed_hour_becomes_one_sorted_file_with_the_same_rows(
    spark, catalog, sink, maintenance
):
    """Six batches of one past hour: one file afterwards, ascending in time."""
    for batch in range(6):
        write(spark, sink, 2 * batch)
    before = rows_of(spark, GOLD_TRADES)

    actions = [action for action in maintenance.compact(spark, LATER)]

    assert len(files_of(catalog, GOLD_TRADES)) == 1
    table = load_table(catalog, GOLD_TRADES)
    times = table.scan().to_arrow()["timestamp"].to_pylist()
    assert times == sorted(times)
    assert rows_of(spark, GOLD_TRADES) == before
    assert ("gold_crypto_trades", "sort") in {(action.table, action.name) for action in actions}


def test_an_open_partition_is_left_alone_until_it_has_many_files(
    spark, catalog, sink, maintenance, monkeypatch
):
    """Compacting costs: a few small files are no reason, too many are."""
    for batch in range(3):
        write(spark, sink, 2 * batch)
    now = datetime.now(UTC)
    files = len(files_of(catalog, BRONZE))
    assert [a for a in maintenance.compact(spark, now) if a.table == BRONZE.name] == []
    assert len(files_of(catalog, BRONZE)) == files

    monkeypatch.setattr(module, "MOST_OPEN_FILES", 2)
    before = rows_of(spark, BRONZE)
    done = [a.name for a in maintenance.compact(spark, now) if a.table == BRONZE.name]

    assert done == ["compact"]
    assert len(files_of(catalog, BRONZE)) == 1
    assert rows_of(spark, BRONZE) == before


def test_a_batch_staged_before_a_compaction_is_published_after_it(
    spark, catalog, sink, maintenance, monkeypatch
):
    """Appends do not conflict with rewriting: the cherry-pick lands on the rewritten table."""
    from k2_medallion import publish

    for batch in range(3):
        write(spark, sink, 2 * batch)
    original, done = publish.publish_staged, []

    def compact_first(staged, guard):
        if staged.spec == BRONZE:
            monkeypatch.setattr(module, "MOST_OPEN_FILES", 1)
            done.extend(maintenance.compact(spark.newSession(), datetime.now(UTC)))
        return original(staged, guard)

    # Another session of the same lake: newSession() would forget this lake's own catalog.
    monkeypatch.setattr(type(spark), "newSession", lambda self: self)
    monkeypatch.setattr(publish, "publish_staged", compact_first)
    write(spark, sink, 6)

    assert done
    assert len(rows_of(spark, BRONZE)) == len(rows_of(spark, GOLD_TRADES)) == 8


def test_expiry_keeps_what_the_flow_needs(spark, catalog, sink, maintenance, monkeypatch):
    """Everything but the newest batch goes; the next batch and roll-forward still work."""
    monkeypatch.setattr(module, "_KEPT_SNAPSHOTS", 1)
    for batch in range(4):
        write(spark, sink, 2 * batch)

    list(maintenance.expire(spark, LATER))

    assert len(load_table(catalog, BRONZE).snapshots()) == 1
    list(sink._stage.finish_pending(spark))
    write(spark, sink, 8)
    assert len(rows_of(spark, GOLD_TRADES)) == 10


def test_expiry_takes_the_files_that_nobody_can_read_any_more(
    spark, home, catalog, sink, maintenance, monkeypatch
):
    """What was put together, and what a driver that died had staged; what is read stays."""
    monkeypatch.setattr(module, "_KEPT_SNAPSHOTS", 1)
    for batch in range(6):
        write(spark, sink, 2 * batch)
    stage_rows(spark.table(table_name(GOLD_TRADES)), GOLD_TRADES, Guard("dead", "k2:dead:0=1"))
    list(maintenance.compact(spark, LATER))
    write(spark, sink, 12)
    before = rows_of(spark, GOLD_TRADES)
    folder = home.path / "warehouse" / "market" / GOLD_TRADES.name
    snapshots = len(load_table(catalog, GOLD_TRADES).snapshots())

    done = {action.table: dict(action.detail) for action in maintenance.expire(spark, LATER)}

    (only,) = load_table(catalog, GOLD_TRADES).snapshots()
    assert done[GOLD_TRADES.name] == {"snapshots": snapshots - 1}
    kept = {file.file_path.removeprefix("file:") for file in files_of(catalog, GOLD_TRADES)}
    assert {str(path) for path in folder.glob("data/**/*.parquet")} == kept
    lists = {str(path) for path in folder.glob("metadata/snap-*.avro")}
    assert lists == {only.manifest_list.removeprefix("file:")}
    assert rows_of(spark, GOLD_TRADES) == before


def test_expiry_leaves_what_is_tagged(spark, catalog, sink, maintenance, monkeypatch):
    """Its files too, though they have been put together since."""
    monkeypatch.setattr(module, "_KEPT_SNAPSHOTS", 1)
    for batch in range(3):
        write(spark, sink, 2 * batch)
    gold = load_table(catalog, GOLD_TRADES)
    tagged = gold.current_snapshot().snapshot_id
    gold.manage_snapshots().create_tag(tagged, "paper").commit()
    before = sorted(gold.scan().to_arrow()["trade_id"].to_pylist())
    monkeypatch.setattr(module, "MOST_CLOSED_FILES", 1)
    list(maintenance.compact(spark, LATER))
    write(spark, sink, 6)

    list(maintenance.expire(spark, LATER))

    gold = load_table(catalog, GOLD_TRADES)
    assert len(gold.snapshots()) == 2
    assert sorted(gold.scan(snapshot_id=tagged).to_arrow()["trade_id"].to_pylist()) == before
    assert gold.scan().to_arrow().num_rows == 8


def test_a_silent_exchange_keeps_no_snapshots_of_shared_tables(
    spark, catalog, sink, maintenance, monkeypatch
):
    """Where its flow stands is written down; it is not done again, and its next batch works."""
    monkeypatch.setattr(module, "_KEPT_SNAPSHOTS", 1)
    write(spark, sink, 0, dead=1)
    before = [rows_of(spark, spec) for spec in (BRONZE, DEAD_LETTERS, GOLD_TRADES)]
    own = fused_sink(spark, catalog, "kraken")
    for batch in range(2):
        write(spark, own, 2 * batch)

    list(maintenance.expire(spark, LATER))

    for spec in (DEAD_LETTERS, GOLD_TRADES):
        assert len(load_table(catalog, spec).snapshots()) == 1, spec.name
    successor = fused_sink(spark, catalog, "binance")
    assert list(successor._stage.finish_pending(spark)) == []
    write(spark, successor, 3)
    after = [rows_of(spark, spec) for spec in (BRONZE, DEAD_LETTERS, GOLD_TRADES)]
    assert [len(rows) for rows in after] == [len(before[0]) + 2, len(before[1]), len(before[2]) + 6]


def test_a_dead_letter_after_an_hour_without_any_is_taken(spark, catalog, maintenance, monkeypatch):
    """The table has forgotten the flow's last batch; its rows say that nobody else has published.

    A driver that slept meanwhile finds rows beyond its place, and is fenced.
    """
    monkeypatch.setattr(module, "_KEPT_SNAPSHOTS", 1)
    driver, sleeper = (open_dead_letters(spark, catalog) for _ in range(2))
    write_dead(spark, driver, 0)
    write_dead(spark, sleeper, 0)
    write(spark, fused_sink(spark, catalog, "kraken"), 0)
    list(maintenance.expire(spark, LATER))
    assert not list_published(load_table(catalog, DEAD_LETTERS), DeadLetterSink.flow)

    write_dead(spark, driver, 1)
    write(spark, fused_sink(spark, catalog, "kraken"), 2)
    list(maintenance.expire(spark, LATER))
    with pytest.raises(FencedError):
        write_dead(spark, sleeper, 1)
    assert len(rows_of(spark, DEAD_LETTERS)) == 2


def test_expiry_keeps_unfinished_batches(spark, catalog, sink, maintenance, monkeypatch):
    """A batch that only Bronze has can be finished after expiry has run."""
    from k2_medallion import promotion

    class DiedError(Exception):
        pass

    def die(*_):
        raise DiedError

    write(spark, sink, 0)
    monkeypatch.setattr(promotion, "publish_staged", die)
    monkeypatch.setattr(promotion, "publish_rows", die)
    with pytest.raises(DiedError):
        write(spark, sink, 2)
    monkeypatch.undo()

    list(maintenance.expire(spark, LATER))
    list(sink._stage.finish_pending(spark))

    assert len(rows_of(spark, GOLD_TRADES)) == 4


def test_bronze_keeps_the_day_of_its_newest_rows(spark, catalog, sink, maintenance):
    """Retention never takes away where the flow goes on, however old that is."""
    write(spark, sink, 0)
    far = datetime.now(UTC) + timedelta(days=200)

    done = {action.table for action in maintenance.retire(spark, far)}

    assert len(rows_of(spark, BRONZE)) == 2
    assert done == {"silver_binance_trades"}
    assert rows_of(spark, GOLD_TRADES)
    assert sink.read_positions(spark, {0}) == {0: 2}


def test_a_partition_without_new_rows_keeps_only_its_own_day(spark, catalog, maintenance):
    """The only symbol of a partition was dropped weeks ago: all other days still go."""
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    ages = [*range(41), 40]
    table = load_table(catalog, BRONZE)
    rows = [
        {
            "topic": "market.crypto.trades.binance",
            "partition": int(place == len(ages) - 1),
            "offset": 40 - age if place < len(ages) - 1 else 0,
            "ingestion_timestamp": now - timedelta(days=age),
            "ingestion_date": (now - timedelta(days=age)).date(),
        }
        for place, age in enumerate(ages)
    ]
    table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))

    (action,) = maintenance.retire(spark, now)

    left = [row.ingestion_date for row in spark.table(table_name(BRONZE)).collect()]
    kept = [(now - timedelta(days=age)).date() for age in (40, 40, *range(7, -1, -1))]
    assert sorted(left) == kept
    assert action.detail == {"days": 32, "before": "2026-11-17"}
    assert load_table(catalog, BRONZE).properties[RETIRED_BEFORE] == "2026-11-17"
    assert list(maintenance.retire(spark, now)) == []


def test_silver_keeps_what_came_late(spark, catalog, maintenance):
    """A trade of 40 days ago that came today stays as long as any that came today."""
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    table = load_table(catalog, SILVER)
    rows = [
        {
            "message_id": str(age),
            "timestamp": now - timedelta(days=age),
            "bronze_ingestion_timestamp": now - timedelta(days=came),
        }
        for age, came in [(50, 50), (40, 40), (40, 0), (29, 29)]
    ]
    table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))

    list(maintenance.retire(spark, now))

    left = sorted(row.message_id for row in spark.table(table_name(SILVER)).collect())
    assert left == ["29", "40", "40"]
    list(maintenance.retire(spark, now + timedelta(days=31)))
    assert rows_of(spark, SILVER) == []


def test_a_table_that_fails_does_not_keep_the_others_from_their_turn(
    spark, catalog, sink, maintenance, monkeypatch
):
    """A file of Bronze is gone; Gold is compacted all the same, and the failure is told."""
    monkeypatch.setattr(module, "MOST_OPEN_FILES", 1)
    monkeypatch.setattr(module, "MOST_CLOSED_FILES", 1)
    for place in (0, 2, 4):
        write(spark, sink, place)
    Path(find_path(files_of(catalog, BRONZE)[0].file_path)).unlink()
    with pytest.raises(Exception, match=r"(?s)."):
        list(maintenance.compact(spark, LATER))

    failed = []
    maintenance.on_failure = lambda duty, table, error: failed.append((duty, table))
    done = {action.table for action in maintenance.compact(spark, LATER)}

    assert failed == [("compact", BRONZE.name)]
    assert GOLD_TRADES.name in done


def test_a_partition_that_fails_does_not_keep_those_after_it_from_their_turn(
    spark, sink, maintenance, monkeypatch
):
    """The open hour, which comes last, must stay small whatever an old one is like."""
    monkeypatch.setattr(module, "MOST_OPEN_FILES", 1)
    monkeypatch.setattr(module, "MOST_CLOSED_FILES", 1)
    for place in (0, 2, 4, 6):
        write(spark, sink, place, hours=place % 4)
    rewritten, failed = [], []

    def rewrite(spark, spec, start, **_):
        if spec is GOLD_TRADES:
            rewritten.append(start)
            raise OSError("a file is gone")

    monkeypatch.setattr(maintenance, "_rewrite", rewrite)
    maintenance.on_failure = lambda duty, table, error: failed.append(table)
    list(maintenance.compact(spark, LATER))

    assert len(rewritten) == len(set(rewritten)) == failed.count(GOLD_TRADES.name) == 2


def test_days_whose_time_is_over_go(spark, catalog, maintenance):
    """Dead letters older than 90 days are dropped by the day, younger ones stay."""
    now = datetime(2026, 11, 24, tzinfo=UTC)
    days = [now.date() - timedelta(days=n) for n in (200, 91, 90, 1)]
    frame = spark.createDataFrame([(day,) for day in days], "dlq_date date")
    columns = [
        "dlq_date"
        if name == "dlq_date"
        else f"CAST(NULL AS {kind.replace('timestamptz', 'timestamp')}) AS {name}"
        for name, kind in DEAD_LETTERS.columns
    ]
    frame.selectExpr(*columns).writeTo(table_name(DEAD_LETTERS)).append()

    list(maintenance.retire(spark, now))

    left = [row[0] for row in spark.table(table_name(DEAD_LETTERS)).select("dlq_date").collect()]
    assert sorted(left) == sorted(days[2:])


def test_many_manifests_become_few(spark, catalog, sink, maintenance, monkeypatch):
    """Planning a query reads every manifest."""
    monkeypatch.setattr(module, "MOST_MANIFESTS", 2)
    for batch in range(4):
        write(spark, sink, 2 * batch)
    before = rows_of(spark, GOLD_TRADES)

    list(maintenance.merge_manifests(spark))

    table = load_table(catalog, GOLD_TRADES)
    assert len(table.current_snapshot().manifests(table.io)) == 1
    assert rows_of(spark, GOLD_TRADES) == before


def test_orphans_are_removed_and_young_files_are_not(spark, home, sink, maintenance):
    """A file of a write that is going on looks like an orphan, until it is days old."""
    import os

    write(spark, sink, 0)
    folder = home.path / "warehouse" / "market" / "bronze_binance_trades" / "data"
    old, young = folder / "old.parquet", folder / "young.parquet"
    for path in (old, young):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    week_ago = datetime.now(UTC).timestamp() - 7 * 86_400
    os.utime(old, (week_ago, week_ago))

    done = list(maintenance.remove_orphans(spark, datetime.now(UTC)))

    assert [action.detail for action in done] == [{"files": 1}]
    assert (old.exists(), young.exists()) == (False, True)
    assert len(rows_of(spark, BRONZE)) == 2
