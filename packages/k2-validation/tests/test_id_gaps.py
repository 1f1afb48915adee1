import json

from hypothesis import given
from hypothesis import strategies as st

from k2_validation import IdGapTracker, IdRange, IdStep, find_missing_ids, id_gaps

IDS = st.lists(st.integers(-30, 30), max_size=60)


def watch(ids: list[int]) -> tuple[IdGapTracker, list[IdStep]]:
    """Show the ids to a new tracker."""
    tracker = IdGapTracker()
    return tracker, [tracker.observe(trade_id) for trade_id in ids]


def test_a_hole_is_named_with_its_first_and_last_id():
    """What lies between two ids is the range to backfill."""
    tracker, steps = watch([7, 8, 12])
    assert steps[2] == IdStep(opened=IdRange(9, 11))
    assert tracker.missing == [IdRange(9, 11)]
    assert tracker.missing[0].size == 3


def test_late_ids_fill_a_gap_and_say_when_it_is_complete():
    """In any order, and only the last one of the gap closes it."""
    _, steps = watch([7, 12, 10, 8, 11, 9])
    assert [step.filled for step in steps] == [None] * 5 + [IdRange(8, 11)]


def test_repeats_change_nothing():
    """A reconnect sends trades again: no gap opens, none closes."""
    tracker, steps = watch([1, 2, 3, 2, 3, 1])
    assert steps == [IdStep()] * 6
    assert tracker.missing == []


def test_ids_before_the_first_are_part_of_the_run():
    """Trades from before the start, backfilled, leave no hole unnamed."""
    tracker, steps = watch([10, 7])
    assert steps[1].opened == IdRange(8, 9)
    assert (tracker.lowest, tracker.highest) == (7, 10)


@given(ids=IDS)
def test_a_watched_stream_and_a_stored_set_have_the_same_gaps(ids: list[int]):
    """Whatever order and repeats, the tracker is left with what the set lacks."""
    tracker, _ = watch(ids)
    assert tracker.missing == find_missing_ids(ids)


@given(ids=IDS)
def test_missing_ranges_are_the_complement(ids: list[int]):
    """Ids and missing ids together are every id from lowest to highest, once."""
    missing = [i for gap in find_missing_ids(ids) for i in range(gap.first, gap.last + 1)]
    assert sorted([*set(ids), *missing]) == (list(range(min(ids), max(ids) + 1)) if ids else [])


@given(ids=IDS)
def test_every_opened_gap_is_filled_or_still_missing(ids: list[int]):
    """No gap ends without a word."""
    tracker, steps = watch(ids)
    opened = [step.opened for step in steps if step.opened]
    filled = [step.filled for step in steps if step.filled]
    still = [gap for gap in opened if gap not in filled]
    left = {
        gap for gap in opened for part in tracker.missing if gap.first <= part.first <= gap.last
    }
    assert set(still) == left
    assert len(filled) == len(set(filled))


@given(ids=IDS, cut=st.integers(0, 60))
def test_a_stored_tracker_goes_on_where_it_was(ids: list[int], cut: int):
    """Through JSON and back, the next steps are the same."""
    tracker, _ = watch(ids[:cut])
    restored = IdGapTracker.restore(**json.loads(json.dumps(tracker.dump())))
    assert [restored.observe(i) for i in ids[cut:]] == [tracker.observe(i) for i in ids[cut:]]
    assert restored.dump() == tracker.dump()


def test_memory_is_bounded_and_what_is_given_up_is_named(monkeypatch):
    """With too many open ranges, the gap of the lowest ids is abandoned, visibly."""
    monkeypatch.setattr(id_gaps, "MOST_OPEN_RANGES", 3)
    tracker, steps = watch([0, 2, 4, 6, 8, 10])
    assert [step.abandoned for step in steps if step.abandoned] == [IdRange(1, 1), IdRange(3, 3)]
    assert tracker.missing == [IdRange(5, 5), IdRange(7, 7), IdRange(9, 9)]


def test_splitting_a_gap_is_bounded_too(monkeypatch):
    """A gap that is filled every other id falls into ranges no more than memory has room for."""
    monkeypatch.setattr(id_gaps, "MOST_OPEN_RANGES", 3)
    tracker, steps = watch([0, 20, *range(2, 20, 2)])
    assert any(step.abandoned == IdRange(1, 19) for step in steps)
    assert len(tracker.missing) <= 3
