"""Every error of k2-schemas.

SchemaError
├── TradeFieldError       a value that contract V2 cannot hold exactly
├── FrameError            bytes that are not a Confluent-framed record
├── RecordDecodeError     a frame whose body is not the record its schema says
├── UnknownSchemaError    a schema id or subject that the lock file does not have
├── SchemaLockError       a lock file and the schemas beside it disagree
└── UnknownSymbolError    a venue symbol that is not in the configured list
"""

from __future__ import annotations

from collections.abc import Sequence


class SchemaError(Exception):
    """Base of every error this package raises."""


class TradeFieldError(SchemaError):
    """A value that contract V2 cannot hold exactly: nothing is rounded, nothing is guessed."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        self.field = field
        self.value = value
        self.reason = reason
        super().__init__(f"{field}={_abridge(value)}: {reason}")


class FrameError(SchemaError):
    """Bytes that do not start with 0x00 and a 4-byte schema id."""

    def __init__(self, reason: str, size_bytes: int) -> None:
        self.reason = reason
        self.size_bytes = size_bytes
        super().__init__(f"not a Confluent frame ({size_bytes} bytes): {reason}")


class RecordDecodeError(SchemaError):
    """A frame whose body does not decode, to its last byte, with its writer's schema."""

    def __init__(self, schema_id: int, reason: str) -> None:
        self.schema_id = schema_id
        self.reason = reason
        super().__init__(f"body does not decode with schema id {schema_id}: {reason}")


class UnknownSchemaError(SchemaError):
    """A schema id or subject that no one registered."""

    def __init__(self, wanted: int | str, known: Sequence[int | str]) -> None:
        self.wanted = wanted
        self.known = tuple(known)
        super().__init__(
            f"schema {wanted!r} is not in the lock file (it has {', '.join(map(str, known))}); "
            "add it to schemas.lock.json, or requeue the record once it is there"
        )


class SchemaLockError(SchemaError):
    """The lock file promises another schema than the file beside it holds."""

    def __init__(self, subject: str, expected_sha256: str, found_sha256: str) -> None:
        self.subject = subject
        self.expected_sha256 = expected_sha256
        self.found_sha256 = found_sha256
        super().__init__(
            f"schema of {subject} has SHA-256 {found_sha256[:12]}…, the lock file says "
            f"{expected_sha256[:12]}…; a schema never changes under its id: restore the file, "
            "or add the new text under a new id"
        )


class UnknownSymbolError(SchemaError):
    """A symbol that the configuration does not list for this venue."""

    def __init__(self, venue: str, symbol: str, closest: str | None) -> None:
        self.venue = venue
        self.symbol = symbol
        self.closest = closest
        hint = f"; did you mean {closest}?" if closest else ""
        super().__init__(f"{venue} has no configured symbol {symbol!r}{hint}")


def _abridge(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
