"""Where a stage stands is in its own tables; what it cannot know, it says."""

from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from k2_medallion import (
    DEAD_LETTERS,
    GOLD_CANDLES,
    GOLD_TRADES,
    bronze_trades,
    open_catalog,
    silver_trades,
)
from k2_medallion.frozen import find_cut
from k2_medallion.promotion import Promotion
from k2_medallion.stage import GoldStage, SilverStage
from k2_medallion.trade_contract import TradeContract

BRONZE, SILVER = bronze_trades("binance"), silver_trades("binance")


@pytest.fixture
def stage(home, write):
    """Open Binance's Silver stage as a driver that starts now."""
    catalog = open_catalog(home)
    yield SilverStage(Promotion("binance", catalog, TradeContract.packaged()), catalog)
    catalog.close()


def expire_all_but_newest(home, spec):
    """Do what another program's maintenance may do."""
    table = open_catalog(home).load_table(spec.identifier)
    old = [s.snapshot_id for s in table.snapshots() if s != table.current_snapshot()]
    table.maintenance.expire_snapshots().by_ids(old).commit()


def promote_first(publish):
    """Publish a Bronze batch, and what the stage makes of it."""
    number = publish(BRONZE, None, "k2:bronze-binance:")
    for spec in (DEAD_LETTERS, SILVER):
        publish(spec, None, f"k2:silver-binance:{number}")


def list_ids(stage):
    """Return the ids under which the stage's pending batches are to be published."""
    return [guard.publish_id for _, guard in stage.list_pending()]


def test_what_no_table_carries_is_pending(stage, publish):
    """One batch is promoted, the next two are not."""
    promote_first(publish)
    numbers = [publish(BRONZE, None, f"k2:bronze-binance:0={n}") for n in (1, 2)]

    with capture_logs() as logs:
        assert list_ids(stage) == [f"k2:silver-binance:{number}" for number in numbers]
    assert logs == []


def test_a_batch_begun_by_a_dead_driver_is_pending_and_nothing_is_amiss(stage, publish):
    """Its dead letters are there, its Silver rows are not."""
    number = publish(BRONZE, None, "k2:bronze-binance:")
    publish(DEAD_LETTERS, None, f"k2:silver-binance:{number}")

    with capture_logs() as logs:
        assert list_ids(stage) == [f"k2:silver-binance:{number}"]
    assert logs == []


def test_an_upstream_table_that_forgot_where_the_stage_stands_is_told_once(home, stage, publish):
    """Another program expired every snapshot but the newest; a batch between them was never read.

    The stage goes on with what there is: the rows are still in Bronze, and a replay finds them.
    """
    promote_first(publish)
    publish(BRONZE, None, "k2:bronze-binance:0=1")
    number = publish(BRONZE, None, "k2:bronze-binance:0=2")
    expire_all_but_newest(home, BRONZE)

    with capture_logs() as logs:
        assert list_ids(stage) == [f"k2:silver-binance:{number}"]
        stage.list_pending()
    (told,) = logs
    assert told["event"] == "upstream_forgotten"
    assert told["table"] == BRONZE.name
    assert "k2 replay" in told["next_step"]


def test_a_batch_without_candles_is_done_again_at_a_start_whatever_waits(home, write, publish):
    """Silver went on before Gold's driver died: the minutes of its last batch lack late trades."""
    catalog = open_catalog(home)
    stage = GoldStage(Promotion("binance", catalog, TradeContract.packaged()), catalog)
    numbers = [publish(SILVER, None, f"k2:silver-binance:{n}") for n in (1, 2)]
    publish(GOLD_TRADES, None, f"k2:gold-binance:{numbers[0]}")

    def list_numbers(**options):
        pending = stage.list_pending(**options)
        return [int(guard.publish_id.rpartition(":")[2]) for _, guard in pending]

    assert list_numbers() == numbers[1:]
    assert list_numbers(at_start=True) == numbers
    publish(GOLD_CANDLES, None, f"k2:gold-binance:{numbers[0]}")
    assert list_numbers(at_start=True) == numbers[1:]
    catalog.close()


def test_where_a_stage_stands_is_written_down_before_it_is_forgotten(home, stage, publish):
    """Not while its last batch is young: a second driver may have it in hand."""
    promote_first(publish)
    stage.write_down(datetime.now(UTC) - timedelta(hours=1))
    assert stage.find_needed(DEAD_LETTERS) is not None

    stage.write_down(datetime.now(UTC) + timedelta(seconds=1))
    assert [stage.find_needed(spec) for spec in (BRONZE, DEAD_LETTERS, SILVER)] == [None] * 3
    publish(DEAD_LETTERS, None, "k2:deadletter:")
    expire_all_but_newest(home, DEAD_LETTERS)
    publish(SILVER, None, "k2:replay-binance:")
    expire_all_but_newest(home, SILVER)

    with capture_logs() as logs:
        assert stage.list_pending(at_start=True) == []
        number = publish(BRONZE, None, "k2:bronze-binance:0=1")
        assert list_ids(stage) == [f"k2:silver-binance:{number}"]
    assert logs == []
    assert stage.find_needed(BRONZE) is not None


def test_verify_reads_what_is_written_down(home, stage, publish):
    """Or a batch that Silver has would count as on its way for ever."""
    promote_first(publish)
    stage.write_down(datetime.now(UTC) + timedelta(seconds=1))
    publish(SILVER, None, "k2:replay-binance:")
    expire_all_but_newest(home, SILVER)
    bronze, silver = (open_catalog(home).load_table(spec.identifier) for spec in (BRONZE, SILVER))

    assert find_cut(bronze, silver, "binance", ("bronze", "silver")).pending_batches == 0
