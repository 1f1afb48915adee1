"""Rules that split records into valid and dead, on every engine, losing none."""

from .builders import (
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
)
from .condition import Row, Term
from .errors import (
    BindError,
    ColumnCollisionError,
    ColumnTypeError,
    MissingColumnError,
    MonitorStateError,
    RuleDefinitionError,
    RuleFileError,
    SelfTestError,
    UnsupportedFrameError,
    UnsupportedRecordError,
    ValidationError,
)
from .id_gaps import IdGapTracker, IdRange, IdStep, find_missing_ids
from .market import Incident, IncidentKind, MarketLimits
from .monitor import Monitor
from .report import RuleReport
from .rule import Rule
from .ruleset import RuleSet, redrive
from .self_test import SelfTest
from .trades import SILVER_TRADES
from .verdict import ErrorType, Failure, Severity, Split

# Last, and by its own statement: importing the module `rule` gives the package that name first.
from .builders import rule  # isort: skip

__all__ = [
    "SILVER_TRADES",
    "BindError",
    "ColumnCollisionError",
    "ColumnTypeError",
    "ErrorType",
    "Failure",
    "IdGapTracker",
    "IdRange",
    "IdStep",
    "Incident",
    "IncidentKind",
    "MarketLimits",
    "MissingColumnError",
    "Monitor",
    "MonitorStateError",
    "Row",
    "Rule",
    "RuleDefinitionError",
    "RuleFileError",
    "RuleReport",
    "RuleSet",
    "SelfTest",
    "SelfTestError",
    "Severity",
    "Split",
    "Term",
    "UnsupportedFrameError",
    "UnsupportedRecordError",
    "ValidationError",
    "between",
    "equals",
    "find_missing_ids",
    "ge",
    "gt",
    "le",
    "lt",
    "matches",
    "not_after",
    "not_before",
    "one_of",
    "present",
    "redrive",
    "rule",
]
