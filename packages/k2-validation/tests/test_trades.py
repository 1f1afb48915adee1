import polars as pl
import pytest

from k2_validation import SILVER_TRADES
from k2_validation.testing import make_breakers, make_trade_record

RULE_NAMES = [rule.name for rule in SILVER_TRADES.rules]
SCHEMA = {"price": pl.Decimal(18, 8), "quantity": pl.Decimal(18, 8)}


def test_there_are_eight_rules():
    """The rules of Silver, by name, in the order in which reasons are given."""
    assert RULE_NAMES == [
        "price_gt_0",
        "quantity_gt_0",
        "symbol_present",
        "side_one_of_BUY_SELL",
        "timestamp_not_after_ingestion_timestamp_plus_5s",
        "timestamp_not_before_ingestion_timestamp_minus_365d",
        "message_id_present",
        "asset_class_equals_crypto",
    ]


def test_fingerprint_is_pinned():
    """The fingerprint in stored dead letters stays equal until a rule changes on purpose."""
    assert (
        SILVER_TRADES.fingerprint
        == "35583b5aba3f5a2709f59c94ce8d9e57ff2cfdfed1e5ef2daa88727d3d99c7ae"
    )


def test_the_example_trade_is_valid():
    """The example of the testing module passes every rule."""
    assert SILVER_TRADES.check(make_trade_record()) == ()


def test_every_rule_has_a_breaker():
    """No rule is a tautology: for each there is a trade that fails it."""
    assert list(make_breakers()) == RULE_NAMES


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_a_breaker_fails_its_rule_only(rule: str):
    """Each breaker fails the rule of its name and no other."""
    assert [failure.rule for failure in SILVER_TRADES.check(make_breakers()[rule])] == [rule]


@pytest.mark.parametrize(
    "field",
    [
        "price",
        "quantity",
        "symbol",
        "side",
        "timestamp",
        "ingestion_timestamp",
        "message_id",
        "asset_class",
    ],
)
def test_a_missing_value_is_a_dead_trade(field: str):
    """NULL in any field that a rule reads makes the trade dead."""
    assert SILVER_TRADES.check(make_trade_record(**{field: None}))


def test_split_on_frames_of_whole_trades():
    """Frames with all fields of the contract split as the records do, lists and maps untouched."""
    trades = [make_trade_record(), *make_breakers().values()]
    valid, dead = SILVER_TRADES.split(pl.DataFrame(trades, schema_overrides=SCHEMA))
    assert valid.to_dicts() == trades[:1]
    assert [reason.partition(":")[0] for reason in dead["error_reason"]] == RULE_NAMES
    assert dead["error_type"].to_list() == [rule.error_type for rule in SILVER_TRADES.rules]


def test_a_misspelt_field_is_refused_by_the_example():
    """make_trade_record does not take a field that a trade does not have."""
    with pytest.raises(TypeError, match="prize"):
        make_trade_record(prize=1)
