"""Whatever step an exchange's flow dies after, the next driver finishes it, once."""

import pytest
from py4j.protocol import Py4JNetworkError
from pyspark.sql import functions as F

from k2_medallion import (
    DEAD_LETTERS,
    GOLD_TRADES,
    ConservationError,
    FencedError,
    bronze_trades,
    open_catalog,
    promotion,
    publish,
    silver,
    silver_trades,
)
from k2_medallion.catalog import load_table
from k2_medallion.flow import Batch
from k2_medallion.fused import TradeSink
from k2_medallion.promotion import Promotion
from k2_medallion.published import list_published
from k2_medallion.spark import table_name
from k2_medallion.testing import KafkaRecord, kafka_frame
from k2_medallion.trade_contract import TradeContract
from k2_schemas import TradeCodec
from k2_schemas.testing import make_trade

pytestmark = [pytest.mark.spark, pytest.mark.filterwarnings("ignore::ResourceWarning")]

CODEC = TradeCodec()
TABLES = {
    "bronze": bronze_trades("binance"),
    "dlq": DEAD_LETTERS,
    "silver": silver_trades("binance"),
    "gold": GOLD_TRADES,
}
FIRST = [KafkaRecord(n % 2, n // 2, CODEC.encode(make_trade(100 + n))) for n in range(6)]
SECOND = [
    KafkaRecord(0, 3, CODEC.encode(make_trade(100))),  # a duplicate of the first batch
    KafkaRecord(0, 4, b"junk"),
    KafkaRecord(1, 3, CODEC.encode(make_trade(200))),
]


class DriverDiedError(Exception):
    """Stands for kill -9."""


@pytest.fixture
def sink(home, spark):
    """Open the sink as a new driver would."""

    def open_sink():
        catalog = open_catalog(home)
        return TradeSink(Promotion("binance", catalog, TradeContract.packaged()), catalog)

    return open_sink


def batch(start, end):
    """Return a batch of the flow."""
    return Batch("fused-binance", start, end)


def write(spark, sink, records, start, end):
    """Run one batch as the flow does."""
    rows = kafka_frame(spark, sink.topic, records)
    sink.write(rows, batch(start, end))


def finish(sink, spark):
    """Finish what an earlier driver left, as a new driver does at its start."""
    list(sink._stage.finish_pending(spark))


def die_after(monkeypatch, survived):
    """Let the driver die when it has published so many tables."""
    original, calls = publish.publish_staged, []

    def dying(*args, **kwargs):
        if len(calls) == survived:
            raise DriverDiedError
        calls.append(args)
        return original(*args, **kwargs)

    for module in (publish, promotion):
        monkeypatch.setattr(module, "publish_staged", dying)


def write_first(spark, sink):
    """Run the first batch."""
    sink.read_positions(spark, {0, 1})
    write(spark, sink, FIRST, {0: 0, 1: 0}, {0: 3, 1: 3})


def write_second(spark, sink):
    """Run the second batch."""
    sink.read_positions(spark, {0, 1})
    write(spark, sink, SECOND, {0: 3, 1: 3}, {0: 5, 1: 4})


def holdings(spark):
    """Return what each table holds: places of Bronze and dead letters, ids of Silver and Gold."""
    keys = {
        "bronze": ("partition", "offset"),
        "dlq": ("kafka_partition", "kafka_offset"),
        "silver": ("trade_id",),
        "gold": ("trade_id",),
    }
    return {
        layer: sorted(
            tuple(row) for row in spark.table(table_name(spec)).select(*keys[layer]).collect()
        )
        for layer, spec in TABLES.items()
    }


AFTER_BOTH = {
    "bronze": [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (1, 2), (1, 3)],
    "dlq": [(0, 4)],
    "silver": [(str(n),) for n in (100, 100, 101, 102, 103, 104, 105, 200)],
    "gold": [(str(n),) for n in (100, 101, 102, 103, 104, 105, 200)],
}


def test_two_batches_end_in_their_tables(spark, sink):
    """Bronze is every record; Silver and dead letters share it; Gold drops the duplicate."""
    write_first(spark, sink())
    write_second(spark, sink())

    assert holdings(spark) == AFTER_BOTH


@pytest.mark.parametrize("survived", [1, 2, 3])
def test_a_driver_that_dies_between_tables_is_finished_by_the_next(
    spark, sink, monkeypatch, survived
):
    """After Bronze, dead letters or Silver: roll-forward publishes the rest under the same id."""
    write_first(spark, sink())
    die_after(monkeypatch, survived)
    with pytest.raises(DriverDiedError):
        write_second(spark, sink())
    monkeypatch.undo()
    assert holdings(spark) != AFTER_BOTH

    successor = sink()
    finish(successor, spark)

    assert holdings(spark) == AFTER_BOTH
    assert successor.read_positions(spark, {0, 1}) == {0: 5, 1: 4}
    finish(successor, spark)
    assert holdings(spark) == AFTER_BOTH


@pytest.mark.parametrize(
    ("trade_id", "accepted"), [("300", True), ("200", False)], ids=["laxer", "stricter"]
)
def test_a_batch_that_is_judged_in_part_keeps_its_verdicts(
    spark, sink, monkeypatch, trade_id, accepted
):
    """Its dead letters are published; the driver that finishes it comes with other rules."""
    write_first(spark, sink())
    dead = KafkaRecord(0, 4, CODEC.encode(make_trade(300, price="0")))
    rival = sink()
    rival.read_positions(spark, {0, 1})
    die_after(monkeypatch, 2)
    with pytest.raises(DriverDiedError):
        write(spark, rival, [SECOND[0], dead, SECOND[2]], {0: 3, 1: 3}, {0: 5, 1: 4})
    monkeypatch.undo()

    judge_otherwise(monkeypatch, trade_id, accepted)
    finish(sink(), spark)

    assert holdings(spark) == AFTER_BOTH


def judge_otherwise(monkeypatch, trade_id, accepted):
    """Let one trade be judged so from now on."""
    judge = silver.judge

    def judge_anew(bronze, contract):
        rows, own = judge(bronze, contract), F.col("trade_id") == trade_id
        verdicts = {"accepted": F.lit(accepted), "error_type": F.lit(None if accepted else "range")}
        return rows.withColumns(
            {name: F.when(own, value).otherwise(F.col(name)) for name, value in verdicts.items()}
        )

    monkeypatch.setattr(silver, "judge", judge_anew)


@pytest.mark.parametrize("published", [1, 2, 3, 4])
def test_a_publish_whose_reply_is_lost_is_not_done_again(spark, sink, monkeypatch, published):
    """The catalog has committed Bronze, dead letters, Silver or Gold; its answer never came."""
    write_first(spark, sink())
    original, calls = publish.publish_staged, []

    def unanswered(*args, **kwargs):
        done = original(*args, **kwargs)
        calls.append(args)
        if len(calls) == published:
            raise Py4JNetworkError("Answer from Java side is empty")
        return done

    for module in (publish, promotion):
        monkeypatch.setattr(module, "publish_staged", unanswered)
    with pytest.raises(Py4JNetworkError):
        write_second(spark, sink())
    monkeypatch.undo()

    successor = sink()
    finish(successor, spark)

    assert holdings(spark) == AFTER_BOTH
    assert successor.read_positions(spark, {0, 1}) == {0: 5, 1: 4}


def test_a_driver_that_dies_before_bronze_leaves_nothing(spark, sink, monkeypatch):
    """Without its Bronze rows a batch never happened; it is read from Kafka again."""
    write_first(spark, sink())
    before = holdings(spark)

    def dying(*_args, **_kwargs):
        raise DriverDiedError

    for module in (publish, promotion):
        monkeypatch.setattr(module, "publish_staged", dying)
    with pytest.raises(DriverDiedError):
        write_second(spark, sink())

    successor = sink()
    finish(successor, spark)
    assert before == holdings(spark)
    assert successor.read_positions(spark, {0, 1}) == {0: 3, 1: 3}


def test_a_second_driver_with_the_same_rows_changes_nothing(spark, sink):
    """Two drivers that begin at one place collide; equal ranges are the same work, done once."""
    write_first(spark, sink())
    write_second(spark, sink())
    write_second(spark, sink())

    assert holdings(spark) == AFTER_BOTH


def test_a_second_driver_with_other_rows_is_fenced(spark, sink):
    """A zombie that read another range from the same place must stop, not add rows."""
    write_first(spark, sink())
    write_second(spark, sink())

    with pytest.raises(FencedError) as caught:
        write(spark, sink(), SECOND[:1], {0: 3, 1: 3}, {0: 4, 1: 3})

    assert caught.value.publish_id == "k2:fused-binance:0=3,1=3"
    assert holdings(spark) == AFTER_BOTH


def test_what_an_earlier_driver_published_under_an_id_is_checked(spark, home, sink):
    """Silver has the id with fewer rows than Bronze now yields: stop, do not take it for done."""
    write_first(spark, sink())
    write_second(spark, sink())
    bronze = bronze_trades("binance")
    first, _ = list_published(load_table(open_catalog(home), bronze), "fused-binance")
    spark.sql(f"CALL k2.system.set_current_snapshot('{bronze.identifier}', {first.snapshot_id})")
    more = [*SECOND, KafkaRecord(1, 4, CODEC.encode(make_trade(201)))]

    driver = sink()
    driver.read_positions(spark, {0, 1})
    with pytest.raises(ConservationError, match="as an earlier driver published") as caught:
        write(spark, driver, more, {0: 3, 1: 3}, {0: 5, 1: 5})

    assert (caught.value.expected, caught.value.found) == (3, 2)


def test_positions_do_not_trust_the_newest_day_alone(spark, sink):
    """A clock set back over midnight puts newer offsets into an older day."""
    table = table_name(bronze_trades("binance"))
    rows = [(0, 7, "2026-11-22"), (0, 3, "2026-11-23"), (1, 5, "2026-11-23"), (0, 1, "2026-11-20")]
    frame = spark.createDataFrame(rows, "partition int, offset bigint, day string")
    frame.selectExpr(
        "'k' message_key",
        "binary('x') raw_bytes",
        "'market.crypto.trades.binance' topic",
        "partition",
        "offset",
        "timestamp(day) kafka_timestamp",
        "timestamp(day) ingestion_timestamp",
        "date(day) ingestion_date",
    ).writeTo(table).append()

    assert sink().read_positions(spark, {0, 1}) == {0: 8, 1: 6}


def test_an_empty_lake_has_no_positions(spark, sink):
    """A partition without rows is the flow's to start at earliest."""
    assert sink().read_positions(spark, {0, 1}) == {}


def test_a_driver_that_slept_while_another_went_on_is_fenced(spark, sink):
    """Its batch's id may have been forgotten; that the table's newest is not its own has not."""
    sleeper = sink()
    sleeper.read_positions(spark, {0, 1})
    write_first(spark, sink())

    with pytest.raises(FencedError):
        write(spark, sleeper, SECOND, {0: 3, 1: 3}, {0: 5, 1: 4})


def test_a_driver_that_slept_within_a_batch_is_fenced(spark, sink, monkeypatch):
    """What it staged before it slept is not published after seven minutes."""
    write_first(spark, sink())
    before = holdings(spark)
    clock = publish.time.time
    monkeypatch.setattr(publish.time, "time", lambda: clock() + 1_300 * (len(asked) > 0))
    asked = []
    original = publish.stage_rows

    def stage_and_sleep(*args):
        staged = original(*args)
        asked.append(1)
        return staged

    monkeypatch.setattr(publish, "stage_rows", stage_and_sleep)

    with pytest.raises(FencedError):
        write_second(spark, sink())

    assert holdings(spark) == before
