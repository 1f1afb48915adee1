"""Dead letters: what was refused, why, and whether it has come again since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from k2_medallion import DEAD_LETTERS, GOLD_TRADES, LakeReader, bronze_trades
from k2_medallion.scan import quote_text
from k2_medallion.tables import find_exchanges
from k2_medallion.time_range import DEDUP_SLACK
from k2_schemas import FileRegistry, SchemaError, TradeCodec, compile, parse_frame
from k2_schemas.topics import trades_topic

_SLACK_US = DEDUP_SLACK // timedelta(microseconds=1)

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
    return (
        f"kafka_topic = {quote_text(place.topic)} AND kafka_partition = {place.partition}"
        f" AND kafka_offset = {place.offset}"
    )


def list_exchange_topics(lake: LakeReader) -> dict[str, str]:
    """Return the exchange (lower-case name) of every trade topic of the lake."""
    names = lake.sql("SELECT name FROM (SHOW TABLES)").to_arrow()["name"].to_pylist()
    return {trades_topic(exchange): exchange for exchange in find_exchanges(names)}


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
    same ones again are a requeued record; only junk may be alike by chance. Bronze keeps them for
    days, the dead letters those that died once more for months; and a trade that is in Gold has
    come, whenever that was. What the lake has not read yet is not counted.
    """
    if not letters:
        return {}
    places = {letter.place for letter in letters}
    offsets = ", ".join(sorted({str(place.offset) for place in places}))
    rows = lake.sql(f"""
WITH d AS (SELECT * FROM {DEAD_LETTERS.name} WHERE kafka_offset IN ({offsets})),
read_again AS (
  SELECT topic, "partition", "offset", raw_bytes AS raw, ingestion_timestamp AS time
  FROM {bronze_trades(exchange).name}
  UNION ALL
  SELECT kafka_topic, kafka_partition, kafka_offset, raw_record, error_timestamp
  FROM {DEAD_LETTERS.name}
)
SELECT d.kafka_topic AS topic, d.kafka_partition AS part, d.kafka_offset AS place,
  count(DISTINCT (b."partition", b."offset")) AS n
FROM d JOIN read_again b
ON b.raw = d.raw_record AND b.time > d.error_timestamp AND b.topic = d.kafka_topic
  AND (b."partition" <> d.kafka_partition OR b."offset" <> d.kafka_offset)
GROUP BY ALL""").to_arrow()
    found = {Place(row["topic"], row["part"], row["place"]): row["n"] for row in rows.to_pylist()}
    known = dict.fromkeys(_find_in_gold(lake, exchange, letters), 1)
    return {place: count for place, count in (known | found).items() if place in places}


def _find_in_gold(
    lake: LakeReader, exchange: str, letters: Sequence[DeadLetter]
) -> Iterator[Place]:
    """Yield the places of the letters whose trade Gold has."""
    codec, ids, times = TradeCodec(), {}, []
    for letter in letters:
        with suppress(SchemaError):
            trade = codec.decode(letter.raw or b"")
            ids[letter.place] = trade.message_id
            times.append(trade.timestamp_us)
    if not ids:
        return
    wanted = ", ".join(quote_text(message_id) for message_id in sorted(set(ids.values())))
    rows = lake.sql(f"""
SELECT DISTINCT message_id FROM {GOLD_TRADES.name}
WHERE exchange = {quote_text(exchange.upper())} AND message_id IN ({wanted})
  AND epoch_us("timestamp") BETWEEN {min(times) - _SLACK_US} AND {max(times) + _SLACK_US}""")
    held = set(rows.to_arrow()["message_id"].to_pylist())
    yield from (place for place, message_id in ids.items() if message_id in held)


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
