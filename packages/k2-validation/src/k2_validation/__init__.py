"""Rules that split records into valid and dead, on every engine, losing none."""

from .errors import (
    BindError,
    ColumnCollisionError,
    ColumnTypeError,
    MissingColumnError,
    RuleDefinitionError,
    UnsupportedFrameError,
    ValidationError,
)
from .rule import ErrorType, Rule, equals, gt, not_after, not_before, one_of, present
from .ruleset import Failure, RuleSet, Split
from .trades import SILVER_TRADES

__all__ = [
    "SILVER_TRADES",
    "BindError",
    "ColumnCollisionError",
    "ColumnTypeError",
    "ErrorType",
    "Failure",
    "MissingColumnError",
    "Rule",
    "RuleDefinitionError",
    "RuleSet",
    "Split",
    "UnsupportedFrameError",
    "ValidationError",
    "equals",
    "gt",
    "not_after",
    "not_before",
    "one_of",
    "present",
]
