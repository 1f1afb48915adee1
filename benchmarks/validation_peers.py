"""The libraries that k2-validation is compared with, each used as its own documentation shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import dataframely as dy
import pandera.polars as pa
import pointblank as pb
import polars as pl

from k2_validation import Row, RuleSet, Term, gt, one_of, rule

Halves = tuple[Any, Any | None]

AGE, AHEAD = timedelta(days=365), timedelta(seconds=5)


class DataframelyTrades(dy.Schema):
    """The eight rules as dataframely has them: constraints on columns, and two rules."""

    message_id = dy.String(nullable=False, min_length=1)
    trade_id = dy.String(nullable=True)
    symbol = dy.String(nullable=False, min_length=1)
    exchange = dy.String(nullable=True)
    asset_class = dy.String(nullable=False, regex="^crypto$")
    timestamp = dy.Datetime(nullable=False, time_unit="us", time_zone="UTC")
    ingestion_timestamp = dy.Datetime(nullable=False, time_unit="us", time_zone="UTC")
    price = dy.Decimal(18, 8, nullable=False, min_exclusive=0)
    quantity = dy.Decimal(18, 8, nullable=False, min_exclusive=0)
    currency = dy.String(nullable=True)
    side = dy.String(nullable=False, check=lambda column: column.is_in(["BUY", "SELL"]))
    source_sequence = dy.Int64(nullable=True)

    @dy.rule()
    def not_after(cls) -> pl.Expr:  # noqa: N805
        """The time is at most 5 s after the arrival."""
        return pl.col("timestamp") <= pl.col("ingestion_timestamp") + AHEAD

    @dy.rule()
    def not_before(cls) -> pl.Expr:  # noqa: N805
        """The time is at most 365 days before the arrival."""
        return pl.col("timestamp") >= pl.col("ingestion_timestamp") - AGE


def split_dataframely(frame: pl.DataFrame) -> Halves:
    """Return its result and what its failure holds."""
    good, failure = DataframelyTrades.filter(frame)
    return good, failure.invalid()


def _compare_times(data: Any) -> pl.LazyFrame:
    time, arrival = pl.col("timestamp"), pl.col("ingestion_timestamp")
    return data.lazyframe.select((time <= arrival + AHEAD) & (time >= arrival - AGE))


PANDERA_TRADES = pa.DataFrameSchema(
    {
        "message_id": pa.Column(str, pa.Check.str_length(min_value=1)),
        "symbol": pa.Column(str, pa.Check.str_length(min_value=1)),
        "asset_class": pa.Column(str, pa.Check.eq("crypto")),
        "price": pa.Column(pl.Decimal(18, 8), pa.Check.gt(0)),
        "quantity": pa.Column(pl.Decimal(18, 8), pa.Check.gt(0)),
        "side": pa.Column(str, pa.Check.isin(["BUY", "SELL"])),
    },
    checks=[pa.Check(_compare_times)],
    drop_invalid_rows=True,
)


def split_pandera(frame: pl.DataFrame) -> Halves:
    """Return what drop_invalid_rows keeps; it gives no dead rows."""
    return PANDERA_TRADES.validate(frame, lazy=True), None


def split_pointblank(frame: pl.DataFrame) -> Halves:
    """Return its sundered data, pass and fail.

    Prices as expressions: its own `col_vals_gt` asks decimals for NaN, which Polars refuses.
    """
    time, arrival = pl.col("timestamp"), pl.col("ingestion_timestamp")
    validation = (
        pb.Validate(frame)
        .col_vals_expr(pl.col("price") > 0)
        .col_vals_expr(pl.col("quantity") > 0)
        .col_vals_expr(pl.col("symbol") != "")
        .col_vals_in_set("side", ["BUY", "SELL"])
        .col_vals_expr(time <= arrival + AHEAD)
        .col_vals_expr(time >= arrival - AGE)
        .col_vals_expr(pl.col("message_id") != "")
        .col_vals_in_set("asset_class", ["crypto"])
        .interrogate()
    )
    return validation.get_sundered_data("pass"), validation.get_sundered_data("fail")


FULL_PEERS: Mapping[str, Callable[[pl.DataFrame], Halves]] = {
    "dataframely": split_dataframely,
    "pandera": split_pandera,
    "pointblank": split_pointblank,
}

NAIVE = "filter(rule), filter(~rule)"
"""No library: the split that everybody writes first."""

_SIDES = ["BUY", None, "SELL", "BUY", "x"]
_ROWS = {"row": [0, 1, 2, 3, 4]}

SMALL_FRAMES: Mapping[str, tuple[pl.DataFrame, str]] = {
    "NULL and NaN": (
        pl.DataFrame({**_ROWS, "price": [1.0, None, float("nan"), 0.0, 2.0], "side": _SIDES}),
        "columns",
    ),
    "NULL and NaN, a rule of one's own": (
        pl.DataFrame({**_ROWS, "price": [1.0, None, float("nan"), 0.0, 2.0], "side": _SIDES}),
        "custom",
    ),
}
"""Rules: the price is above 0, the side is BUY or SELL. Only row 0 is valid."""


@rule()
def sold_or_bought(row: Row) -> Term:
    """The price is above zero and the side BUY or SELL."""
    return (row.price > 0) & row.side.is_in("BUY", "SELL")


class _Columns(dy.Schema):
    row = dy.Int64(nullable=True)
    price = dy.Float64(nullable=False, min_exclusive=0, allow_nan=False)
    side = dy.String(nullable=False, check=lambda column: column.is_in(["BUY", "SELL"]))


class _Custom(dy.Schema):
    row = dy.Int64(nullable=True)
    price = dy.Float64(nullable=True, allow_nan=True)
    side = dy.String(nullable=True)

    @dy.rule()
    def valid(cls) -> pl.Expr:  # noqa: N805
        return (pl.col("price") > 0) & pl.col("side").is_in(["BUY", "SELL"])


def split_small(frame: pl.DataFrame, rules: str) -> dict[str, Halves]:
    """Split a small frame with every library, by column rules or by a rule of one's own."""
    naive = (pl.col("price") > 0) & pl.col("side").is_in(["BUY", "SELL"])
    columns = [gt("price", 0), one_of("side", "BUY", "SELL")]
    ours = RuleSet("small", columns if rules == "columns" else [sold_or_bought])
    good, failure = (_Columns if rules == "columns" else _Custom).filter(frame)
    nullable = rules == "custom"
    kept = pa.DataFrameSchema(
        {
            "price": pa.Column(float, pa.Check.gt(0), nullable=nullable),
            "side": pa.Column(str, pa.Check.isin(["BUY", "SELL"]), nullable=nullable),
        },
        drop_invalid_rows=True,
    ).validate(frame, lazy=True)
    steps = pb.Validate(frame)
    if rules == "columns":
        steps = steps.col_vals_gt("price", 0).col_vals_in_set("side", ["BUY", "SELL"])
    else:
        steps = steps.col_vals_expr(naive)
    told = steps.interrogate()
    return {
        "k2-validation": tuple(ours.split(frame)),
        NAIVE: (frame.filter(naive), frame.filter(~naive)),
        "dataframely": (good, failure.invalid()),
        "pandera": (kept, None),
        "pointblank": (told.get_sundered_data("pass"), told.get_sundered_data("fail")),
    }


def judge_small_frame(frame: pl.DataFrame, split: Halves) -> tuple[str, bool]:
    """Return in words which rows went where, and whether that is right."""
    valid, dead = (None if half is None else sorted(half["row"]) for half in split)
    told = f"valid {valid}, dead {'not given' if dead is None else dead}"
    if dead is None:
        return told, valid == [0]
    lost = sorted(set(frame["row"]) - set(valid or ()) - set(dead))
    doubled = sorted(set(valid or ()) & set(dead))
    told += f", lost {lost}" if lost else ""
    told += f", twice {doubled}" if doubled else ""
    return told, valid == [0] and dead == [1, 2, 3, 4]
