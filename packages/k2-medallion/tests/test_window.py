"""Windows are half-open, aware of their zone, and whole candles where candles are asked for."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_medallion import QueryError
from k2_medallion.window import INTERVALS, Window, find_interval

TIMES = st.datetimes(
    datetime(1960, 1, 1),
    datetime(2100, 1, 1),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
)
STEPS = st.sampled_from(list(INTERVALS.values()))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(TIMES, STEPS)
def test_bounds_move_up_to_the_next_candle(time, step):
    """By less than a candle, never back, and not at all where one begins; on UTC's grid."""
    aligned = Window.make(time, time).align(step)

    assert timedelta() <= aligned.start - time < step
    assert (aligned.start - EPOCH) % step == timedelta()
    assert aligned.start == aligned.end
    assert aligned.align(step) == aligned


def test_no_bound_stays_no_bound():
    """Half of a window may be open."""
    window = Window.make(None, None).align(timedelta(minutes=5))

    assert window == (None, None)
    assert not window.empty
    assert window.begin_at(EPOCH) == (EPOCH, None)


@given(TIMES, TIMES)
def test_a_later_begin_never_widens(start, later):
    """A window that begins at a time holds nothing that it did not hold before."""
    window = Window.make(start, None).begin_at(later)

    assert window.start == max(start, later)


@given(TIMES)
def test_a_window_without_length_is_empty(time):
    """Its end is not in it."""
    assert Window.make(time, time).empty
    assert not Window.make(time, time + timedelta(microseconds=1)).empty


def test_swapped_bounds_and_times_without_zone_are_refused():
    """Each error says what to write instead."""
    with pytest.raises(QueryError, match="swap them"):
        Window.make(EPOCH + timedelta(1), EPOCH)
    with pytest.raises(QueryError, match=r"start=.* has no time zone"):
        Window.make(datetime(2026, 1, 1), None)


@pytest.mark.parametrize("name", ["2m", "1M", "", "60s", "1 day"])
def test_other_intervals_are_refused_with_those_there_are(name):
    """No candle of two minutes is made up."""
    with pytest.raises(QueryError, match="choose one of: 1m, 5m, 15m, 30m, 1h, 1d"):
        find_interval(name)
