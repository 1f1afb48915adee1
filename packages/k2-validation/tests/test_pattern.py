import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_validation import RuleDefinitionError, RuleSet, matches
from k2_validation.pattern import check_pattern
from k2_validation.self_test import write_match

ATOMS = st.sampled_from(
    ["a", "Z", "0", "_", "/", r"\.", r"\+", "[ab]", "[^a/]", "[A-Z0-9_-]", "[+.*]", r"[\]\\]", " "]
)
TIMES = st.sampled_from(["", "", "?", "*", "+", "{2}", "{1,2}", "{0,}"])
SIMPLE = st.lists(st.tuples(ATOMS, TIMES).map("".join), min_size=1, max_size=3).map("".join)
PATTERNS = SIMPLE | st.tuples(SIMPLE, SIMPLE, TIMES).map(lambda p: f"(?:{p[0]}|{p[1]}){p[2]}")
TEXTS = st.text("abZ0_/.+\\] *\n-é", max_size=5)


@settings(max_examples=150, deadline=None)
@given(pattern=PATTERNS, texts=st.lists(TEXTS, min_size=1, max_size=5))
def test_every_engine_reads_a_pattern_alike(engines, pattern: str, texts: list[str]):
    """From end to end, a last newline included."""
    rules = RuleSet("pattern", [matches("x", pattern, name="x_fits")])
    table = pa.table({"row": list(range(len(texts))), "x": texts})
    expected = [re.fullmatch(pattern, text) is not None for text in texts]
    assert [not rules.check({"x": text}) for text in texts] == expected
    for name, engine in engines.items():
        rows = sorted(engine.rows(rules.tag(engine.load(table))), key=lambda row: row["row"])
        assert [row["k2_valid"] for row in rows] == expected, name


@given(pattern=PATTERNS)
def test_a_match_can_be_written_for_every_pattern(pattern: str):
    """The self-test's valid text does match."""
    assert check_pattern("x", pattern).fullmatch(write_match(pattern))


@pytest.mark.parametrize(
    "pattern",
    [
        ".",
        r"\d+",
        r"\w",
        r"\bx",
        "^a",
        "a$",
        "a*?",
        "a++",
        "a**",
        "(?=a)",
        r"(a)\1",
        "(?P<n>a)",
        "(?i)a",
        "[a&&b]",
        "[a--b]",
        "[[:alpha:]]",
        "[z-a]",
        "[]",
        "(a",
        "a)",
        "*a",
        "é",
        "a{2,1}",
        "{",
    ],
)
def test_what_engines_read_differently_is_refused(pattern: str):
    """When the rule is written, with what to use instead."""
    with pytest.raises(RuleDefinitionError, match="use literals"):
        matches("x", pattern)
