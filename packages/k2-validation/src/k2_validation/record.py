"""Records: one record at a time, each rule a closure; reasons are only built for what failed.

A quick test says yes to the ordinary valid record of ordinary types. Whenever one does not say
yes, whatever the cause, the exact rules decide.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, cast

from .condition import OPERATORS
from .errors import UnsupportedRecordError
from .operations import OPERATIONS, bound_of, tolerance_us, upper_of
from .readers import is_missing
from .rule import Rule
from .value_text import write_value
from .verdict import Failure

if TYPE_CHECKING:
    from k2_schemas import Trade

Quick = Callable[[Any], bool]

_UNITS_PER_ONE = 10**8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_FIRST_US = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)

TRADE_FIELDS = (
    "message_id",
    "trade_id",
    "symbol",
    "exchange",
    "asset_class",
    "timestamp",
    "price",
    "quantity",
    "currency",
    "side",
    "trade_conditions",
    "source_sequence",
    "ingestion_timestamp",
    "platform_sequence",
    "vendor_data",
)
"""The columns that a Trade has as a record: the fields of contract V2."""

_UNITS = {"price": "price_units", "quantity": "quantity_units"}
_TIMES = {"timestamp": "timestamp_us", "ingestion_timestamp": "ingestion_us"}


class RecordChecker:
    """Checks mappings and Trades by the same rules as frames."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._mapping_tests = tuple(_quick_test(rule) for rule in rules)
        self._all_hold = tuple(_fuse_times(rules, self._mapping_tests))
        self._trade_tests = tuple(_quick_trade_test(rule) for rule in rules)
        self._exact = tuple(_exact_test(rule) for rule in rules)

    def check(self, record: Mapping[str, object] | Trade) -> tuple[Failure, ...]:
        """Return every failed rule in declared order."""
        if record.__class__ is dict or isinstance(record, Mapping):
            return () if _all_hold(self._all_hold, record) else self._find_failures(record)
        return self._check_trade(record)

    def _check_trade(self, record: object) -> tuple[Failure, ...]:
        # Who has a Trade has imported its module; who has none need not have it installed.
        schemas = sys.modules.get("k2_schemas")
        if schemas is None or not isinstance(record, schemas.Trade):
            raise UnsupportedRecordError(type(record).__name__)
        if _all_hold(self._trade_tests, record):
            return ()
        return self._find_failures(read_trade(cast("Trade", record)))

    def _find_failures(self, record: Mapping[str, object]) -> tuple[Failure, ...]:
        """Ask each exact rule, except where its quick test says yes."""
        failures = []
        for holds, (holds_exactly, fail) in zip(self._mapping_tests, self._exact, strict=True):
            try:
                if holds(record):
                    continue
            except Exception:  # noqa: BLE001, S110 - the exact rule says what is wrong
                pass
            if not holds_exactly(record):
                failures.append(fail(record))
        return tuple(failures)


def _all_hold(tests: Sequence[Quick], record: Any) -> bool:
    try:
        for holds in tests:
            if not holds(record):
                return False
    except Exception:  # noqa: BLE001 - whatever a quick test cannot read, the exact rule judges
        return False
    return True


def _exact_test(rule: Rule) -> tuple[Quick, Callable[[Mapping[str, object]], Failure]]:
    """Return the exact test, and what makes its failure; all that does not vary is made once."""
    name, column, error_type, severity = rule.name, rule.column, rule.error_type, rule.severity
    columns, start = rule.columns, f"{rule.message}, found "

    def fail(record: Mapping[str, object]) -> Failure:
        if len(columns) == 1:
            found = write_value(record[column])
        else:
            found = ", ".join(f"{other}={write_value(record[other])}" for other in columns)
        return Failure(name, column, error_type, start + found, severity)

    return _decide(rule), fail


def _decide(rule: Rule) -> Quick:
    """Return `rule.holds`, with a shorter way for the ordinary values that fail."""
    if rule.operator == "custom":
        return rule.holds
    (column, *others), fits, holds = rule.columns, rule.kind.fits_value, rule.holds
    predicate = OPERATIONS[rule.operator].predicate

    def decide_times(record: Mapping[str, object]) -> bool:
        # Of two times in UTC the quick test has said all there is to say.
        time, other = record.get(column), record.get(others[0])
        if isinstance(time, datetime) and isinstance(other, datetime):
            in_utc = time.tzinfo is UTC is other.tzinfo
            return False if in_utc else holds(record)
        return holds(record)

    def decide(record: Mapping[str, object]) -> bool:
        value = record.get(column)
        if not fits(value) or is_missing(value):
            return holds(record)
        return predicate(rule, value)

    return decide_times if others else decide


def read_trade(trade: Trade) -> dict[str, object]:
    """Return a Trade as the record its frame would hold: Decimal prices, times in UTC.

    A time beyond the years 1 to 9999 becomes their end, the furthest that Python can write.
    """
    record: dict[str, object] = {
        field: getattr(trade, field) for field in TRADE_FIELDS if field not in _TIMES
    }
    for field, attribute in _TIMES.items():
        micros = min(max(getattr(trade, attribute), _FIRST_US), _LAST_US)
        record[field] = _EPOCH + timedelta(microseconds=micros)
    return record


def _quick_test(rule: Rule) -> Quick:
    """Return a test that is true only for a mapping that is valid by the rule."""
    build = _QUICK.get(rule.operator)
    return rule.holds if build is None else build(rule, itemgetter(*rule.columns))


