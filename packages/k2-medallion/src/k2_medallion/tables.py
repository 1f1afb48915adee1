"""Tables as data: what each holds, how it is laid out. No engine is imported here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

NAMESPACE = "market"

_BRONZE_NAME = re.compile(r"bronze_(.+)_trades")

RETIRED_BEFORE = "k2.retired-before"
"""The property that says from which day (ISO 8601) on a table still has all of its rows."""

Column = tuple[str, str]
"""A column's name and its Iceberg type, as the Iceberg specification writes it."""

TRADE_COLUMNS: tuple[Column, ...] = (
    ("message_id", "string"),
    ("trade_id", "string"),
    ("symbol", "string"),
    ("exchange", "string"),
    ("asset_class", "string"),
    ("timestamp", "timestamptz"),
    ("price", "decimal(18, 8)"),
    ("quantity", "decimal(18, 8)"),
    ("currency", "string"),
    ("side", "string"),
    ("trade_conditions", "list<string>"),
    ("source_sequence", "long"),
    ("ingestion_timestamp", "timestamptz"),
    ("platform_sequence", "long"),
    ("vendor_data", "map<string, string>"),
)
"""The 15 fields of contract V2, in its order."""

_UNLIKE = (
    "message_id",
    "trade_id",
    "timestamp",
    "source_sequence",
    "ingestion_timestamp",
    "platform_sequence",
    "vendor_data.value",
)

_PROPERTIES = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    # The default, 3, takes a tenth more CPU a row all in all, for files of the same size.
    "write.parquet.compression-level": "1",
    "write.metadata.compression-codec": "gzip",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "write.distribution-mode": "none",
    "write.target-file-size-bytes": str(128 << 20),
    "commit.manifest.min-count-to-merge": "10",
    "commit.retry.num-retries": "10",
    "commit.retry.min-wait-ms": "50",
    "commit.retry.max-wait-ms": "2000",
    "commit.retry.total-timeout-ms": "60000",
    # Without it Spark ignores the batch's id and commits in plain sight, unaudited and unfenced.
    "write.wap.enabled": "true",
}


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One Iceberg table. `partition` is (column, transform), `sort` are ascending columns.

    Days older than `kept_days` may be dropped; None keeps a table's rows for ever. The values of
    `unlike` columns hardly ever repeat: a dictionary of them is made in vain, and made it is a
    quarter of what writing costs.
    """

    name: str
    columns: tuple[Column, ...]
    partition: tuple[str, str]
    sort: tuple[str, ...] = ()
    kept_days: int | None = None
    unlike: tuple[str, ...] = ()
    overrides: Mapping[str, str] = field(default_factory=dict)

    @property
    def identifier(self) -> str:
        """The table's name within the catalog."""
        return f"{NAMESPACE}.{self.name}"

    @property
    def properties(self) -> dict[str, str]:
        """All Iceberg table properties."""
        prefix = "write.parquet.dict-encoding-enabled.column."
        plain = {f"{prefix}{name}": "false" for name in self.unlike}
        return {**_PROPERTIES, **plain, **self.overrides}

    def with_columns(self, added: Iterable[Column]) -> TableSpec:
        """Return the spec with more columns at its end."""
        return replace(self, columns=(*self.columns, *added))

    @property
    def column_names(self) -> tuple[str, ...]:
        """Column names in table order."""
        return tuple(name for name, _ in self.columns)


_BRONZE_KEPT = {"kraken": (14, 64)}
"""Days and file size in MB of Bronze, where they are not the usual 7 and 128."""


