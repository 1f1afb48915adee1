"""Sequencer: each id once, in order, and what is missing by name."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_connectors.event import BACKFILL, ORIGIN
from k2_connectors.rest import Hole
from k2_connectors.sequencer import HOLD_NS, LEAP, Sequencer
from k2_schemas import Trade
from k2_schemas.testing import make_trade


def trade(trade_id: int) -> Trade:
    """A trade of an id, its time told by the id."""
    return make_trade(trade_id, timestamp_us=1_000_000 + trade_id)


def ids(trades: list[Trade]) -> list[int | None]:
    """The ids of trades."""
    return [t.source_sequence for t in trades]


def feed(sequencer: Sequencer, *trade_ids: int, now_ns: int = 0) -> list[int | None]:
    """Accept ids at one moment; return those that went on."""
    return [i for n in trade_ids for i in ids(sequencer.accept(trade(n), now_ns))]


def test_ids_in_order_go_on_at_once():
    """The usual case holds nothing back."""
    assert feed(Sequencer("P", 5), 5, 6, 7) == [5, 6, 7]


def test_known_ids_are_dropped_and_counted():
    """A snapshot after a reconnect repeats what we have."""
    sequencer = Sequencer("P", 5)

    assert feed(sequencer, 5, 5, 4, 6, 5) == [5, 6]
    assert sequencer.duplicates == 3


def test_early_ids_wait_for_the_ones_before_them():
    """A reordering network costs a moment, not a fetch."""
    sequencer = Sequencer("P", 5)

    assert feed(sequencer, 7, 6) == []
    assert sequencer.held == 2
    assert feed(sequencer, 5) == [5, 6, 7]
    assert (sequencer.held, sequencer.deadline_ns, sequencer.holes) == (0, None, ())


def test_after_the_hold_live_trades_pass_and_the_hole_has_a_name():
    """Exactly what is missing, and the time before it."""
    sequencer = Sequencer("P", 5, last_us=77)
    feed(sequencer, 8, 9, 12, now_ns=1)

    assert sequencer.release(HOLD_NS) == []
    assert ids(sequencer.release(HOLD_NS + 1)) == [8, 9, 12]
    assert sequencer.holes == (Hole("P", 5, 7, 77), Hole("P", 10, 11, 1_000_009))
    assert feed(sequencer, 13) == [13]


def test_a_first_start_begins_with_the_lowest_id_of_its_first_moment():
    """The first frames may come in any order; nothing before them is missing."""
    sequencer = Sequencer("P")

    assert feed(sequencer, 9, 8, 10) == []
    assert ids(sequencer.release(HOLD_NS)) == [8, 9, 10]
    assert sequencer.holes == ()


def test_fetched_trades_fill_their_hole_once():
    """What is not missing is not passed on."""
    sequencer = Sequencer("P", 5)
    feed(sequencer, 9)
    sequencer.release(HOLD_NS)

    assert [sequencer.fill(trade(n)) for n in (4, 6, 6, 5, 8, 7, 9)] == [
        *(False, True, False, True, True, True, False)
    ]
    assert sequencer.holes == ()


def test_a_live_trade_behind_its_time_is_kept_for_when_nobody_else_has_it():
    """Order within an origin holds, and still nothing that was in hand is lost."""
    sequencer = Sequencer("P", 5)
    feed(sequencer, 9)
    sequencer.release(HOLD_NS)

    assert feed(sequencer, 6) == []
    late, lost = sequencer.close(Hole("P", 5, 8))
    assert ids(late) == [6]
    assert [(h.first_id, h.last_id) for h in lost] == [(5, 5), (7, 8)]
    assert sequencer.holes == ()


def test_closing_a_part_leaves_the_rest_missing():
    """Only what is given up is given up."""
    sequencer = Sequencer("P", 5)
    feed(sequencer, 20)
    sequencer.release(HOLD_NS)
    _, lost = sequencer.close(Hole("P", 8, 10))

    assert [(h.first_id, h.last_id) for h in lost] == [(8, 10)]
    assert [(h.first_id, h.last_id) for h in sequencer.holes] == [(5, 7), (11, 19)]


def test_skipping_ahead_names_everything_between():
    """REST showed trades that the socket never brought."""
    sequencer = Sequencer("P", 5)
    feed(sequencer, 7, 10)

    assert ids(sequencer.skip_to(9)) == [10]
    assert [n for n in range(4, 12) if sequencer.fill(trade(n))] == [5, 6, 7, 8, 9]
    assert sequencer.next_id == 11


def test_what_was_dropped_behind_us_is_missing_again():
    """An overflowing queue is a hole like any other."""
    sequencer = Sequencer("P", 5)
    feed(sequencer, *range(5, 20))
    sequencer.reopen(Hole("P", 10, 12))

    assert [n for n in range(5, 20) if sequencer.fill(trade(n))] == [10, 11, 12]


def test_what_is_held_is_bounded():
    """A flood of early ids is let go before it fills the memory."""
    sequencer = Sequencer("P", 5, max_held=10)
    for n in range(10, 19):
        assert feed(sequencer, n) == []
    feed(sequencer, 19)

    assert sequencer.is_full
    assert ids(sequencer.release(0)) == list(range(10, 20))


def test_a_lone_id_far_ahead_does_not_move_the_sequence():
    """One wrong number of a venue must not make every later trade a known one."""
    sequencer = Sequencer("P", 5)
    feed(sequencer, 5, 5 + LEAP * 2)

    assert ids(sequencer.release(HOLD_NS)) == [5 + LEAP * 2]
    assert feed(sequencer, 6, 7) == [6, 7]
    assert sequencer.holes == ()


def test_a_lone_id_far_ahead_that_was_dropped_behind_us_may_come_again():
    """It is no hole of a sequence that has not come so far; nor may it be taken for delivered."""
    sequencer = Sequencer("P", 5)
    feed(sequencer, 5, 5 + LEAP * 2)
    sequencer.release(HOLD_NS)

    assert sequencer.reopen(Hole("P", 5 + LEAP * 2, 5 + LEAP * 2)) is None
    assert sequencer.reopen(Hole("P", 5, 5 + LEAP * 2)) == Hole("P", 5, 5)
    feed(sequencer, 5 + LEAP * 2, now_ns=HOLD_NS)
    assert ids(sequencer.release(HOLD_NS * 2)) == [5 + LEAP * 2]


def test_a_lone_id_far_ahead_is_not_lost_with_what_is_given_up_around_it():
    """It has gone on: a gap must not name it."""
    sequencer = Sequencer("P", 5)
    stray = 5 + LEAP * 2
    feed(sequencer, stray)
    sequencer.release(HOLD_NS)
    feed(sequencer, stray + 2, stray + 3, now_ns=HOLD_NS)
    sequencer.release(HOLD_NS * 2)
    late, lost = sequencer.close(Hole("P", 5, stray + 1))

    assert (late, [(h.first_id, h.last_id) for h in lost]) == (
        [],
        [(5, stray - 1), (stray + 1, stray + 1)],
    )


def test_an_id_of_what_is_no_trade_begins_nothing():
    """Read of a broken frame, it may be any number, and everything below it would be known."""
    sequencer = Sequencer("P")
    assert sequencer.accept_dead(10**18, 0) == []
    assert sequencer.release(HOLD_NS) == []
    feed(sequencer, 7, now_ns=HOLD_NS)

    assert ids(sequencer.release(HOLD_NS * 2)) == [7]
    assert (sequencer.next_id, sequencer.holes, sequencer.held) == (8, (), 0)


def test_a_live_trade_that_came_late_stands_in_for_a_row_that_is_none():
    """The venue has it in two ways, and one of them is good."""
    sequencer = Sequencer("P", 5)
    feed(sequencer, 8)
    sequencer.release(HOLD_NS)
    feed(sequencer, 6)
    found = sequencer.fill_dead(6)

    assert isinstance(found, Trade)
    assert (found.source_sequence, found.vendor_data[ORIGIN]) == (6, BACKFILL)
    assert [sequencer.fill_dead(n) for n in (6, 5, 99)] == [False, True, False]
    assert sequencer.holes == (Hole("P", 7, 7),)


@pytest.mark.parametrize("count", [50, 1000])
def test_what_rest_brought_and_the_socket_repeats_is_known(count: int):
    """A socket that stalled while REST answered, and the snapshot of the next one."""
    sequencer = Sequencer("P", 5, last_us=1_000_004)
    later = [make_trade(n, timestamp_us=n * 10_000_000) for n in range(5, 5 + count)]
    sequencer.skip_to(4 + count)
    assert all(sequencer.fill(one) for one in later)

    assert [sequencer.accept(one, 0) for one in later] == [[]] * count
    assert sequencer.duplicates == count


def test_what_an_earlier_run_had_as_dead_letters_is_known():
    """They have no time, so the position's is older than they are."""
    sequencer = Sequencer("P", 10_161, last_us=1_000_000)

    assert feed(sequencer, *range(10_000, 10_161), now_ns=0) == []
    later = [make_trade(n, timestamp_us=60_000_000) for n in range(10_100, 10_161)]
    assert [sequencer.accept(one, 0) for one in later] == [[]] * 61


