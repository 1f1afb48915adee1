"""Where a stage stands is in its own tables; what it cannot know, it says."""

import pytest
from structlog.testing import capture_logs

from k2_medallion import DEAD_LETTERS, bronze_trades, open_catalog, silver_trades
from k2_medallion.promotion import Promotion
from k2_medallion.stage import SilverStage
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
