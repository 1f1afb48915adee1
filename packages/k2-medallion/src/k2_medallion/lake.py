"""Lake: a home's tables as they are now. A table is loaded again only when its pointer moves."""

from __future__ import annotations

from collections.abc import Mapping

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import BooleanExpression
from pyiceberg.manifest import DataFile
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from sqlalchemy import text

from .catalog import CATALOG_NAME, LakeHome, list_exchanges, open_catalog
from .data_files import plan_data_files
from .errors import CatalogError
from .store import name_file_errors
from .tables import NAMESPACE, TableSpec

_POINTERS = text(
    "SELECT table_name, metadata_location FROM iceberg_tables"
    " WHERE catalog_name = :catalog AND table_namespace = :namespace"
)

_MOST_PLANS = 64
"""Plans that are kept: a screen of charts asks the same of one state again and again."""


class Lake:
    """The tables of a home, by name, and the plans made of them."""

    def __init__(self, home: LakeHome) -> None:
        self._home = home
        self._catalog: SqlCatalog = open_catalog(home)
        self._held: dict[str, Table] = {}
        self._plans: dict[tuple[int, str], list[DataFile]] = {}
        self._exchanges: list[str] = []
        self._exchanges_of: set[str] = set()

    def close(self) -> None:
        """Close the catalog."""
        self._catalog.close()

    def load_all(self) -> Mapping[str, Table]:
        """Return every table with its newest metadata; one read of the catalog if none moved."""
        return {name: self._load(name, place) for name, place in self._read_pointers().items()}

    def load(self, *specs: TableSpec) -> Mapping[str, Table]:
        """Return those of the tables that there are."""
        pointers = self._read_pointers()
        names = [spec.name for spec in specs if spec.name in pointers]
        return {name: self._load(name, pointers[name]) for name in names}

    def require(self, tables: Mapping[str, Table], spec: TableSpec) -> Table:
        """Return a table; raise `CatalogError` when the lake has none of that name."""
        if spec.name not in tables:
            raise CatalogError(
                f"the lake in {self._home.path} has no table {spec.name}; k2-lake makes it when it "
                "starts"
            )
        return tables[spec.name]

    def plan(
        self, table: Table, snapshot_id: int | None, rows: BooleanExpression
    ) -> list[DataFile]:
        """Return the files that may hold the rows; a snapshot never changes, so a plan keeps."""
        if snapshot_id is None:
            return []
        key = (snapshot_id, str(rows))
        found = self._plans.pop(key, None)
        if found is None:
            found = plan_data_files(table, snapshot_id, rows)
            while len(self._plans) >= _MOST_PLANS:
                del self._plans[next(iter(self._plans))]
        # Newest last: the one that has not been used for longest goes first.
        self._plans[key] = found
        return found

    def list_exchanges(self) -> list[str]:
        """Return the exchanges as records name them, in upper case, as of the last load."""
        return self._exchanges

    def _read_pointers(self) -> dict[str, str]:
        with self._catalog.engine.connect() as connection:
            rows = connection.execute(_POINTERS, {"catalog": CATALOG_NAME, "namespace": NAMESPACE})
            pointers = {str(name): str(place) for name, place in rows}
        if pointers.keys() != self._exchanges_of:
            self._exchanges = [name.upper() for name in list_exchanges(self._catalog)]
            self._exchanges_of = set(pointers)
        return pointers

    def _load(self, name: str, place: str) -> Table:
        """Return the table as that file says, even if its pointer has moved on meanwhile."""
        held = self._held.get(name)
        if held is None or held.metadata_location != place:
            io = self._home.file_io
            with name_file_errors(name):
                metadata = FromInputFile.table_metadata(io.new_input(place))
            held = Table((NAMESPACE, name), metadata, place, io, self._catalog)
            self._held[name] = held
        return held
