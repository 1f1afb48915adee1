"""Catalog: one SQLite file that Spark and PyIceberg share. Opens, creates and describes tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
)
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import IdentityTransform, parse_transform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    TimestamptzType,
)
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from .errors import CatalogError
from .store import ObjectStore, name_file_errors
from .tables import NAMESPACE, RETIRED_BEFORE, TableSpec, find_exchanges

CATALOG_NAME = "k2"
"""Part of every key in the catalog file: another name would silently see an empty catalog."""

_PROPERTY_ATTEMPTS = 10

_TYPES: dict[str, IcebergType] = {
    "string": StringType(),
    "binary": BinaryType(),
    "boolean": BooleanType(),
    "int": IntegerType(),
    "long": LongType(),
    "date": DateType(),
    "timestamptz": TimestamptzType(),
    "list<string>": ListType(1000, StringType(), element_required=False),
    "map<string, string>": MapType(2000, StringType(), 2001, StringType(), value_required=False),
}


@dataclass(frozen=True, slots=True)
class LakeHome:
    """A lake's folder: catalog file, checkpoints, and the warehouse unless a `store` holds that."""

    path: Path
    store: ObjectStore | None = None

    @property
    def catalog_file(self) -> Path:
        """The SQLite file with the pointer to each table's metadata."""
        return self.path / "catalog.db"

    @property
    def warehouse(self) -> str:
        """The URI under which data and metadata files lie."""
        if self.store is not None:
            return self.store.warehouse
        return f"file://{(self.path / 'warehouse').resolve()}"

    @property
    def file_io(self) -> FileIO:
        """PyIceberg's access to those files."""
        return load_file_io({} if self.store is None else self.store.file_properties)

    @property
    def checkpoints(self) -> Path:
        """One folder per flow; safe to delete, the tables know where they are."""
        return self.path / "checkpoints"


def open_catalog(home: LakeHome, *, create: bool = False, is_patient: bool = False) -> SqlCatalog:
    """Open the catalog of a home; raise `CatalogError` when there is none and `create` is false.

    With `is_patient`, a store that does not answer is asked again for up to a minute.
    """
    if set("%#?") & set(str(home.path.resolve())):
        raise CatalogError(f"{home.path} has %, # or ? in its path, which a URL reads otherwise")
    if not home.catalog_file.exists():
        if not create:
            raise CatalogError(f"no lake in {home.path}; make one with: k2 demo --home {home.path}")
        home.path.mkdir(parents=True, exist_ok=True)
    catalog = SqlCatalog(
        CATALOG_NAME,
        uri=f"sqlite:///{home.catalog_file.resolve()}?timeout=30",
        warehouse=home.warehouse,
        init_catalog_tables=str(create).lower(),
        **({} if home.store is None else home.store.file_properties),
        **(home.store.patience if home.store is not None and is_patient else {}),
    )
    if create:
        with suppress(NamespaceAlreadyExistsError):
            catalog.create_namespace(NAMESPACE)
    try:
        catalog.list_tables(NAMESPACE)
    except (OperationalError, NoSuchNamespaceError) as error:
        catalog.close()
        raise CatalogError(
            f"the lake in {home.path} is not complete; let the k2 demo or k2-lake that makes it "
            "go on, or run it again"
        ) from error
    return catalog


def ensure_tables(catalog: SqlCatalog, specs: Iterable[TableSpec]) -> None:
    """Create the tables that are missing and add the columns that are; nothing is ever dropped.

    Raises `CatalogError` for a table that its flow cannot use.
    """
    for spec in specs:
        with name_file_errors(spec.name):
            _ensure(catalog, spec)


def list_exchanges(catalog: SqlCatalog) -> list[str]:
    """Return the lower-case names of the exchanges that have tables, sorted."""
    return find_exchanges(name for _, name in catalog.list_tables(NAMESPACE))


def load_table(catalog: SqlCatalog, spec: TableSpec) -> Table | None:
    """Load a table with its current metadata, or None when it does not exist yet.

    Metadata names every snapshot that is kept and takes tens of milliseconds to parse; the catalog
    says in less than one whether that which was parsed last is still current. Threads share it.
    """
    # In the catalog itself: tables know their catalog, so a map beside it would keep both for ever.
    parsed: dict[str, Table] = vars(catalog).setdefault("_k2_parsed", {})
    table = parsed.get(spec.identifier)
    if table is not None and table.metadata_location == _find_location(catalog, spec):
        return table
    try:
        table = parsed[spec.identifier] = catalog.load_table(spec.identifier)
    except NoSuchTableError:
        return None
    return table


