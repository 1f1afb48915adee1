"""Every error of k2-schemas.

SchemaError
├── FieldError              a value that its schema cannot hold exactly
├── FrameError              bytes that are not a Confluent-framed record
├── RecordDecodeError       a body that is not the record its schema says
├── SchemaParseError        a text that is no Avro schema
├── UnsupportedSchemaError  a schema that this way of compiling does not cover
├── UnknownSchemaError      a schema id or subject that nobody registered
├── SchemaLockError         a lock file and the schemas it names disagree
├── RegistryError           the schema registry did not answer, or refused
├── MissingExtraError       an optional package is not installed
├── SecretInTextError       a configuration file holds a secret
└── UnknownSymbolError      a venue symbol that is not in the configured list
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def hide_login(url: str) -> str:
    """Return a URL without the name and the password in it."""
    begin, scheme, rest = url.rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{begin}{scheme}{host.rpartition('@')[2]}{slash}{path}"


class SchemaError(Exception):
    """Base of every error this package raises."""


class FieldError(SchemaError):
    """A value that its schema cannot hold exactly: nothing is rounded, nothing is guessed.

    `field` is the path from the record down: `price`, `vendor_data['pair']`, `legs[2].quantity`.
    """

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
    """Bytes that do not decode, to their last one, with their writer's schema.

    `offset` is where decoding stopped, in bytes from the start of what was given.
    """

    def __init__(self, reason: str, offset: int, schema_id: int | None = None) -> None:
        self.reason = reason
        self.offset = offset
        self.schema_id = schema_id
        under = "" if schema_id is None else f" with schema id {schema_id}"
        super().__init__(f"body does not decode{under}: {reason} (at byte {offset})")


class SchemaParseError(SchemaError):
    """A text that is no Avro schema."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"not an Avro schema: {reason}; the Avro 1.12 specification has the form of each type"
        )


class UnsupportedSchemaError(SchemaError):
    """A valid schema that cannot be compiled, or not in the way that was asked for."""

    def __init__(self, reason: str, cure: str) -> None:
        self.reason = reason
        self.cure = cure
        super().__init__(f"cannot compile this schema: {reason}; {cure}")


class UnknownSchemaError(SchemaError):
    """A schema id or subject that no one registered."""

    def __init__(self, wanted: int | str, known: Sequence[int | str]) -> None:
        self.wanted = wanted
        self.known = tuple(known)
        super().__init__(
            f"schema {wanted!r} is not registered (known: {', '.join(map(str, known))}); register "
            "it and add it to schemas.lock.json (k2 schema register, lock), then requeue the record"
        )


class SchemaLockError(SchemaError):
    """A lock file promises another schema than the file or the server has."""

    def __init__(self, subject: str, reason: str) -> None:
        self.subject = subject
        self.reason = reason
        super().__init__(
            f"{subject}: {reason}; a schema never changes under its id: restore the file, "
            "or lock the new text under a new id (k2 schema lock)"
        )


class RegistryError(SchemaError):
    """The schema registry did not answer in time, or refused."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = hide_login(url)
        self.reason = reason.replace(url, self.url)
        super().__init__(
            f"schema registry {self.url}: {self.reason}; check that it runs and can be reached, "
            "or work from the lock file alone"
        )


class MissingExtraError(SchemaError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"this needs {package}: pip install 'k2-schemas[{extra}]'")


class SecretInTextError(SchemaError):
    """A configuration file holds a secret; whoever is given the file is given the secret."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        variable = f"K2_{name.replace('.', '__').upper()}"
        super().__init__(
            f"{path}: {name} is a secret and does not belong into this file: take it out, then set "
            f"{variable}, or name a file that holds it by {name}_file"
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
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # a value may be too large, too deep or too odd to print
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[: limit - 1] + "…"
