"""What every engine holds timestamps and UUIDs to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ._plan import Kind

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

TICK = {
    Kind.TIMESTAMP_MILLIS: timedelta(milliseconds=1),
    Kind.TIMESTAMP_MICROS: timedelta(microseconds=1),
}
"""The unit of each kind of timestamp."""

# Avro's long holds more than these; a reader's datetime does not, and what we write is readable.
FIRST = {kind: (datetime.min.replace(tzinfo=UTC) - EPOCH) // tick for kind, tick in TICK.items()}
LAST = {kind: (datetime.max.replace(tzinfo=UTC) - EPOCH) // tick for kind, tick in TICK.items()}

_HEX = frozenset("0123456789abcdefABCDEF")


def is_uuid(text: str) -> bool:
    """Say whether a text is 32 hexadecimal digits and 4 hyphens, the one form of RFC 9562."""
    groups = text.split("-")
    return [len(group) for group in groups] == [8, 4, 4, 4, 12] and _HEX.issuperset("".join(groups))
