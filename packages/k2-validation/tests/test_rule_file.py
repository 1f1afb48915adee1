from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from k2_validation import (
    SILVER_TRADES,
    Row,
    RuleFileError,
    RuleSet,
    Term,
    between,
    equals,
    ge,
    gt,
    le,
    lt,
    matches,
    not_after,
    not_before,
    one_of,
    present,
    rule,
)


@rule()
def spread_is_positive(row: Row) -> Term:
    """The ask is above the bid."""
    return row.ask > row.bid


EVERY = RuleSet(
    "every rule",
    [
        present("a", severity="flag"),
        gt("a", 0.1),
        ge("a", Decimal("1E-18"), name="barely"),
        lt("a", 10**17),
        le("a", -3, error_type="consistency"),
        between("a", -1, Decimal("2.50")),
        one_of("b", "BUY", 'say "x"\n'),
        one_of("c", 1, 2),
        equals("b", "ü\x7f"),
        equals("c", 5),
        matches("b", r"[A-Z]{2,9}(?:/|\.)[^/]+"),
        not_after("t", "u", timedelta(milliseconds=1500)),
        not_before("t", "u"),
        spread_is_positive,
    ],
)


@pytest.mark.parametrize("rules", [EVERY, SILVER_TRADES])
def test_toml_and_code_are_one_rule_set(rules: RuleSet, tmp_path: Path):
    """Written as TOML and read back: equal rules, equal fingerprint."""
    path = tmp_path / "rules.toml"
    path.write_text(rules.to_toml(), encoding="utf-8")
    read = RuleSet.load(path, custom=[spread_is_positive])
    assert read == rules
    assert read.fingerprint == rules.fingerprint


def test_a_toml_number_is_the_number_that_is_written():
    """0.1 is a tenth, and not the float beside it."""
    text = 'name = "a"\n[[rules]]\nrule = "gt"\ncolumn = "x"\nbound = 0.1'
    assert RuleSet.from_toml(text).fingerprint == RuleSet("a", [gt("x", 0.1)]).fingerprint


@pytest.mark.parametrize(
    ("rule_text", "found"),
    [
        ('rule = "gtt"\ncolumn = "x"\nbound = 1', "did you mean 'gt'"),
        ('rule = "is_prime"\ncolumn = "x"', "use one of present, gt"),
        ('rule = "gt"\ncolumn = "x"\nbuond = 1', "did you mean 'bound'"),
        ('rule = "gt"\ncolumn = "x"', "lacks bound"),
        ('rule = "gt"\nbound = 1', "lacks column"),
        ('rule = "one_of"\ncolumn = "x"', "lacks values"),
        ('rule = "gt"\ncolumn = "price"\nbound = "1"', "`bound` wants a number and found str 1"),
        ('rule = "gt"\ncolumn = "x"\nbound = true', "found bool True"),
        ('rule = "gt"\ncolumn = "x"\nbound = nan', "18 whole or 18 fraction"),
        ('rule = "gt"\ncolumn = 1\nbound = 1', "`column` wants a text and found int 1"),
        ('rule = "one_of"\ncolumn = "x"\nvalues = [1.5]', "a list of texts"),
        ('rule = "not_after"\ncolumn = "t"\nother = "u"\ntolerance = 5', "such as '5s'"),
        ('rule = "not_after"\ncolumn = "t"\nother = "u"\ntolerance = "5 s"', "such as '5s'"),
        ('rule = "matches"\ncolumn = "x"\npattern = "\\\\d+"', "read alike"),
        ('rule = "present"\ncolumn = "x"\nseverity = "warn"', "unknown severity 'warn'"),
        ('custom = "unheard_of"', "custom rule 'unheard_of'"),
        ('rule = "eval"\ncolumn = "x"', "unknown rule 'eval'"),
        ("rule =", "not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(rule_text: str, found: str):
    """The error says which rule and key, what was found, and what to write."""
    with pytest.raises(RuleFileError) as caught:
        RuleSet.from_toml(f'name = "a"\n[[rules]]\n{rule_text}\n')
    assert found in str(caught.value)
    assert "rule" in caught.value.name


@pytest.mark.parametrize(
    "text", ["", 'name = "a"', "rules = []", 'name = "a"\nrules = 1', "name = 1\nrules = []"]
)
def test_a_file_without_name_or_rules_is_refused(text: str):
    """Nothing in it is not an empty rule set."""
    with pytest.raises(RuleFileError):
        RuleSet.from_toml(text)
