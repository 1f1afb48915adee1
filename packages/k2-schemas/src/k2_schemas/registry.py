"""Schema ids from a lock file: known before the first message, no server to wait for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable

from .errors import SchemaLockError, UnknownSchemaError

_LOCK_NAME = "schemas.lock.json"


@dataclass(frozen=True, slots=True)
class LockedSchema:
    """A schema text under the id that every frame of it carries."""

    subject: str
    schema_id: int
    version: int
    text: str


class FileRegistry:
    """Schemas by id and by subject, read from `schemas.lock.json` and checked by SHA-256."""

    def __init__(self, schemas: Mapping[int, LockedSchema]) -> None:
        self._by_id = dict(schemas)

    @classmethod
    def packaged(cls) -> FileRegistry:
        """Open the lock file that ships with this package; raise `SchemaLockError` if it lies."""
        return cls.from_folder(resources.files(__package__).joinpath("avro"))

    @classmethod
    def from_folder(cls, folder: Traversable) -> FileRegistry:
        """Open the lock file of a folder and the schemas it names; raise `SchemaLockError`."""
        lock = json.loads(folder.joinpath(_LOCK_NAME).read_text(encoding="utf-8"))
        schemas = {}
        for entry in lock["schemas"]:
            text = folder.joinpath(entry["file"]).read_text(encoding="utf-8")
            found = sha256(text.encode()).hexdigest()
            if found != entry["sha256"]:
                raise SchemaLockError(entry["subject"], entry["sha256"], found)
            schemas[entry["id"]] = LockedSchema(
                entry["subject"], entry["id"], entry["version"], text
            )
        return cls(schemas)

    @property
    def ids(self) -> tuple[int, ...]:
        """Every known schema id, ascending."""
        return tuple(sorted(self._by_id))

    def get(self, schema_id: int) -> LockedSchema:
        """Return the schema registered under an id, or raise `UnknownSchemaError`."""
        try:
            return self._by_id[schema_id]
        except KeyError:
            raise UnknownSchemaError(schema_id, self.ids) from None

    def latest(self, subject: str) -> LockedSchema:
        """Return the newest version locked for a subject, or raise `UnknownSchemaError`."""
        versions = [schema for schema in self._by_id.values() if schema.subject == subject]
        if not versions:
            raise UnknownSchemaError(subject, sorted({s.subject for s in self._by_id.values()}))
        return max(versions, key=lambda schema: schema.version)