def _quick_trade_test(rule: Rule) -> Quick:
    """Return the test for a Trade, on its scaled integers: no Decimal, no datetime is made."""
    if rule.operator in ("not_after", "not_before") and set(rule.columns) <= set(_TIMES):
        return _quick_units_span(rule, attrgetter(*(_TIMES[column] for column in rule.columns)))
    if rule.column in _UNITS and rule.operator in _COMPARISONS:
        return _quick_units(rule, attrgetter(_UNITS[rule.column]))
    if rule.column == "message_id" and rule.operator == "present":
        # It is derived from these and never empty: hashing it here would prove nothing.
        return lambda trade: "pair" in trade.vendor_data
    build = _QUICK.get(rule.operator)
    exact = {*_UNITS, *_TIMES}
    if build is None or exact & set(rule.columns) or not set(rule.columns) <= set(TRADE_FIELDS):
        return lambda trade: False
    return build(rule, attrgetter(*rule.columns))


def _quick_present(rule: Rule, read: Callable[[Any], Any]) -> Quick:
    def holds(record: Any) -> bool:
        value = read(record)
        if value.__class__ is str:
            return value != ""
        return value is not None and value.__class__ in (int, bool, list, tuple, dict)

    return holds


def _bounds(bound: Decimal) -> dict[type, Any]:
    # The key is the type of the value: a type that is not here takes the exact way.
    whole = bound == bound.to_integral_value()
    return {Decimal: bound, float: float(bound), int: int(bound) if whole else bound}


def _quick_above(rule: Rule, read: Callable[[Any], Any]) -> Quick:
    bounds = _bounds(bound_of(rule))

    def holds(record: Any) -> bool:
        value = read(record)
        return bool(value > bounds[value.__class__])

    return holds


def _quick_comparison(rule: Rule, read: Callable[[Any], Any]) -> Quick:
    compare, bounds = OPERATORS[_COMPARISONS[rule.operator]], _bounds(bound_of(rule))

    def holds(record: Any) -> bool:
        value = read(record)
        return bool(compare(value, bounds[value.__class__]))

    return holds


def _quick_between(rule: Rule, read: Callable[[Any], Any]) -> Quick:
    lower, upper = _bounds(bound_of(rule)), _bounds(upper_of(rule))

    def holds(record: Any) -> bool:
        value = read(record)
        return bool(lower[value.__class__] <= value <= upper[value.__class__])

    return holds


def _quick_among(rule: Rule, read: Callable[[Any], Any]) -> Quick:
    values, kind = frozenset(rule.values), type(rule.values[0])

    def holds(record: Any) -> bool:
        value = read(record)
        # True is in {1}: the type decides first.
        return value.__class__ is kind and value in values

    return holds


def _quick_not_after(rule: Rule, read: Callable[[Any], Any]) -> Quick:
    tolerance = rule.tolerance

    def holds(record: Any) -> bool:
        time, other = read(record)
        # Two times in UTC subtract by their clock faces, as they should.
        return time.tzinfo is UTC is other.tzinfo and (time <= other or time - other <= tolerance)

    return holds


def _quick_not_before(rule: Rule, read: Callable[[Any], Any]) -> Quick:
    tolerance = rule.tolerance

    def holds(record: Any) -> bool:
        time, other = read(record)
        return time.tzinfo is UTC is other.tzinfo and other - time <= tolerance

    return holds


def _fuse_times(rules: Sequence[Rule], tests: Sequence[Quick]) -> list[Quick]:
    """Return the tests, two on the same two times as one: one subtraction serves both."""
    fused: dict[tuple[str, ...], Quick] = {}
    latest = {rule.columns: rule for rule in rules if rule.operator == "not_after"}
    earliest = {rule.columns: rule for rule in rules if rule.operator == "not_before"}
    for columns in latest.keys() & earliest.keys():
        fused[columns] = _quick_window(latest[columns], earliest[columns], itemgetter(*columns))
    done = [rule for columns in fused for rule in (latest[columns], earliest[columns])]
    kept = [
        test
        for rule, test in zip(rules, tests, strict=True)
        if not any(rule is other for other in done)
    ]
    return [*kept, *fused.values()]


def _quick_window(latest: Rule, earliest: Rule, read: Callable[[Any], Any]) -> Quick:
    least, most = -earliest.tolerance, latest.tolerance

    def holds(record: Any) -> bool:
        time, other = read(record)
        return time.tzinfo is UTC is other.tzinfo and least <= time - other <= most

    return holds


def _quick_units(rule: Rule, read: Callable[[Any], Any]) -> Quick:
    lower, upper = bound_of(rule) * _UNITS_PER_ONE, upper_of(rule) * _UNITS_PER_ONE
    if rule.operator == "between":
        return lambda trade: bool(lower <= read(trade) <= upper)
    compare = OPERATORS[_COMPARISONS[rule.operator]]
    bound = int(lower) if lower == lower.to_integral_value() else lower
    return lambda trade: bool(compare(read(trade), bound))


def _quick_units_span(rule: Rule, read: Callable[[Any], Any]) -> Quick:
    tolerance, sign = tolerance_us(rule), 1 if rule.operator == "not_after" else -1

    def holds(trade: Any) -> bool:
        time, other = read(trade)
        return bool(sign * (time - other) <= tolerance)

    return holds


_COMPARISONS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "between": ""}

_QUICK: Mapping[str, Callable[[Rule, Callable[[Any], Any]], Quick]] = {
    "present": _quick_present,
    "gt": _quick_above,
    "ge": _quick_comparison,
    "lt": _quick_comparison,
    "le": _quick_comparison,
    "between": _quick_between,
    "one_of": _quick_among,
    "equals": _quick_among,
    "not_after": _quick_not_after,
    "not_before": _quick_not_before,
}
"""Operators without a row here, matches and custom, go the exact way."""
