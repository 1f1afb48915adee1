"""Registry: schema ids that are known before the first message, from a lock file or a server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Protocol

from .errors import (
    MissingExtraError,
    RegistryError,
    SchemaError,
    SchemaLockError,
    UnknownSchemaError,
)

LOCK_NAME = "schemas.lock.json"
_DEFAULT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class LockedSchema:
    """A schema text under the id that every frame of it carries."""

    subject: str
    schema_id: int
    version: int
    text: str


class Registry(Protocol):
    """Schemas by id and by subject."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Every schema id known so far, ascending."""

    def get(self, schema_id: int) -> LockedSchema:
        """Return the schema of an id, or raise `UnknownSchemaError` or `RegistryError`."""

    def latest(self, subject: str) -> LockedSchema:
        """Return the schema to write a subject with, or raise `UnknownSchemaError`.

        It is the newest one *locked*, never the newest that somebody has registered: a producer
        writes with the schema it was built and tested with.
        """


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
        schemas = {}
        for entry in _read_lock(folder):
            text = _read_schema(folder, entry)
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

    def all(self) -> tuple[LockedSchema, ...]:
        """Return every locked schema, by id."""
        return tuple(self._by_id[schema_id] for schema_id in self.ids)


def _read_lock(folder: Traversable) -> list[dict[str, Any]]:
    path = folder.joinpath(LOCK_NAME)
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["schemas"]
        for entry in entries:
            for name, kind in _LOCK_FIELDS.items():
                if type(entry[name]) is not kind:
                    raise TypeError(f"{name} is {entry[name]!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SchemaLockError(str(path), f"cannot be read: {type(error).__name__}: {error}") from error
    return entries


_LOCK_FIELDS = {"subject": str, "id": int, "version": int, "file": str, "sha256": str}


def _read_schema(folder: Traversable, entry: Mapping[str, Any]) -> str:
    try:
        text = folder.joinpath(entry["file"]).read_text(encoding="utf-8")
    except OSError as error:
        raise SchemaLockError(entry["file"], f"cannot be read: {error}") from error
    found = sha256(text.encode()).hexdigest()
    if found != entry["sha256"]:
        raise SchemaLockError(
            entry["file"],
            f"schema of {entry['subject']} has SHA-256 {found[:12]}…, the lock file says "
            f"{entry['sha256'][:12]}…",
        )
    return text


def lock_schema(folder: Path, subject: str, file: str, schema_id: int, version: int) -> None:
    """Add a schema file of `folder` to its lock file, under an id that is new or already its own.

    Raises `SchemaLockError` if the id is locked for another text: a schema never changes under it.
    """
    entries = _read_lock(folder) if (folder / LOCK_NAME).exists() else []
    try:
        digest = sha256((folder / file).read_bytes()).hexdigest()
    except OSError as error:
        raise SchemaLockError(file, f"cannot be read: {error}") from error
    for entry in entries:
        if entry["id"] == schema_id and entry["sha256"] == digest and entry["subject"] == subject:
            return
        if entry["id"] == schema_id:
            raise SchemaLockError(file, f"id {schema_id} is locked for {entry['file']}")
    entries.append(
        {"subject": subject, "id": schema_id, "version": version, "file": file, "sha256": digest}
    )
    draft = folder / f".{LOCK_NAME}.draft"
    draft.write_text(json.dumps({"schemas": entries}, indent=2) + "\n", encoding="utf-8")
    draft.replace(folder / LOCK_NAME)


class ServerRegistry:
    """A schema registry that speaks Confluent's API, with a lock file for when it does not answer.

    What is locked is what frames carry, so the server is asked at construction whether it knows
    every locked schema under the locked id: it may not know it yet (`unregistered` says so), but
    another id raises `SchemaLockError`. Nothing is ever registered by reading or writing frames.
    A server that is down at that moment is only noted (`reachable`); ids that are not locked are
    asked for when they turn up, each within `timeout_s`.

    Needs confluent-kafka's client (`pip install 'k2-schemas[kafka]'`). `client_settings` are its
    own (`basic.auth.user.info`, `ssl.ca.location`, …).
    """

    def __init__(
        self,
        url: str,
        lock: FileRegistry | None = None,
        *,
        timeout_s: float = _DEFAULT_TIMEOUT_S,
        client_settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.url = url
        self.reachable = True
        self.unregistered: tuple[int, ...] = ()
        self._lock = lock or FileRegistry.packaged()
        self._known = {schema.schema_id: schema for schema in self._lock.all()}
        self._client = _Client(url, timeout_s, client_settings or {})
        try:
            self.unregistered = tuple(self._compare(schema) for schema in self._lock.all())
            self.unregistered = tuple(schema_id for schema_id in self.unregistered if schema_id)
        except RegistryError:
            self.reachable = False

    @property
    def ids(self) -> tuple[int, ...]:
        """Every schema id known so far, ascending."""
        return tuple(sorted(self._known))

    def get(self, schema_id: int) -> LockedSchema:
        """Return the schema of an id; see `Registry.get`."""
        found = self._known.get(schema_id)
        if found is None:
            found = self._client.fetch(schema_id)
            if found is None:
                raise UnknownSchemaError(schema_id, self.ids)
            self._known[schema_id] = found
        return found

    def latest(self, subject: str) -> LockedSchema:
        """Return the newest version *locked* for a subject; see `Registry.latest`."""
        return self._lock.latest(subject)

    def register(self, subject: str, text: str) -> int:
        """Register a schema with compatibility NONE and return its id: a deployment's step.

        Checking what may change is `k2_schemas.contract`'s business: registries pass changes that
        multiply every price by 10,000.
        """
        return self._client.register(subject, text)

    def _compare(self, schema: LockedSchema) -> int:
        """Return the id of a schema the server lacks, or 0."""
        found = self._client.lookup(schema.subject, schema.text)
        if found is None:
            return schema.schema_id
        if found != schema.schema_id:
            raise SchemaLockError(
                schema.subject,
                f"the lock file says id {schema.schema_id}, {self.url} says {found}",
            )
        return 0


class _Client:
    """confluent-kafka's client with every call bounded in time and every failure one error."""

    def __init__(self, url: str, timeout_s: float, settings: Mapping[str, Any]) -> None:
        try:
            from confluent_kafka import schema_registry
        except ImportError:
            raise MissingExtraError("confluent-kafka[schemaregistry]", "kafka") from None
        self._url = url
        self._api = schema_registry
        try:
            self._client = schema_registry.SchemaRegistryClient(
                {"url": url, "timeout": timeout_s, "max.retries": 0, **settings}
            )
        except (TypeError, ValueError) as error:
            raise RegistryError(url, str(error)) from error

    def fetch(self, schema_id: int) -> LockedSchema | None:
        """Return the schema of an id with its first subject and version, or None."""
        schema = self._call(lambda: self._client.get_schema(schema_id))
        if schema is None:
            return None
        places: Iterable[Any] = self._call(lambda: self._client.get_schema_versions(schema_id)) or ()
        subject, version = next(((p.subject, p.version) for p in places), ("", 0))
        return LockedSchema(subject, schema_id, version, schema.schema_str)

    def lookup(self, subject: str, text: str) -> int | None:
        """Return the id of a text under a subject, or None."""
        schema = self._api.Schema(text, "AVRO")
        found = self._call(lambda: self._client.lookup_schema(subject, schema))
        return None if found is None else int(found.schema_id)

    def register(self, subject: str, text: str) -> int:
        """Set a subject's compatibility to NONE and register a text under it."""
        config = self._api.ServerConfig(compatibility="NONE")
        self._call(lambda: self._client.set_config(subject, config))
        schema = self._api.Schema(text, "AVRO")
        return int(self._call(lambda: self._client.register_schema(subject, schema)))

    def _call(self, ask: Any) -> Any:
        try:
            return ask()
        except self._api.SchemaRegistryError as error:
            if error.http_status_code == 404:
                return None
            raise RegistryError(self._url, f"answered {error}") from error
        except SchemaError:
            raise
        except Exception as error:  # whatever the HTTP library makes of a dead or silent server
            raise RegistryError(self._url, f"{type(error).__name__}: {error}") from error
