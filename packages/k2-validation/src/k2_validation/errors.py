"""Every error of k2-validation.

ValidationError
├── RuleDefinitionError          a rule or rule set that cannot mean anything
│   └── RuleFileError            a TOML text that is not a rule set
├── BindError                    data on which a rule set cannot give a verdict
│   ├── MissingColumnError       a column that a rule reads is not there
│   ├── ColumnTypeError          a column has a type that its rule cannot judge
│   ├── ColumnCollisionError     the input already has a column that we would add
│   ├── UnsupportedFrameError    not a frame, or a frame of an engine with other semantics
│   └── UnsupportedRecordError   neither a mapping nor a Trade
├── SelfTestError                rules that nothing can pass, or that nothing can fail
└── MonitorStateError            a stored monitor state that this version cannot go on from
"""

from __future__ import annotations

from collections.abc import Sequence


class ValidationError(Exception):
    """Base of every error this package raises. A row that fails a rule is never an error."""


class RuleDefinitionError(ValidationError):
    """A rule or rule set that cannot mean anything; raised when it is built, not when it runs."""

    def __init__(self, name: str, reason: str, remedy: str) -> None:
        self.name = name
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{name!r}: {reason}; {remedy}")


class RuleFileError(RuleDefinitionError):
    """A TOML text that does not say a rule set: a syntax error, an unknown key, a wrong type."""


class BindError(ValidationError):
    """Data on which a rule set cannot give a verdict; nothing was checked, nothing skipped."""


class MissingColumnError(BindError):
    """A column that a rule reads is not in the frame, or a key not in the record."""

    def __init__(self, rule: str, column: str, found: Sequence[str]) -> None:
        self.rule = rule
        self.column = column
        self.found = tuple(found)
        super().__init__(
            f"rule {rule} reads column {column!r}, the input has {', '.join(found) or 'none'}; "
            "rename or add the column (a NULL in it is a failed row, its absence is not)"
        )


class ColumnTypeError(BindError):
    """A column, or a value of a record, has a type that its rule cannot judge."""

    def __init__(self, rule: str, column: str, found: str, wanted: str) -> None:
        self.rule = rule
        self.column = column
        self.found = found
        self.wanted = wanted
        super().__init__(
            f"rule {rule} wants {wanted} in column {column!r} and found {found}; "
            "convert the column before you validate"
        )


class ColumnCollisionError(BindError):
    """The input already has a column of a name that the result would add."""

    def __init__(self, column: str, reserved: Sequence[str]) -> None:
        self.column = column
        self.reserved = tuple(reserved)
        super().__init__(
            f"the input already has column {column!r}, and the result adds {', '.join(reserved)}; "
            "drop or rename it (engines compare names without case)"
        )


class UnsupportedFrameError(BindError):
    """Not a frame, or a frame of an engine whose NULL and decimal semantics differ."""

    def __init__(self, found: str, wanted: Sequence[str]) -> None:
        self.found = found
        self.wanted = tuple(wanted)
        super().__init__(
            f"{found} cannot be checked the same way as {', '.join(wanted)}; "
            "convert it to one of these, for instance with pyarrow.Table.from_pandas, "
            "or check single records with RuleSet.check"
        )


class UnsupportedRecordError(BindError):
    """Something that is neither a mapping nor a `k2_schemas.Trade` was given as a record."""

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(
            f"a {found} is not a record; give a mapping of column names to values, or a "
            "k2_schemas.Trade (for a frame use RuleSet.tag or RuleSet.split)"
        )


class SelfTestError(ValidationError):
    """Rules for which no passing, or no failing, record exists among all that were tried."""

    def __init__(self, name: str, cannot_pass: Sequence[str], cannot_fail: Sequence[str]) -> None:
        self.name = name
        self.cannot_pass = tuple(cannot_pass)
        self.cannot_fail = tuple(cannot_fail)
        found = [
            f"no record was found that {verb} {', '.join(rules)}"
            for verb, rules in (("passes", cannot_pass), ("fails", cannot_fail))
            if rules
        ]
        super().__init__(
            f"{name!r}: {'; '.join(found)}; mend the rules, or give `examples=` records that do"
        )


class MonitorStateError(ValidationError):
    """A stored monitor state is of another format or of other limits than this monitor's."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"the monitor state {reason}; start a new Monitor, its first trades set the baseline"
        )
