"""Verdicts: what a rule set says of a record or a frame, and the columns it says it in."""

from __future__ import annotations

from typing import Generic, Literal, NamedTuple, TypeVar

ErrorType = Literal["schema", "completeness", "range", "consistency", "timeliness"]
"""What kind of fault a failed rule is, as the dead-letter table counts it."""

Severity = Literal["reject", "flag"]
"""A row that fails a `reject` rule is dead; one that fails a `flag` rule is valid, and says so."""

TAG_COLUMNS = (
    "k2_valid",
    "k2_failed_rules",
    "k2_error_reason",
    "k2_error_type",
    "k2_flagged_rules",
    "k2_flag_reason",
)
"""What `RuleSet.tag` adds."""

DEAD_COLUMNS = ("failed_rules", "error_reason", "error_type", "rules_fingerprint")
"""What `RuleSet.split` adds to dead rows; the last three are columns of the dead-letter table."""

SEPARATOR = "; "
"""Stands between rule names and between reasons; no rule name holds it."""

FrameT = TypeVar("FrameT")


class Split(NamedTuple, Generic[FrameT]):
    """Both halves of a frame; every input row is in exactly one of them."""

    valid: FrameT
    dead: FrameT


class Failure(NamedTuple):
    """One rule that one record failed; as text it is the rule's part of the reason.

    `message` says what a valid row looks like and what was found, e.g.
    `price must be > 0, found -1.5`. A record is dead if any failure's severity is `reject`.
    """

    rule: str
    column: str
    error_type: ErrorType
    message: str
    severity: Severity = "reject"

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"
