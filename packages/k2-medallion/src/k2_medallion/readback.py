"""Readback: what Bronze's bytes say, against what Silver has made of them, batch by batch.

The bytes are decoded by k2-schemas' own codec: not by Spark's, which made Silver of them. Of each
batch only the number of its rows and the sum of their hashes is kept, so that a lake of any size
fits; two rows exchanged for two others would need hashes that add up to the same 64 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal

import duckdb
import pyarrow as pa

from k2_schemas import FrameError, RecordDecodeError, UnknownSchemaError, compile, parse_frame
from k2_schemas.avro import Codec

from .duck import open_duck
from .errors import SchemaLackingError
from .frozen import FrozenLake
from .tables import TRADE_COLUMNS

_SUMS = pa.schema(
    [
        ("batch", pa.timestamp("us", "UTC")),
        ("n", pa.int64()),
        ("content", pa.decimal128(38, 0)),
    ]
)
_TYPES = {
    "string": "VARCHAR",
    "timestamptz": "TIMESTAMPTZ",
    "decimal(18, 8)": "DECIMAL(18, 8)",
    "long": "BIGINT",
    "list<string>": "VARCHAR[]",
    "map<string, string>": "MAP(VARCHAR, VARCHAR)",
}


def open_codecs(lake: FrozenLake, silver: str) -> Mapping[int, Codec]:
    """Return the codec of each schema that a Silver table has rows of.

    Raises `SchemaLackingError` for one that is not known: nothing could be said about its rows.
    """
    ids = f"SELECT DISTINCT schema_id AS id FROM {silver} WHERE schema_id IS NOT NULL ORDER BY 1"
    codecs = {}
    for row in lake.ask(ids):
        try:
            codecs[row["id"]] = compile(lake.registry.get(row["id"]).text)
        except UnknownSchemaError:
            raise SchemaLackingError(silver, row["id"]) from None
    return codecs


def sum_silver_sql(rows: str) -> str:
    """Return SQL for (batch, n, content) of Silver rows."""
    return f"""
SELECT bronze_ingestion_timestamp AS batch, count(*) AS n,
  {_content_sql()}::DECIMAL(38, 0) AS content
FROM ({rows}) GROUP BY 1"""


def sum_bronze(lake: FrozenLake, rows: str, codecs: Mapping[int, Codec]) -> pa.Table:
    """Return (batch, n, content) of rows (`raw_bytes`, `batch`) of Bronze that were accepted.

    One that `codecs` refuse or do not know counts, without a content: no Silver row can be as it
    says.
    """
    sums: dict[datetime, tuple[int, int]] = {}
    with open_duck() as duck:
        for chunk in lake.read_chunks(f"SELECT raw_bytes, batch FROM ({rows})"):
            for batch, n, content in _sum_chunk(duck, chunk, codecs):
                count, total = sums.get(batch, (0, 0))
                sums[batch] = (count + n, total + content)
    found = [
        {"batch": batch, "n": count, "content": Decimal(total)}
        for batch, (count, total) in sums.items()
    ]
    return pa.Table.from_pylist(found, schema=_SUMS)


def _sum_chunk(
    duck: duckdb.DuckDBPyConnection, chunk: pa.RecordBatch, codecs: Mapping[int, Codec]
) -> Iterator[tuple[datetime, int, int]]:
    bodies: dict[int, list[bytes]] = {}
    batches: dict[int, list[datetime]] = {}
    for raw, batch in zip(chunk["raw_bytes"].to_pylist(), chunk["batch"].to_pylist(), strict=True):
        try:
            schema_id, body = parse_frame(raw)
        except FrameError:
            schema_id, body = -1, b""
        if schema_id in codecs:
            bodies.setdefault(schema_id, []).append(body)
            batches.setdefault(schema_id, []).append(batch)
        else:
            yield batch, 1, 0
    for schema_id, found in bodies.items():
        yield from _sum_bodies(duck, codecs[schema_id], found, batches[schema_id])


def _sum_bodies(
    duck: duckdb.DuckDBPyConnection, codec: Codec, bodies: list[bytes], batches: list[datetime]
) -> Iterator[tuple[datetime, int, int]]:
    try:
        decoded = codec.decode_arrow(bodies)
    except RecordDecodeError:
        if len(bodies) == 1:
            yield batches[0], 1, 0
            return
        half = len(bodies) // 2
        yield from _sum_bodies(duck, codec, bodies[:half], batches[:half])
        yield from _sum_bodies(duck, codec, bodies[half:], batches[half:])
        return
    rows = pa.table(decoded).append_column("batch", pa.array(batches, _SUMS.field("batch").type))
    duck.register("said", rows)
    yield from duck.sql(f"SELECT batch, count(*), {_content_sql()} FROM said GROUP BY 1").fetchall()
    duck.unregister("said")


def _content_sql() -> str:
    """Return SQL for the sum of the rows' hashes, of all 15 fields."""
    fields = ", ".join(_write_field(name, kind) for name, kind in TRADE_COLUMNS)
    return f"sum(hash({fields})::HUGEINT)"


def _write_field(name: str, kind: str) -> str:
    typed = f'"{name}"::{_TYPES[kind]}'
    # A map has no order, but its entries do.
    return f"list_sort(map_entries({typed}))" if kind.startswith("map") else typed
