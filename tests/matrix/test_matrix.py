"""One column of the crash matrix, another one each day; `hatch run matrix` runs them all."""

from datetime import UTC, datetime

import pytest

from tests.matrix.__main__ import LIVES, run_column
from tests.matrix.rig import Rig

TODAY = list(LIVES)[datetime.now(UTC).toordinal() % len(LIVES)]


@pytest.mark.pipeline
@pytest.mark.timeout(900)
def test_todays_column_of_the_crash_matrix():
    """Killed at every step, the lake ends with what the ledger says, and nobody saw a duplicate."""
    with Rig() as rig:
        results = run_column(TODAY, rig, print)

    assert {step: found for step, (good, found, _) in results.items() if not good} == {}