def require_table(catalog: SqlCatalog, spec: TableSpec) -> Table:
    """Load a table that was ensured at start."""
    table = load_table(catalog, spec)
    assert table is not None, f"{spec.name} was ensured at start"
    return table


def set_property(
    catalog: SqlCatalog, spec: TableSpec, key: str, choose: Callable[[str | None], str]
) -> None:
    """Set a table's property, however many others commit to the table at this moment.

    `choose` is given the value that is there, at each attempt and once more when it is set:
    PyIceberg sets over what another has set meanwhile. What it raises ends it.
    """
    for attempt in range(_PROPERTY_ATTEMPTS):
        table = catalog.load_table(spec.identifier)
        known = table.properties.get(key)
        value = choose(known)
        if value == known:
            return
        try:
            table.transaction().set_properties({key: value}).commit_transaction()
        except CommitFailedException:
            if attempt + 1 == _PROPERTY_ATTEMPTS:
                raise


def read_horizon(table: Table) -> date:
    """Return the day from which on a table has all of its rows, as retention has told."""
    told = table.properties.get(RETIRED_BEFORE)
    return date.min if told is None else date.fromisoformat(told)


def count_rows(table: Table | None) -> int:
    """Count a table's rows from its current snapshot's summary; reads no data."""
    snapshot = table.current_snapshot() if table is not None else None
    if snapshot is None or snapshot.summary is None:
        return 0
    return int(snapshot.summary["total-records"] or 0)


def _find_location(catalog: SqlCatalog, spec: TableSpec) -> str | None:
    """Return where a table's current metadata is, or None when the table does not exist."""
    namespace, _, name = spec.identifier.rpartition(".")
    query = select(IcebergTables.metadata_location).where(
        IcebergTables.catalog_name == catalog.name,
        IcebergTables.table_namespace == namespace,
        IcebergTables.table_name == name,
    )
    with catalog.engine.connect() as connection:
        location: str | None = connection.scalar(query)
    return location


def _ensure(catalog: SqlCatalog, spec: TableSpec) -> None:
    try:
        table = catalog.load_table(spec.identifier)
    except NoSuchTableError:
        _create(catalog, spec)
        return
    _add_columns(table, spec)
    _check(table, spec)


def _create(catalog: SqlCatalog, spec: TableSpec) -> None:
    schema = Schema(
        *(
            NestedField(number, name, _to_type(kind), required=False)
            for number, (name, kind) in enumerate(spec.columns, start=1)
        )
    )
    column, transform = spec.partition
    partition = PartitionField(
        source_id=schema.find_field(column).field_id,
        field_id=1000,
        transform=parse_transform(transform),
        name=f"{column}_{transform}",
    )
    sort_fields = [
        SortField(schema.find_field(name).field_id, transform=IdentityTransform())
        for name in spec.sort
    ]
    catalog.create_table(
        spec.identifier,
        schema,
        partition_spec=PartitionSpec(partition),
        sort_order=SortOrder(*sort_fields),
        properties=spec.properties,
    )


def _add_columns(table: Table, spec: TableSpec) -> None:
    """Add the spec's columns that a table lacks, at its end: older rows have NULL there."""
    held = {field.name for field in table.schema().fields}
    missing = [column for column in spec.columns if column[0] not in held]
    if missing:
        with table.update_schema() as update:
            for name, kind in missing:
                update.add_column(name, _to_type(kind))


def _to_type(kind: str) -> IcebergType:
    """Return Iceberg's type of a column; decimals have any precision and scale."""
    if kind.startswith("decimal"):
        precision, scale = kind.removeprefix("decimal(").removesuffix(")").split(",")
        return DecimalType(int(precision), int(scale))
    return _TYPES[kind]


def _check(table: Table, spec: TableSpec) -> None:
    if table.properties.get("write.wap.enabled") != "true":
        raise CatalogError(
            f"{spec.name} has lost its property write.wap.enabled=true: batches would be published "
            "unaudited; set it back with ALTER TABLE … SET TBLPROPERTIES before starting the lake"
        )
    found = {field.name: str(field.field_type) for field in table.schema().fields}
    for name, kind in spec.columns:
        if found.get(name) != str(_to_type(kind)):
            raise CatalogError(
                f"{spec.name}.{name} is {found.get(name, 'missing')}, this version writes {kind}; "
                "use another home, or the version that made this one"
            )
