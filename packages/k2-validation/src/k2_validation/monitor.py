"""Monitor: market rules over a stream of trades, however it is cut into batches.

It looks at trades in the order in which they are given, which must be that of their arrival, and
returns incidents. It drops no row. A symbol costs a window of trades and a bounded list of gaps.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import narwhals.stable.v2 as nw

from .arrow_trades import read_arrow
from .column_kind import INTEGER, TEXT, TIME, ColumnKind
from .errors import ColumnTypeError, MissingColumnError, MonitorStateError, UnsupportedRecordError
from .id_gaps import IdRange
from .market import Incident, MarketLimits, MarketState, Observation
from .readers import is_missing, to_micros
from .ruleset import lift
from .value_text import write_value

if TYPE_CHECKING:
    from k2_schemas import Trade

STATE_FORMAT = 1

_SCALE = 8

_DECIMAL = ColumnKind(
    "a decimal or an integer (a float has lost digits)",
    lambda dtype: dtype.is_decimal() or INTEGER.fits_type(dtype),
    lambda value: isinstance(value, (int, Decimal)) and not isinstance(value, bool),
)

COLUMNS: Mapping[str, ColumnKind] = {
    "exchange": TEXT,
    "symbol": TEXT,
    "source_sequence": INTEGER,
    "timestamp": TIME,
    "ingestion_timestamp": TIME,
    "price": _DECIMAL,
    "quantity": _DECIMAL,
}
"""What a monitor reads of a trade; only source_sequence may be NULL."""


class Monitor:
    """Watches trades per (exchange, symbol); see `MarketLimits` for when it speaks.

    State goes to text and back: a monitor that was stored and restored between two trades finds
    what one that ran through finds.
    """

    def __init__(self, limits: MarketLimits | None = None) -> None:
        self.limits = limits or MarketLimits()
        self._states: dict[tuple[str, str], MarketState] = {}

    def observe(self, trades: object) -> list[Incident]:
        """Return the incidents of the next trades, in their order.

        Takes a frame of any engine (a streaming one inside foreachBatch, where it is a batch), one
        record, one Trade, or an iterable of these. Raises `MissingColumnError`, `ColumnTypeError`
        and `UnsupportedFrameError` as `RuleSet.bind` does; a row that lacks a value is an
        `unreadable` incident.
        """
        incidents: list[Incident] = []
        for trade in _read_trades(trades):
            if isinstance(trade, Incident):
                incidents.append(trade)
                continue
            key = (trade.exchange, trade.symbol)
            state = self._states.get(key)
            if state is None:
                state = self._states[key] = MarketState(self.limits)
            incidents.extend(state.observe(trade))
        return incidents

    def tick(self, now_us: int) -> list[Incident]:
        """Return which feeds have fallen silent by `now_us` (microseconds since 1970), each once.

        Call it every few seconds: that nothing arrives, no trade can say.
        """
        return [
            incident
            for (exchange, symbol), state in self._states.items()
            for incident in state.tick(exchange, symbol, now_us)
        ]

    def list_missing_ids(self) -> dict[tuple[str, str], list[IdRange]]:
        """Return the ids that are missing now, per (exchange, symbol), where any are."""
        missing = {key: state.ids.missing for key, state in self._states.items()}
        return {key: ranges for key, ranges in missing.items() if ranges}

    def to_json(self) -> str:
        """Return the whole state as JSON text."""
        content = {
            "format": STATE_FORMAT,
            "limits": asdict(self.limits),
            "states": [
                {"exchange": exchange, "symbol": symbol, **state.dump()}
                for (exchange, symbol), state in self._states.items()
            ],
        }
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Monitor:
        """Return the monitor that `to_json` wrote; raise `MonitorStateError` for anything else."""
        try:
            content = json.loads(text)
            if content["format"] != STATE_FORMAT:
                raise MonitorStateError(f"has format {content['format']}, not {STATE_FORMAT}")
            monitor = cls(MarketLimits(**content["limits"]))
            for stored in content["states"]:
                key = (stored.pop("exchange"), stored.pop("symbol"))
                monitor._states[key] = MarketState.restore(monitor.limits, stored)
        except (ValueError, KeyError, TypeError) as error:
            raise MonitorStateError(f"cannot be read ({type(error).__name__}: {error})") from None
        return monitor


def _read_trades(trades: object) -> Iterator[Observation | Incident]:
    if isinstance(trades, Mapping) or _is_trade(trades):
        trades = (trades,)
    if isinstance(trades, (list, tuple, Iterator)) or (
        isinstance(trades, Iterable) and not hasattr(trades, "columns")
    ):
        yield from map(_read_record, trades)
        return
    yield from _read_frame(trades)


def _read_record(record: Mapping[str, object] | Trade) -> Observation | Incident:
    if _is_trade(record):
        trade = cast("Trade", record)
        return Observation(
            trade.exchange,
            trade.symbol,
            trade.source_sequence,
            trade.timestamp_us,
            trade.ingestion_us,
            trade.price_units,
            trade.quantity_units,
        )
    if not isinstance(record, Mapping):
        raise UnsupportedRecordError(type(record).__name__)
    for column, kind in COLUMNS.items():
        if column not in record:
            raise MissingColumnError("monitor", column, tuple(record))
        value = record[column]
        if not is_missing(value) and not kind.fits_value(value):
            raise ColumnTypeError("monitor", column, type(value).__name__, kind.title)
    return _read_row([record[column] for column in COLUMNS])


def _read_frame(frame: object) -> Iterator[Observation | Incident]:
    lifted: Any = lift(frame)
    schema = lifted.collect_schema()
    for column, kind in COLUMNS.items():
        if column not in schema:
            raise MissingColumnError("monitor", column, tuple(schema))
        if not kind.fits_type(schema[column]):
            raise ColumnTypeError("monitor", column, str(schema[column]), kind.title)
    selected = lifted.select(*COLUMNS)
    eager = selected.collect() if isinstance(selected, nw.LazyFrame) else selected
    whole = read_arrow(eager.to_native()) if eager.implementation.is_pyarrow() else None
    yield from map(_read_row, eager.iter_rows()) if whole is None else whole


def _read_row(row: Sequence[Any]) -> Observation | Incident:
    exchange, symbol, source_sequence, timestamp, ingestion, price, quantity = row
    # One of the values is missing: say which row it was, as far as it says.
    missing = [
        name
        for name, value in zip(COLUMNS, row, strict=True)
        if name != "source_sequence" and is_missing(value)
    ]
    inexact = [
        name
        for name, value in (("price", price), ("quantity", quantity))
        if name not in missing and _to_units(value) is None
    ]
    if missing or inexact:
        found = [f"{name}={write_value(row[list(COLUMNS).index(name)])}" for name in inexact]
        message = f"cannot be watched: {', '.join([*(f'{m} is missing' for m in missing), *found])}"
        when = None if "timestamp" in missing else to_micros(timestamp)
        return Incident("unreadable", exchange or "", symbol or "", when, source_sequence, message)
    return Observation(
        exchange,
        symbol,
        source_sequence,
        to_micros(timestamp),
        to_micros(ingestion),
        cast(int, _to_units(price)),
        cast(int, _to_units(quantity)),
    )


def _to_units(value: int | Decimal) -> int | None:
    """Return units of 1e-8, or None for a number that is finer than these or not finite."""
    if isinstance(value, int):
        return int(value * 10**_SCALE)
    sign, digits, exponent = value.as_tuple()
    if isinstance(exponent, str) or value.adjusted() > 40:
        return None
    shift = exponent + _SCALE
    number: int = int("".join(map(str, digits)))
    if shift < 0:
        unit: int = 10 ** min(-shift, 60)
        number, lost = divmod(number, unit)
        if lost:
            return None
    else:
        number *= int(10**shift)
    return -number if sign else number


def _is_trade(record: object) -> bool:
    # Who has a Trade has imported its module; who has none need not have it installed.
    schemas = sys.modules.get("k2_schemas")
    return schemas is not None and isinstance(record, schemas.Trade)
