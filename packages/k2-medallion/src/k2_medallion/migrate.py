"""Migrate: a Bronze of deserialised rows into one of raw bytes, and the proof that it is the same.

Every row is encoded with the contract, decoded again as strictly as the flows do, and compared
field by field, before anything is published. Rows that the contract refuses are reported and left
where they are: the old table is only read.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import to_avro

from k2_schemas.topics import trades_topic

from .decode import decode
from .errors import MedallionError
from .publish import ALONE, Guard, publish_rows
from .spark import table_name
from .tables import TRADE_COLUMNS, bronze_trades
from .trade_contract import TradeContract

_NAMES = [name for name, _ in TRADE_COLUMNS]
_PLACE = ("partition", "offset", "kafka_timestamp")
_OFFSET = ("topic", "partition", "offset")


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What became of the old rows. `examples` name rows that were not migrated, and why.

    `added` are the rows that Bronze did not have yet, None if nothing was to be published.
    """

    source: str
    rows: int
    migrated: int
    unequal: int
    refused: int
    added: int | None
    examples: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every row was migrated and reads as it did."""
        return self.added is not None and self.migrated == self.rows

    def __str__(self) -> str:
        lines = [
            f"{self.source}: {self.rows:,} rows; {self.migrated:,} encode to bytes that read as "
            f"they do, {self.unequal:,} read otherwise, {self.refused:,} are refused; "
            + ("nothing published" if self.added is None else f"{self.added:,} published")
        ]
        return "\n".join([*lines, *(f"  {example}" for example in self.examples)])


def migrate_bronze(
    spark: SparkSession, source: str, exchange: str, *, leave_refused: bool = False
) -> MigrationReport:
    """Migrate a table of contract V2's 15 columns, partition, offset and kafka_timestamp.

    `source` is the table's name for Spark. Nothing is published unless every row reads as it did;
    with `leave_refused`, rows that the contract refuses do not stand in the way. Offsets that
    Bronze has are left out, so a second run publishes nothing more. Nobody else may write Bronze
    meanwhile (`hold_home(home, alone=True)`). Raises `MedallionError` for a table of other columns.
    """
    rows = spark.table(source)
    missing = [name for name in (*_NAMES, *_PLACE) if name not in rows.columns]
    if missing:
        raise MedallionError(
            f"{source} has no {', '.join(missing)}; name the columns as contract V2 does, in a view"
        )
    contract = TradeContract.packaged()
    checked = _check(_encode(rows, exchange, contract), contract).persist()
    try:
        report = _report(checked, source)
        wanted = report.rows if leave_refused else report.migrated
        if report.unequal or (report.refused and not leave_refused) or not wanted:
            return report
        spec = bronze_trades(exchange)
        held = spark.table(table_name(spec)).select(*_OFFSET)
        good = checked.where("equal").select("bronze.*").select(*spec.column_names)
        lacking = good.join(held, [*_OFFSET], "left_anti").select(*spec.column_names)
        added = lacking.count()
        if added:
            guard = Guard("migrate", f"k2:migrate:{source}:{uuid.uuid4().hex}", since=ALONE)
            publish_rows(lacking, spec, guard, added)
        return replace(report, added=added)
    finally:
        checked.unpersist()


def _encode(rows: DataFrame, exchange: str, contract: TradeContract) -> DataFrame:
    """Return Bronze rows with the old row beside them, as `old`."""
    schema = contract.schemas[min(contract.ids)]
    header = b"\0" + schema.schema_id.to_bytes(4, "big")
    body = to_avro(F.struct(*_NAMES), schema.text)
    return rows.select(
        F.col("symbol").alias("message_key"),
        F.concat(F.expr(f"X'{header.hex()}'"), body).alias("raw_bytes"),
        F.lit(trades_topic(exchange)).alias("topic"),
        *_PLACE,
        # When the old table took a row in is not known: Kafka had it no later than that.
        F.col("kafka_timestamp").alias("ingestion_timestamp"),
        F.to_date("kafka_timestamp").alias("ingestion_date"),
        F.struct(*_NAMES).alias("old"),
    )


def _check(encoded: DataFrame, contract: TradeContract) -> DataFrame:
    """Decode what was encoded and compare it with the old row, field by field."""
    decoded = decode(encoded, contract)
    old = "bronze.old"
    same = [_is_same(F.col(name), F.col(f"{old}.{name}"), kind) for name, kind in TRADE_COLUMNS]
    readable = F.col("frame_error").isNull()
    return decoded.select(
        F.col("bronze").dropFields("old").alias("bronze"),
        F.col("frame_error"),
        (readable & reduce(Column.__and__, same)).alias("equal"),
    )


def _is_same(new: Column, old: Column, kind: str) -> Column:
    if kind.startswith("map"):
        return F.map_entries(new).eqNullSafe(F.map_entries(old))
    return new.eqNullSafe(old)


def _report(checked: DataFrame, source: str) -> MigrationReport:
    refused = F.col("frame_error").isNotNull()
    row = checked.agg(
        F.count("*"),
        F.count_if("equal"),
        F.count_if(~F.col("equal") & ~refused),
        F.count_if(refused),
    ).collect()[0]
    bad = checked.where(~F.col("equal")).limit(5)
    examples = tuple(
        f"partition {found[0]}, offset {found[1]}: {found[2] or 'reads otherwise'}"
        for found in bad.select("bronze.partition", "bronze.offset", "frame_error").collect()
    )
    rows, equal, unequal, dead = map(int, row)
    return MigrationReport(source, rows, equal, unequal, dead, None, examples)
