"""Valid trades and trades that break one rule each, for your tests and ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from .trades import FUTURE_TOLERANCE, OLDEST_AGE

EXAMPLE_ARRIVAL = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
"""The `ingestion_timestamp` of every example."""

_TICK = timedelta(microseconds=1)

_BREAKERS: dict[str, dict[str, object]] = {
    "price_gt_0": {"price": Decimal("0.00000000")},
    "quantity_gt_0": {"quantity": Decimal("-0.00000001")},
    "symbol_present": {"symbol": ""},
    "side_one_of_BUY_SELL": {"side": "buy"},
    "timestamp_not_after_ingestion_timestamp_plus_5s": {
        "timestamp": EXAMPLE_ARRIVAL + FUTURE_TOLERANCE + _TICK
    },
    "timestamp_not_before_ingestion_timestamp_minus_365d": {
        "timestamp": EXAMPLE_ARRIVAL - OLDEST_AGE - _TICK
    },
    "message_id_present": {"message_id": None},
    "asset_class_equals_crypto": {"asset_class": "equity"},
}


def make_trade_record(**changes: object) -> dict[str, object]:
    """Return a trade that `SILVER_TRADES` finds valid, except for what you change.

    It has the 15 fields of contract V2: Decimal prices, times in UTC.
    """
    record: dict[str, object] = {
        "message_id": "0f6a1a0c-2f0b-5c7e-9a51-6a6a3f1d2b4c",
        "trade_id": "3735683259",
        "symbol": "BTC/USDT",
        "exchange": "BINANCE",
        "asset_class": "crypto",
        "timestamp": EXAMPLE_ARRIVAL - timedelta(milliseconds=1),
        "price": Decimal("61837.63000000"),
        "quantity": Decimal("0.02000000"),
        "currency": "USDT",
        "side": "SELL",
        "trade_conditions": [],
        "source_sequence": 3_735_683_259,
        "ingestion_timestamp": EXAMPLE_ARRIVAL,
        "platform_sequence": 1,
        "vendor_data": {"pair": "BTCUSDT"},
    }
    unknown = changes.keys() - record.keys()
    if unknown:
        # A misspelt field would leave the record valid and the caller's test green.
        raise TypeError(f"a trade has no field {', '.join(sorted(unknown))}")
    return record | changes


def make_breakers() -> dict[str, dict[str, object]]:
    """Return for each rule name of `SILVER_TRADES` a trade that fails that rule and no other."""
    return {rule: make_trade_record(**changes) for rule, changes in _BREAKERS.items()}
