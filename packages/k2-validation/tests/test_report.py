import pyarrow as pa
import pytest

from k2_validation import RuleSet, gt, one_of, present, redrive

RULES = RuleSet(
    "quotes",
    [gt("price", 0), one_of("side", "BUY", "SELL"), present("note", severity="flag")],
)
TABLE = pa.table(
    {
        "price": [1, 0, -1, None, 5, 5],
        "side": ["BUY", "x", "y", "BUY", None, "SELL"],
        "note": ["", "n", "n", "n", "n", "n"],
    }
)


def test_a_report_counts_every_rule_and_what_fails_together(engines):
    """Equal on every engine, from a plain frame and from a tagged one."""
    for engine in engines.values():
        frame = engine.load(TABLE)
        report = RULES.report(frame)
        assert (report.rows, report.valid, report.dead, report.flagged) == (6, 2, 4, 1)
        assert report.failures == {
            "price_gt_0": 3,
            "side_one_of_BUY_SELL": 2 + 1,
            "note_present": 1,
        }
        assert report.together[("price_gt_0", "side_one_of_BUY_SELL")] == 2
        assert report.samples["note_present"] == ("note_present: note must be present, found ''",)
        assert str(RULES.report(RULES.tag(frame))) == str(report)


def test_a_report_is_a_text_for_people():
    """Counts, shares, samples with values, and what failed together."""
    text = str(RULES.report(TABLE))
    assert "quotes" in text
    assert "6 rows, 2 valid, 4 dead, 1 flagged" in text
    assert "price_gt_0: price must be > 0, found -1" in text
    assert "2  price_gt_0 + side_one_of_BUY_SELL" in text


@pytest.mark.parametrize("rows", [0, 6])
def test_a_report_of_nothing_names_every_rule(rows: int):
    """No rows or no failures: all counts are zero."""
    clean = pa.table({"price": [1] * rows, "side": ["BUY"] * rows, "note": ["n"] * rows})
    report = RULES.report(clean if rows else TABLE.slice(0, 0))
    assert (report.rows, report.valid, report.dead) == (rows, rows, 0)
    assert list(report.failures.values()) == [0, 0, 0]
    assert str(report)


def test_redrive_judges_dead_rows_by_todays_rules(engines):
    """What a mended rule accepts comes back, the rest is dead again with today's fingerprint."""
    mended = RuleSet("quotes", [gt("price", -1), one_of("side", "BUY", "SELL", "x")])
    for engine in engines.values():
        dead = RULES.split(engine.load(TABLE)).dead
        again = redrive(dead, mended)
        valid, still = engine.rows(again.valid), engine.rows(again.dead)
        assert [row["price"] for row in valid] == [0]
        assert len(valid) + len(still) == 4
        assert {row["rules_fingerprint"] for row in still} == {mended.fingerprint}
        assert list(valid[0]) == TABLE.column_names


def test_flags_never_kill_a_row(engines):
    """A set of flags alone calls every row valid, and says what it saw."""
    flags = RuleSet("flags", [gt("price", 0, severity="flag"), present("note", severity="flag")])
    for engine in engines.values():
        frame = engine.load(TABLE)
        valid, dead = map(engine.rows, flags.split(frame))
        assert (len(valid), len(dead)) == (6, 0)
        tagged = engine.rows(flags.tag(frame))
        assert {row["k2_valid"] for row in tagged} == {True}
        assert [row["k2_flagged_rules"] for row in tagged[:3]] == ["note_present"] + [
            "price_gt_0"
        ] * 2
        assert tagged[2]["k2_flag_reason"] == "price_gt_0: price must be > 0, found -1"
    assert [failure.severity for failure in flags.check({"price": 0, "note": "n"})] == ["flag"]


def test_more_rules_than_bits_are_all_told():
    """Beyond 64 rules, each failed one is still named."""
    many = RuleSet("many", [gt("price", bound, name=f"above_{bound}") for bound in range(130)])
    tagged = many.tag(TABLE).to_pylist()
    assert tagged[4]["k2_failed_rules"] == "; ".join(f"above_{bound}" for bound in range(5, 130))
