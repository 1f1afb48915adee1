from datetime import timedelta
from decimal import Decimal

import pytest

from k2_validation import (
    SILVER_TRADES,
    Row,
    RuleSet,
    SelfTestError,
    Term,
    between,
    equals,
    gt,
    lt,
    matches,
    not_after,
    not_before,
    one_of,
    present,
    rule,
)
from k2_validation.testing import make_breakers


@rule()
def spread_is_narrow(row: Row) -> Term:
    """The ask is at most one percent above the bid."""
    return (row.ask - row.bid) * 100 <= row.bid


@rule()
def equals_itself(row: Row) -> Term:
    """The price is the price."""
    return row.price == row.price


@rule()
def settled(row: Row) -> Term:
    """Settled within two days."""
    return row.settled <= row.traded + timedelta(days=2)


RICH = RuleSet(
    "rich",
    [
        matches("symbol", "[A-Z]{2,5}/(?:USD|EUR)"),
        between("price", Decimal("0.5"), 7),
        one_of("code", 1, 2, 5),
        equals("venue", "X"),
        not_after("t", "u", timedelta(seconds=1)),
        not_before("t", "u", timedelta(days=2)),
        spread_is_narrow,
        settled,
        present("note", severity="flag"),
    ],
)


@pytest.mark.parametrize("rules", [SILVER_TRADES, RICH])
def test_every_rule_can_pass_and_can_fail(rules: RuleSet):
    """The valid records pass all; each breaker fails its rule, and no other."""
    proof = rules.self_test()
    assert proof.valid
    assert all(rules.check(record) == () for record in proof.valid)
    assert list(proof.breakers) == [rule.name for rule in rules.rules]
    for name, breaker in proof.breakers.items():
        assert [failure.rule for failure in rules.check(breaker)] == [name]


@pytest.mark.parametrize(
    ("rules", "cannot_pass", "cannot_fail"),
    [
        ([gt("a", 5), lt("a", 5)], ("gt", "lt"), ()),
        ([gt("price", 0), equals_itself], (), ("equals_itself",)),
    ],
)
def test_contradictions_and_tautologies_are_found(rules, cannot_pass, cannot_fail):
    """Rules that exclude each other pass nothing; one that a NULL alone fails says nothing."""
    with pytest.raises(SelfTestError) as caught:
        RuleSet("bad", rules).self_test()
    assert len(caught.value.cannot_pass) == len(cannot_pass)
    assert caught.value.cannot_fail == cannot_fail


def test_examples_reach_what_no_bound_suggests():
    """A rule whose condition is far from its numbers is proven by a record of yours."""

    @rule()
    def far(row: Row) -> Term:
        """Three a and five b are seven million."""
        return 3 * row.a + 5 * row.b == 7_000_000

    rules = RuleSet("far", [far])
    with pytest.raises(SelfTestError, match="examples="):
        rules.self_test()
    assert rules.self_test(examples=[{"a": 1_500_000, "b": 500_000}]).breakers


def test_our_own_breakers_serve_as_examples():
    """Records given are tried first."""
    breakers = make_breakers()
    proof = SILVER_TRADES.self_test(examples=list(breakers.values()))
    assert proof.breakers == breakers
