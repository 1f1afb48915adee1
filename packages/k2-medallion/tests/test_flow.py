"""A flow trusts the tables for where it stands, and its checkpoint for nothing but a plan."""

import json
from unittest.mock import MagicMock

import pytest

from k2_medallion import (
    CheckpointError,
    OffsetsLostError,
    TopicReplacedError,
    all_tables,
    bronze_trades,
    ensure_tables,
    open_catalog,
)
from k2_medallion import flow as module
from k2_medallion.flow import Batch, Flow
from k2_medallion.offsets import TopicState, check_positions, claim_topic, read_offset_log


class StubSink:
    """A sink that only has a name: planning touches nothing else."""

    flow = "fused-test"
    topic = "topic"
    with_headers = False


def plan(tmp_path, epochs, positions):
    """Plan the newest epoch of a checkpoint, given where the tables are."""
    (tmp_path / "offsets").mkdir()
    for epoch, offsets in enumerate(epochs):
        lines = ["v1", "{}", json.dumps({"topic": {str(p): o for p, o in offsets.items()}})]
        (tmp_path / "offsets" / str(epoch)).write_text("\n".join(lines))
    flow = Flow(StubSink(), tmp_path, {})
    flow._positions = dict(positions)
    return flow._plan_batch(len(epochs) - 1)


def test_an_ordinary_epoch_begins_where_the_tables_end(tmp_path):
    """Nothing is known yet of the rows; the id names where they begin."""
    batch, replayed = plan(tmp_path, [{0: 10, 1: 5}, {0: 14, 1: 5}], {0: 10, 1: 5})

    assert (Batch("fused-test", {0: 10, 1: 5}, {0: 14, 1: 5}), False) == (batch, replayed)
    assert batch.publish_id == "k2:fused-test:0=10,1=5"
    assert batch.offsets_read == 4


def test_an_epoch_that_the_tables_hold_is_empty(tmp_path):
    """A batch that was published before the checkpoint noticed is not read again."""
    batch, replayed = plan(tmp_path, [{0: 10}, {0: 14}], {0: 14})

    assert (batch.offsets_read, replayed) == (0, True)


def test_an_epoch_that_the_tables_hold_in_part_gives_the_rest(tmp_path):
    """An older checkpoint overlaps the tables: only what they lack is taken."""
    batch, replayed = plan(tmp_path, [{0: 10}, {0: 20}], {0: 14})

    assert (dict(batch.start), dict(batch.end), replayed) == ({0: 14}, {0: 20}, True)


def test_a_checkpoint_ahead_of_the_tables_stops_the_flow(tmp_path):
    """Going on would lose what lies between; the error says how to repair it."""
    with pytest.raises(CheckpointError, match="rm -r") as caught:
        plan(tmp_path, [{0: 10}, {0: 20}], {0: 4})

    expected = "partition 0 is at offset 4 in the tables, the checkpoint goes on at 10"
    assert expected == caught.value.problem


def test_a_new_partition_starts_at_its_beginning(tmp_path):
    """A partition added to the topic has no position yet."""
    batch, _ = plan(tmp_path, [{0: 10}, {0: 10, 1: 3}], {0: 10})

    assert batch.offsets_read == 3


def test_an_epoch_without_a_log_is_not_taken_for_an_empty_one(tmp_path):
    """Rows of an epoch that nobody can place are not passed over in silence."""
    assert read_offset_log(tmp_path, 7) is None
    with pytest.raises(CheckpointError, match="no offset log"):
        Flow(StubSink(), tmp_path, {})._plan_batch(7)


def test_a_partition_that_only_one_driver_has_seen_does_not_change_the_id():
    """Two drivers collide also while partitions are being added."""
    one, other = Batch("f", {0: 4}, {0: 9}), Batch("f", {0: 4, 1: 0}, {0: 9, 1: 2})

    assert "k2:f:0=4" == one.publish_id == other.publish_id


def test_tables_ahead_of_their_topic_stop_the_flow():
    """A topic made anew has other records under the same offsets."""

    def state(earliest, latest):
        return TopicState("id", {0: earliest}, {0: latest})

    assert check_positions(state(0, 5), "t", {0: 5}) == {}
    assert check_positions(state(5, 5), "t", {0: 5}) == {}
    assert check_positions(state(7, 9), "t", {0: 5}) == {0: (5, 7)}

    with pytest.raises(TopicReplacedError, match="partition 0 ends at offset 4, the tables hold 5"):
        check_positions(state(0, 4), "t", {0: 5})


def test_a_topic_of_another_id_is_refused(home):
    """The first topic that a table has read is its topic."""
    catalog = open_catalog(home, create=True)
    ensure_tables(catalog, all_tables(["binance"]))
    bronze = bronze_trades("binance")

    claim_topic(catalog, bronze, "t", "one")
    claim_topic(catalog, bronze, "t", "one")
    claim_topic(catalog, bronze, "another", "two")

    with pytest.raises(TopicReplacedError, match="its id is two, it was one"):
        claim_topic(catalog, bronze, "t", "two")
    catalog.close()


class LateSink(StubSink):
    """A sink whose tables end before what Kafka still has."""

    def claim(self, topic_id):
        """Take any topic."""

    def read_positions(self, spark, wanted):
        """Say where the tables end."""
        return {0: 300, 1: 7}


class StartedError(Exception):
    """Stands for the query."""


@pytest.mark.parametrize("accepted", [False, True])
def test_records_that_kafka_has_deleted_are_gone_on_without_only_when_told(
    tmp_path, monkeypatch, accepted
):
    """Then it reads from the first that is there: not from where its checkpoint stood."""
    state = TopicState("id", {0: 450, 1: 0}, {0: 500, 1: 9})
    monkeypatch.setattr(module, "describe_topic", lambda *_: state)
    (tmp_path / "offsets").mkdir()
    flow = Flow(LateSink(), tmp_path, {}, accept_lost=accepted)

    def begin(spark):
        raise StartedError

    monkeypatch.setattr(flow, "_read_stream", begin)
    with pytest.raises(StartedError if accepted else OffsetsLostError):
        flow.start(MagicMock())

    assert tmp_path.exists() is not accepted
    assert flow._positions == ({0: 450, 1: 7} if accepted else {})
