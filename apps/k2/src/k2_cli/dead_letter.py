"""Dead letters: what was refused, why, and whether it has come again since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from k2_medallion import DEAD_LETTERS, LakeReader, bronze_trades
from k2_schemas import FileRegistry, SchemaError, TradeCodec, compile, parse_frame
from k2_schemas.topics import trades_topic

_COLUMNS = ", ".join(name for name in DEAD_LETTERS.column_names if name != "dlq_date")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record is, or was, in Kafka."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead record: bytes as Kafka held them (None: no value), its place, and the whole row."""

    place: Place
    raw: bytes | None
    row: dict[str, Any]


def find_dead_letters(lake: LakeReader, where: str) -> list[DeadLetter]:
    """Return the dead letters for which a SQL condition holds, each place once, in its order.

    Raises `QueryError` for a condition that is none.
    """
    # On a line of its own: a comment at its end would take the bracket with it.
    query = f"SELECT {_COLUMNS} FROM {DEAD_LETTERS.name} WHERE (\n{where}\n)"
    found = {}
    for row in lake.sql(query).to_arrow().to_pylist():
        place = Place(row["kafka_topic"], row["kafka_partition"], row["kafka_offset"])
        found[place] = DeadLetter(place, row["raw_record"], row)
    return [found[place] for place in sorted(found, key=_order)]


def name_place_sql(place: Place) -> str:
    """Return the SQL condition of one place."""
    topic = place.topic.replace("'", "''")
    return (
        f"kafka_topic = '{topic}' AND kafka_partition = {place.partition}"
        f" AND kafka_offset = {place.offset}"
    )


def list_exchange_topics(lake: LakeReader) -> dict[str, str]:
    """Return the exchange (lower-case name) of every trade topic of the lake."""
    names = lake.sql("SELECT name FROM (SHOW TABLES)").to_arrow()["name"].to_pylist()
    exchanges = (
        name.removeprefix("bronze_").removesuffix("_trades")
        for name in names
        if name.startswith("bronze_")
    )
    return {trades_topic(exchange): exchange for exchange in exchanges}


def split_by_exchange(
    letters: Sequence[DeadLetter], topics: dict[str, str]
) -> Iterator[tuple[str, list[DeadLetter]]]:
    """Yield (exchange, its letters) for the letters that came from a trade topic."""
    for topic, exchange in topics.items():
        own = [letter for letter in letters if letter.place.topic == topic]
        if own:
            yield exchange, own


def count_returns(
    lake: LakeReader, exchange: str, letters: Sequence[DeadLetter]
) -> dict[Place, int]:
    """Return how often the bytes of an exchange's dead letters came again after they had died.

    By their bytes: a table has no headers. The bytes hold when the feed received the trade, so the
    same ones again are a requeued record; only junk may be alike by chance. What the lake has not
    read yet is not counted.
    """
    if not letters:
        return {}
    places = {letter.place for letter in letters}
    offsets = ", ".join(sorted({str(place.offset) for place in places}))
    rows = lake.sql(f"""
SELECT d.kafka_topic AS topic, d.kafka_partition AS part, d.kafka_offset AS place, count(*) AS n
FROM (SELECT * FROM {DEAD_LETTERS.name} WHERE kafka_offset IN ({offsets})) d
JOIN {bronze_trades(exchange).name} b
ON b.raw_bytes = d.raw_record AND b.ingestion_timestamp > d.error_timestamp
  AND b.topic = d.kafka_topic
  AND (b.partition <> d.kafka_partition OR b."offset" <> d.kafka_offset)
GROUP BY ALL""").to_arrow()
    found = {Place(row["topic"], row["part"], row["place"]): row["n"] for row in rows.to_pylist()}
    return {place: count for place, count in found.items() if place in places}


def read_record(raw: bytes | None) -> dict[str, Any]:
    """Return what the bytes say as far as they can be read, and whether they are a trade."""
    if raw is None:
        return {"bytes": None}
    shown: dict[str, Any] = {"bytes": raw.hex(), "size_bytes": len(raw)}
    registry = FileRegistry.packaged()
    try:
        schema_id, body = parse_frame(raw)
        shown["record"] = compile(registry.get(schema_id).text).decode(body)
    except SchemaError as error:
        return shown | {"trade": str(error), **_read_text(raw)}
    try:
        TradeCodec(registry).decode(raw)
    except SchemaError as error:
        return shown | {"trade": str(error)}
    return shown | {"trade": "exact"}


def _read_text(raw: bytes) -> dict[str, str]:
    """Return a frame of an exchange as what it is, text."""
    try:
        return {"text": raw.decode()}
    except UnicodeDecodeError:
        return {}


def _order(place: Place) -> tuple[str, int, int]:
    return place.topic, place.partition, place.offset
