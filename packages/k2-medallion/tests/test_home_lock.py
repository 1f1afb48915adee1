"""Who may work on a home beside whom."""

import pytest

from k2_medallion.errors import HomeBusyError
from k2_medallion.home_lock import hold_home, hold_topology


def test_drivers_share_a_home(home):
    """Which of two may publish is decided by the tables."""
    first, second = (hold_topology(home, "fused") for _ in range(2))
    with hold_home(home), first, hold_home(home), second:
        pass


@pytest.mark.parametrize(("first", "second"), [("fused", "staged"), ("staged", "fused")])
def test_drivers_of_two_topologies_do_not(home, first, second):
    """They publish the same records under other ids, so no table could refuse the second."""
    busy = pytest.raises(HomeBusyError, match=f'topology = "{first}"')
    with hold_topology(home, first), busy, hold_topology(home, second):
        pass
    with hold_topology(home, second):
        pass


@pytest.mark.parametrize("alone", [(True, False), (False, True), (True, True)])
def test_a_repair_is_alone(home, alone):
    """It compares tables while nobody changes them."""
    first, second = alone
    busy = pytest.raises(HomeBusyError, match="end it, or wait")
    with hold_home(home, alone=first), busy, hold_home(home, alone=second):
        pass
