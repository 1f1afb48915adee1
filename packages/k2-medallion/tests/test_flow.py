"""A flow trusts the tables for where it stands, and its checkpoint for nothing but a plan."""

import json

import pytest

from k2_medallion import CheckpointError
from k2_medallion.flow import Batch, Flow
from k2_medallion.offsets import read_offset_log


class StubSink:
    """A sink that only has a name: planning touches nothing else."""

    flow = "fused-test"
    topic = "topic"
    with_headers = False
    offset_columns = ("partition", "offset")


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

    assert (caught.value.held_offset, caught.value.read_offset) == (4, 10)


def test_a_new_partition_starts_at_its_beginning(tmp_path):
    """A partition added to the topic has no position yet."""
    batch, _ = plan(tmp_path, [{0: 10}, {0: 10, 1: 3}], {0: 10})

    assert batch.offsets_read == 3


def test_an_epoch_without_a_log_has_no_offsets(tmp_path):
    """Reading the log of an epoch that Spark never planned is no error."""
    assert read_offset_log(tmp_path, 7) is None
