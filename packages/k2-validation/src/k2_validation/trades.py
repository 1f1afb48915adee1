"""SILVER_TRADES: what a trade must be to leave Bronze for Silver."""

from __future__ import annotations

from datetime import timedelta

from .builders import equals, gt, not_after, not_before, one_of, present
from .ruleset import RuleSet

FUTURE_TOLERANCE = timedelta(seconds=5)
"""How far an exchange's clock may run ahead of ours."""

OLDEST_AGE = timedelta(days=365)
"""How long before its arrival a trade may have happened."""

# Times compare with the record's own arrival, never with the clock: a replay a year later must
# give the verdict of the first run.
SILVER_TRADES = RuleSet(
    "silver_trades",
    [
        gt("price", 0),
        gt("quantity", 0),
        present("symbol"),
        one_of("side", "BUY", "SELL"),
        not_after("timestamp", "ingestion_timestamp", tolerance=FUTURE_TOLERANCE),
        not_before("timestamp", "ingestion_timestamp", age=OLDEST_AGE),
        present("message_id"),
        equals("asset_class", "crypto"),
    ],
)
"""The eight rules of a valid trade, for frames and records with the fields of contract V2."""
