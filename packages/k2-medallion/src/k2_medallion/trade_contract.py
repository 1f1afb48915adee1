"""Trade contract: the schemas that frames of a topic may carry, and the columns they make.

It can grow while the lake runs: a schema that adds a nullable field adds a column.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Self

import structlog

from k2_schemas import FileRegistry, ServerRegistry, UnknownSchemaError
from k2_schemas.contract import Severity, check
from k2_schemas.registry import LockedSchema, Registry
from k2_schemas.topics import SUBJECT

from .tables import TRADE_COLUMNS, Column

_log = structlog.get_logger()

_MOST_ASKED = 100

_LOGICAL = {"timestamp-micros": "timestamptz", "date": "date", "uuid": "string"}
_PLAIN = {
    "string": "string",
    "enum": "string",
    "bytes": "binary",
    "boolean": "boolean",
    "int": "int",
    "long": "long",
}


class TradeContract:
    """Every schema of the trades' subject, read with the newest of them.

    `open_registry` is called again to learn a schema that turned up: a lock file may have grown.
    """

    def __init__(self, open_registry: Callable[[], Registry]) -> None:
        self._open = open_registry
        self.schemas: dict[int, LockedSchema] = {}
        registry = open_registry()
        if isinstance(registry, ServerRegistry) and registry.failure is not None:
            # What is locked suffices for now; what is not will have to wait for an answer.
            _log.warning("registry_silent", url=registry.url, why=str(registry.failure))
        for schema_id in registry.ids:
            self._take(registry.get(schema_id))

    @classmethod
    def packaged(cls) -> Self:
        """Return the contract that ships with k2-schemas."""
        return cls(FileRegistry.packaged)

    @property
    def ids(self) -> tuple[int, ...]:
        """Every known schema id, ascending."""
        return tuple(sorted(self.schemas))

    @property
    def newest(self) -> LockedSchema:
        """The schema that all frames are read with; fields that older ones lack are defaults."""
        return max(self.schemas.values(), key=lambda schema: (schema.version, schema.schema_id))

    @property
    def added_columns(self) -> tuple[Column, ...]:
        """The columns beyond contract V2's 15, in the newest schema's order."""
        known = {name for name, _ in TRADE_COLUMNS}
        fields = json.loads(self.newest.text)["fields"]
        added = ((field["name"], _to_iceberg(field["type"])) for field in fields)
        return tuple((name, kind) for name, kind in added if name not in known and kind)

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns of a trade."""
        return (*TRADE_COLUMNS, *self.added_columns)

    def learn(self, schema_ids: Iterable[int]) -> bool:
        """Ask the registry for ids that turned up; return whether it knows one that was not known.

        Of very many only the smallest: garbage has any id, and a registry counts from one.

        Raises `RegistryError` if it does not answer: frames of a schema that nobody can be asked
        about are not taken for broken ones.
        """
        registry = self._open()
        before = len(self.schemas)
        for schema_id in sorted(set(schema_ids))[:_MOST_ASKED]:
            try:
                self._take(registry.get(schema_id))
            except UnknownSchemaError:
                continue
        return len(self.schemas) > before

    def _take(self, schema: LockedSchema) -> None:
        """Take a schema of our subject that reads every older record as it was meant."""
        if schema.subject != SUBJECT or schema.schema_id in self.schemas:
            return
        if self.schemas:
            findings = check(self.newest.text, schema.text)
            breaking = [found for found in findings if found.severity is Severity.BREAKING]
            if breaking:
                said = "; ".join(map(str, breaking))
                _log.error("schema_refused", schema_id=schema.schema_id, why=said)
                return
            _log.info("schema_learned", schema_id=schema.schema_id, version=schema.version)
        self.schemas[schema.schema_id] = schema


def _to_iceberg(kind: Any) -> str | None:
    """Return the column type of a nullable field's Avro type; None for one that makes no column."""
    if isinstance(kind, list):
        others = [part for part in kind if part != "null"]
        return _to_iceberg(others[0]) if len(others) == 1 else None
    if isinstance(kind, dict):
        logical = kind.get("logicalType")
        if logical == "decimal":
            return f"decimal({kind['precision']}, {kind.get('scale', 0)})"
        return _LOGICAL.get(str(logical)) or _to_iceberg(kind["type"])
    return _PLAIN.get(kind)