def bronze_trades(exchange: str) -> TableSpec:
    """Every Kafka record of an exchange's topic, byte for byte, with its place."""
    kept_days, file_mb = _BRONZE_KEPT.get(exchange, (7, 128))
    return TableSpec(
        name=f"bronze_{exchange}_trades",
        columns=(
            ("message_key", "string"),
            ("raw_bytes", "binary"),
            ("topic", "string"),
            ("partition", "int"),
            ("offset", "long"),
            ("kafka_timestamp", "timestamptz"),
            ("ingestion_timestamp", "timestamptz"),
            ("ingestion_date", "date"),
        ),
        partition=("ingestion_date", "day"),
        kept_days=kept_days,
        unlike=("raw_bytes", "offset", "kafka_timestamp", "ingestion_timestamp"),
        overrides={
            "write.metadata.metrics.column.raw_bytes": "none",
            "write.target-file-size-bytes": str(file_mb << 20),
        },
    )


def silver_trades(exchange: str) -> TableSpec:
    """Every record of an exchange that contract and rules accept, duplicates included."""
    return TableSpec(
        name=f"silver_{exchange}_trades",
        columns=(
            *TRADE_COLUMNS,
            ("validation_timestamp", "timestamptz"),
            ("bronze_ingestion_timestamp", "timestamptz"),
            ("schema_id", "int"),
        ),
        partition=("timestamp", "day"),
        kept_days=30,
        unlike=(*_UNLIKE, "bronze_ingestion_timestamp"),
    )


DEAD_LETTERS = TableSpec(
    name="silver_dlq_trades",
    columns=(
        ("raw_record", "binary"),
        ("error_reason", "string"),
        ("error_type", "string"),
        ("error_timestamp", "timestamptz"),
        ("bronze_source", "string"),
        ("kafka_topic", "string"),
        ("kafka_partition", "int"),
        ("kafka_offset", "long"),
        ("schema_id", "int"),
        ("rules_fingerprint", "string"),
        ("dlq_date", "date"),
    ),
    partition=("dlq_date", "day"),
    kept_days=90,
    overrides={"write.metadata.metrics.column.raw_record": "none"},
)
"""Every record that contract or rules refuse, once per (topic, partition, offset)."""

GOLD_TRADES = TableSpec(
    name="gold_crypto_trades",
    columns=(*TRADE_COLUMNS, ("exchange_date", "date"), ("exchange_hour", "int")),
    partition=("timestamp", "hour"),
    sort=("timestamp", "trade_id"),
    unlike=_UNLIKE,
    overrides={
        "write.distribution-mode": "hash",
        "write.parquet.row-group-size-bytes": str(16 << 20),
        "commit.manifest.min-count-to-merge": "8",
    },
)
"""Every accepted trade of every exchange, exactly once."""

GOLD_CANDLES = TableSpec(
    name="gold_candles_1m",
    columns=(
        ("exchange", "string"),
        ("symbol", "string"),
        ("start", "timestamptz"),
        ("open", "decimal(18, 8)"),
        ("high", "decimal(18, 8)"),
        ("low", "decimal(18, 8)"),
        ("close", "decimal(18, 8)"),
        ("volume", "decimal(38, 8)"),
        ("quote_volume", "decimal(38, 16)"),
        ("vwap", "decimal(18, 8)"),
        ("trade_count", "long"),
        ("first_trade_id", "string"),
        ("last_trade_id", "string"),
        ("version", "long"),
    ),
    partition=("start", "day"),
)
"""One-minute candles of Gold, append-only: of an (exchange, symbol, start) the highest version
holds. The version is the number of trades the candle was made of, so the same trades give the same
row again, and more trades a higher one."""


def find_exchanges(table_names: Iterable[str]) -> list[str]:
    """Return the exchanges (lower-case names, sorted) that have both of their tables there.

    Others may keep tables of their own beside ours, whatever those are called.
    """
    names = set(table_names)
    found = (_BRONZE_NAME.fullmatch(name) for name in names)
    exchanges = (match[1] for match in found if match is not None)
    return sorted(name for name in exchanges if silver_trades(name).name in names)


def all_tables(exchanges: Iterable[str]) -> list[TableSpec]:
    """Return the specs of a lake with these exchanges (lower-case names)."""
    names = list(exchanges)
    return [
        *map(bronze_trades, names),
        *map(silver_trades, names),
        DEAD_LETTERS,
        GOLD_TRADES,
        GOLD_CANDLES,
    ]