def test_ids_that_go_on_far_ahead_are_a_jump():
    """After a long absence the sequence is where the venue is; what was missed has a name."""
    sequencer = Sequencer("P", 5, last_us=1)
    feed(sequencer, LEAP * 2, LEAP * 2 + 1)

    assert ids(sequencer.release(HOLD_NS)) == [LEAP * 2, LEAP * 2 + 1]
    assert sequencer.holes == (Hole("P", 5, LEAP * 2 - 1, 1),)


@pytest.mark.parametrize("dead", [5, 6, 9])
def test_a_trade_that_came_as_a_dead_letter_is_not_missing(dead: int):
    """Nobody is asked for it; its neighbours go on."""
    sequencer = Sequencer("P", 5)
    passed = []
    for n in range(5, 10):
        passed += ids(sequencer.accept_dead(n, 0)) if n == dead else feed(sequencer, n)

    assert passed == [n for n in range(5, 10) if n != dead]
    assert (sequencer.next_id, sequencer.holes, sequencer.held) == (10, (), 0)


@given(st.integers(0, 2**32), st.integers(1, 60))
@settings(max_examples=200, deadline=None)
def test_any_order_with_repeats_comes_out_once_and_sorted(seed: int, count: int):
    """Shuffled, repeated, thinned: what goes on and what is missing are all there is."""
    pick = random.Random(seed)
    sequencer = Sequencer("P", 1)
    sent = [n for n in range(1, count + 1) if pick.random() > 0.2]
    arriving = sent + [n for n in sent if pick.random() < 0.3]
    pick.shuffle(arriving)
    passed = feed(sequencer, *arriving)
    passed += ids(sequencer.release(HOLD_NS))
    missing = [n for h in sequencer.holes for n in range(h.first_id, h.last_id + 1)]

    assert passed == sent
    assert missing == [n for n in range(1, max(sent, default=0)) if n not in sent]


@pytest.mark.parametrize("hold_ns", [0, 1, HOLD_NS])
def test_the_deadline_is_that_of_the_first_that_waits(hold_ns: int):
    """A steady stream of early ids cannot put it off."""
    sequencer = Sequencer("P", 1, hold_ns=hold_ns)
    feed(sequencer, 5, now_ns=100)
    feed(sequencer, 6, now_ns=200)

    assert sequencer.deadline_ns == 100 + hold_ns
