"""The publish protocol holds in every schedule, and every one of its rules is needed."""

import importlib.util
import sys
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location(
    "k2_protocol_twin", Path(__file__).with_name("protocol_twin.py")
)
twin = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = twin
_SPEC.loader.exec_module(twin)


def breached(seeds, rules):
    """Return the seeds whose schedule ends in a breach."""
    return {seed: found for seed in seeds if (found := twin.play(seed, rules))}


def test_a_thousand_schedules_of_crashes_sleep_and_expiry():
    """No reader sees a duplicate at any time; in the end every record is where it belongs, once."""
    assert breached(range(1_500), twin.Rules()) == {}


@pytest.mark.slow
def test_twenty_thousand_schedules():
    """The same at length."""
    assert breached(range(1_500, 21_500), twin.Rules()) == {}


@pytest.mark.parametrize(
    "rule",
    [
        "fence",
        "roll_forward",
        "positions_from_tables",
        "keep_needed",
        "write_down",
        "refuse_stale",
        "confirm",
        "dead_letters",
    ],
)
def test_every_rule_is_needed(rule):
    """With one rule left out, some schedule loses or doubles a record: the test can fail."""
    assert breached(range(1_500), twin.Rules(**{rule: False}))
