"""Registry: schema ids that are known before the first message, from a lock file or a server."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from threading import Thread
from typing import Any, Protocol, TypeVar

from .errors import (
    MissingExtraError,
    RegistryError,
    SchemaError,
    SchemaLockError,
    UnknownSchemaError,
    hide_login,
)

LOCK_NAME = "schemas.lock.json"
_DEFAULT_TIMEOUT_S = 5.0
_MAX_SERVER_ID = 2**31 - 1

_Answer = TypeVar("_Answer")


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
            _check_entry(entry)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SchemaLockError(
            str(path), f"cannot be read: {type(error).__name__}: {error}"
        ) from error
    return entries


_LOCK_FIELDS = {"subject": str, "id": int, "version": int, "file": str, "sha256": str}


def _check_entry(entry: Mapping[str, Any]) -> None:
    for name, kind in _LOCK_FIELDS.items():
        if type(entry[name]) is not kind:
            raise TypeError(f"{name} is {entry[name]!r}")


def _read_schema(folder: Traversable, entry: Mapping[str, Any]) -> str:
    try:
        # Bytes, as they were locked: reading text would turn one kind of line end into another.
        content = folder.joinpath(entry["file"]).read_bytes()
        text = content.decode()
    except (OSError, ValueError) as error:
        raise SchemaLockError(entry["file"], f"cannot be read: {error}") from error
    found = sha256(content).hexdigest()
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
    every locked schema under the locked id. It may not know it yet (`unregistered` says so); a
    schema that it has under another id, or an id that it gave to another schema, raises
    `SchemaLockError`. Nothing is ever registered by reading or writing frames.
    A server that does not answer at that moment is only noted (`reachable`, `failure`); ids that
    are not locked are asked for when they turn up. Construction, `get` and `register` each take
    `timeout_s` at most, whatever the server does.

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
        self.failure: RegistryError | None = None
        self.unregistered: tuple[int, ...] = ()
        self._lock = lock or FileRegistry.packaged()
        self._known = {schema.schema_id: schema for schema in self._lock.all()}
        self._server = _Server(url, timeout_s, client_settings or {})
        try:
            self.unregistered = self._server.find_unregistered(self._lock.all())
        except RegistryError as error:
            self.failure = error

    @property
    def reachable(self) -> bool:
        """Whether the server answered at construction; if not, `failure` is why."""
        return self.failure is None

    @property
    def ids(self) -> tuple[int, ...]:
        """Every schema id known so far, ascending."""
        return tuple(sorted(self._known))

    def get(self, schema_id: int) -> LockedSchema:
        """Return the schema of an id; see `Registry.get`."""
        found = self._known.get(schema_id)
        if found is None:
            found = self._server.fetch(schema_id)
            if found is None:
                raise UnknownSchemaError(schema_id, self.ids)
            self._known[schema_id] = found
        return found

    def latest(self, subject: str) -> LockedSchema:
        """Return the newest version *locked* for a subject; see `Registry.latest`."""
        return self._lock.latest(subject)

    def register(self, subject: str, text: str) -> int:
        """Register a schema with compatibility NONE and return its id: a deployment's step.

        The id of a schema that is registered already is returned again. Checking what may change
        is `k2_schemas.contract`'s business: registries pass changes that multiply every price by
        10,000. Raises `RegistryError`.
        """
        return self._server.register(subject, text)


class _Server:
    """confluent-kafka's client with every question bounded in time and every failure one error.

    Each question has a client of its own (26 ms): they are few, and no connection stays open that
    someone would have to close or that a restarted server has forgotten.
    """

    def __init__(self, url: str, timeout_s: float, settings: Mapping[str, Any]) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._api = _import_client()
        self._settings = {"url": url, "timeout": timeout_s, "max.retries": 0, **settings}
        try:
            with self._connect():
                pass
        except (OSError, TypeError, ValueError) as error:  # a setting it does not take
            raise RegistryError(url, str(error)) from error

    def find_unregistered(self, schemas: tuple[LockedSchema, ...]) -> tuple[int, ...]:
        """Return the ids of schemas that the server lacks; raise `SchemaLockError`."""
        return self._ask(
            lambda client: tuple(s.schema_id for s in schemas if not self._has(client, s))
        )

    def fetch(self, schema_id: int) -> LockedSchema | None:
        """Return the schema of an id with its first subject and version, or None."""
        # Four bytes hold more ids than servers give out: those answer as to a wrong URL.
        if not 0 <= schema_id <= _MAX_SERVER_ID:
            return None
        return self._ask(lambda client: self._fetch(client, schema_id))

    def register(self, subject: str, text: str) -> int:
        """Set a subject's compatibility to NONE and register a text under it."""

        def register(client: Any) -> int:
            client.set_compatibility(subject, "NONE")
            return int(client.register_schema(subject, self._schema(text)))

        return self._ask(register)

    def _has(self, client: Any, schema: LockedSchema) -> bool:
        says = f"the lock file says id {schema.schema_id}, {hide_login(self._url)}"
        text = self._schema(schema.text)
        found = self._find(lambda: client.lookup_schema(schema.subject, text))
        if found is None:
            other = self._find(lambda: client.get_schema(schema.schema_id))
            if other is not None and not _is_same_json(other.schema_str, schema.text):
                raise SchemaLockError(schema.subject, f"{says} has another schema under it")
        elif int(found.schema_id) != schema.schema_id:
            raise SchemaLockError(schema.subject, f"{says} says {found.schema_id}")
        return found is not None

    def _fetch(self, client: Any, schema_id: int) -> LockedSchema | None:
        schema = self._find(lambda: client.get_schema(schema_id))
        if schema is None:
            return None
        if not isinstance(schema.schema_str, str):
            raise RegistryError(self._url, f"answered without a schema for id {schema_id}")
        places = self._find(lambda: client.get_schema_versions(schema_id)) or ()
        subject, version = next(((p.subject, p.version) for p in places), ("", 0))
        return LockedSchema(subject, schema_id, version, schema.schema_str)

    def _find(self, ask: Callable[[], Any]) -> Any:
        """Return what there is, or None for a registry's own "not found" (error codes 404xx).

        Any other 404 is a web server that is no registry, or a URL without the registry's path:
        not a schema that nobody registered.
        """
        try:
            return ask()
        except self._api.SchemaRegistryError as error:
            if isinstance(error.error_code, int) and error.error_code // 100 == 404:
                return None
            raise

    def _ask(self, question: Callable[[Any], _Answer]) -> _Answer:
        """Return the answer to a question, or raise `SchemaError` within the time it has.

        The client's own timeout is one of silence: a server that sends a byte now and then, or a
        name server that sends none, outlasts it. So a thread asks, and is left behind if need be.
        """
        answer: Future[_Answer] = Future()

        def work() -> None:
            try:
                with self._connect() as client:
                    answer.set_result(question(client))
            except Exception as error:  # noqa: BLE001  # raised in the thread that waits for it
                answer.set_exception(error)

        Thread(target=work, name="k2-schema-registry", daemon=True).start()
        try:
            return answer.result(self._timeout_s)
        except SchemaError:
            raise
        except TimeoutError as error:
            reason = f"no answer within {self._timeout_s:g} s"
            raise RegistryError(self._url, reason) from error
        except self._api.SchemaRegistryError as error:
            reason = f"answered HTTP {error.http_status_code}: {error.error_message}"
            raise RegistryError(self._url, reason) from error
        except Exception as error:  # whatever the HTTP library makes of a dead or silent server
            raise RegistryError(self._url, f"{type(error).__name__}: {error}") from error

    def _connect(self) -> Any:
        return self._api.SchemaRegistryClient(self._settings)

    def _schema(self, text: str) -> Any:
        return self._api.Schema(text, "AVRO")


def _import_client() -> Any:
    try:
        return importlib.import_module("confluent_kafka.schema_registry")
    except ImportError:
        raise MissingExtraError("confluent-kafka[schemaregistry]", "kafka") from None


def _is_same_json(one: str, other: str) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except (TypeError, ValueError):  # no JSON: a Protobuf schema
        return False
