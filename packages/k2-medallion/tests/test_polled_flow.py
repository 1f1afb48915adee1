"""PolledFlow: what is there to do is done at once, and whoever runs the flow hears how it ended."""

import threading

import pytest

from k2_medallion.polled_flow import PolledFlow

pytestmark = pytest.mark.spark

_LONG_S = 60.0


class Turns(PolledFlow):
    """Takes what `work` holds, a turn each; raises what is an error; waits for `gate` in a turn."""

    def __init__(self, *work):
        super().__init__("turns", _LONG_S)
        self.work = list(work)
        self.taken = []
        self.pools = set()
        self.begun, self.idle = threading.Event(), threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def take_turn(self, spark):
        """Take the next piece of work."""
        self.pools.add(spark.sparkContext.getLocalProperty("spark.scheduler.pool"))
        if not self.work:
            self.idle.set()
            return False
        piece = self.work.pop(0)
        self.taken.append(piece)
        self.begun.set()
        assert self.gate.wait(_LONG_S)
        if isinstance(piece, Exception):
            raise piece
        return True


def test_turns_follow_at_once_while_there_is_something_to_do(spark):
    """Three pieces of work take no poll between them, and run in the flow's own pool."""
    flow = Turns("a", "b", "c")
    assert flow.start(spark)
    assert flow.idle.wait(5)
    flow.check()
    flow.stop()

    assert flow.taken == ["a", "b", "c"]
    assert flow.pools == {"turns"}
    assert spark.sparkContext.getLocalProperty("spark.scheduler.pool") is None


def test_what_ends_a_flow_is_raised_where_it_is_watched(spark):
    """The turn after the one that raised is never taken."""
    flow = Turns("a", ValueError("no such batch"), "b")
    flow.start(spark)
    flow._thread.join(5)

    with pytest.raises(ValueError, match="no such batch"):
        flow.check()
    assert flow.work == ["b"]


def test_a_stop_waits_for_the_running_turn_and_begins_no_other(spark):
    """What is being published is published in full; nothing is begun after it."""
    flow = Turns("a", "b")
    flow.gate.clear()
    flow.start(spark)
    assert flow.begun.wait(5)
    stopper = threading.Thread(target=flow.stop)
    stopper.start()
    assert flow.stopping.wait(5)
    flow.gate.set()
    stopper.join(5)

    assert not stopper.is_alive()
    assert (flow.taken, flow.work) == (["a"], ["b"])
    flow.check()
