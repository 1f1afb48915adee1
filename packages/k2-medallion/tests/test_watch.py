"""The monitor sees each of Silver's batches once, whoever runs it, and touches no row."""

import json

import pytest
from structlog.testing import capture_logs

from k2_medallion import open_catalog
from k2_medallion.flow import Batch
from k2_medallion.fused import TradeSink
from k2_medallion.promotion import Promotion
from k2_medallion.testing import KafkaRecord, kafka_frame
from k2_medallion.trade_contract import TradeContract
from k2_medallion.watch import Watch, WatchFlow
from k2_schemas import TradeCodec
from k2_schemas.testing import EXAMPLE_TIME_US, make_trade

pytestmark = [pytest.mark.spark, pytest.mark.filterwarnings("ignore::ResourceWarning")]

CODEC = TradeCodec()
FLOWS = ("fused-binance", "silver-binance")


@pytest.fixture
def write(spark, home):
    """Write trades with these ids as one batch."""
    catalog = open_catalog(home)
    sink = TradeSink(Promotion("binance", catalog, TradeContract.packaged()), catalog)
    places = [0]

    def write_batch(*ids):
        trades = [make_trade(n, timestamp_us=EXAMPLE_TIME_US + n * 1000) for n in ids]
        place = places[-1]
        records = [KafkaRecord(0, place + n, CODEC.encode(t)) for n, t in enumerate(trades)]
        places.append(place + len(ids))
        rows = kafka_frame(spark, sink.topic, records)
        sink.write(rows, Batch(sink.flow, {0: place}, {0: places[-1]}))

    return write_batch


def open_watch(home):
    """Open the watch as a driver that starts now."""
    return Watch("binance", open_catalog(home), home.path / "monitor" / "binance.json", FLOWS)


def gaps(incidents):
    """Return the kinds and ids of what a watch has found about ids."""
    return [(i.kind, i.first_missing_id, i.last_missing_id) for i in incidents if "gap" in i.kind]


def test_a_gap_between_batches_is_found_and_its_filling_too(home, write):
    """Ids 3 and 4 are missing after the second batch; late ones in the third fill them."""
    watch = open_watch(home)
    assert watch.observe_new() == []
    write(1, 2)
    write(5, 6)
    assert gaps(watch.observe_new()) == [("id_gap", 3, 4)]
    assert watch.observe_new() == []

    write(3, 4)

    assert [kind for kind, *_ in gaps(watch.observe_new())] == ["gap_filled"]


def test_another_driver_goes_on_where_the_state_ends(home, write):
    """The state lies beside the tables: a restart between two batches hides no gap."""
    first = open_watch(home)
    first.observe_new()
    write(1, 2)
    first.observe_new()
    write(5)

    assert gaps(open_watch(home).observe_new()) == [("id_gap", 3, 4)]
    assert set(json.loads((home.path / "monitor" / "binance.json").read_text())) == {
        "last_seen",
        "monitor",
    }


def test_a_first_start_begins_with_the_next_batch(home, write):
    """What was there before has been judged by nobody, and is no incident now."""
    write(1, 9)
    watch = open_watch(home)

    assert watch.observe_new() == []
    write(10, 11)
    assert gaps(watch.observe_new()) == []


@pytest.mark.parametrize("junk", ["", "{", "[]", '{"last_seen": "x"}', '{"last_seen": 1}'])
def test_a_state_that_cannot_be_read_begins_anew(home, write, junk):
    """Half written in a power cut, or of another version: no reason to stop the lake."""
    state = home.path / "monitor" / "binance.json"
    state.parent.mkdir()
    state.write_text(junk)
    with capture_logs() as logs:
        watch = open_watch(home)

    assert [(log["event"], log["exchange"]) for log in logs] == [("watch_state_lost", "binance")]
    watch.observe_new()
    write(1, 2)
    watch.observe_new()
    assert json.loads(state.read_text())["last_seen"] > 0


def test_a_watch_that_fails_ends_alone(home, write, spark):
    """Its state cannot be written: it is logged, and no reason to stop the flows of trades."""
    watch = open_watch(home)
    watch.observe_new()
    write(1, 2)
    (home.path / "monitor").write_text("a file where the folder should be")
    flow = WatchFlow(watch)

    with capture_logs() as logs:
        flow.start(spark)
        flow._thread.join(10)

    assert [(log["event"], log["exchange"]) for log in logs] == [("watch_failed", "binance")]
    flow.check()
