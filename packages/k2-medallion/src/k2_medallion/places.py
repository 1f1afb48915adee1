"""Places: a topic's records in a table, each offset once, against what Kafka says it has given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, NamedTuple

from .frozen import FrozenLake
from .law import MOST_EXAMPLES, Law, take_examples
from .scan import quote_day, quote_text


class OffsetRange(NamedTuple):
    """What Kafka holds of a partition: from `low`, included, to `high`, excluded."""

    low: int
    high: int


OffsetRanges = Mapping[tuple[str, int], OffsetRange]
"""By (topic, partition)."""


@dataclass(frozen=True, slots=True)
class Lag:
    """Offsets that Kafka holds and the table has not read yet: from `position` to before `high`."""

    topic: str
    partition: int
    position: int
    high: int

    @property
    def offsets(self) -> int:
        """How many."""
        return self.high - self.position

    def __str__(self) -> str:
        place = f"{self.topic}/{self.partition}"
        return f"{place}: {self.offsets:,} offsets not read yet, from {self.position}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, and how many offsets they are."""
        return asdict(self) | {"offsets": self.offsets}


class HeldOffsets(NamedTuple):
    """What a table holds of a partition: rows, distinct offsets, the lowest and the highest."""

    rows: int
    offsets: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class PlaceAudit:
    """The laws of one topic's places in one table, and what of it is not read yet."""

    laws: tuple[Law, ...]
    lags: tuple[Lag, ...]


def audit_places(
    lake: FrozenLake,
    table: str,
    rows: str,
    topic: str,
    ranges: OffsetRanges | None,
    horizon: date,
) -> PlaceAudit:
    """Judge rows (SQL for `topic`, `partition`, `offset`, `day`) of a table by a topic's offsets.

    Retention has removed days before `horizon`, if that is not `date.min`: what follows a row of
    such a day, or comes before the first one, may have gone with them. What Kafka has deleted is
    missed all the same: it cannot be read any more.
    """
    own = f'SELECT "partition", "offset", day FROM ({rows}) WHERE topic = {quote_text(topic)}'
    held = _read_held(lake, own)
    laws = [_judge_repeats(lake, table, own, held)]
    kafka = None if ranges is None else _select(ranges, topic)
    holes = list(_list_holes(lake, own, horizon))
    missing = list(_list_missing(holes, held, kafka, prefix_may_go=horizon > date.min))
    offsets = sum(found.offsets for found in held.values())
    lost = sum(last - first + 1 for _, first, last in missing)
    examples = take_examples(_write_range(topic, *place) for place in missing)
    laws.append(Law(table, f"no offset of {topic} is missing", offsets + lost, offsets, examples))
    if kafka is not None:
        laws.append(_judge_ends(table, topic, held, kafka))
    lags = [
        Lag(topic, partition, position, high)
        for partition, (low, high) in (kafka or {}).items()
        if (position := max(low, held[partition].last + 1 if partition in held else 0)) < high
    ]
    return PlaceAudit(tuple(laws), tuple(lags))


def _read_held(lake: FrozenLake, rows: str) -> dict[int, HeldOffsets]:
    query = (
        'SELECT "partition" AS place, count(*) AS n, count(*) FILTER (step IS NULL OR step > 0)'
        f' AS places, min("offset") AS first, max("offset") AS last FROM ({_steps_sql(rows)})'
        " GROUP BY 1 ORDER BY 1"
    )
    return {
        row["place"]: HeldOffsets(row["n"], row["places"], row["first"], row["last"])
        for row in lake.ask(query)
    }


def _steps_sql(rows: str) -> str:
    """Return SQL for rows with the step from the offset before, 0 if repeated, and its day.

    Sorted rather than counted: DuckDB's sort goes to disk, and needs no set of all offsets.
    """
    return (
        'SELECT *, "offset" - lag("offset") OVER places AS step, lag(day) OVER places AS day_before'
        f' FROM ({rows}) WINDOW places AS (PARTITION BY "partition" ORDER BY "offset")'
    )


def _judge_repeats(lake: FrozenLake, table: str, rows: str, held: Mapping[int, HeldOffsets]) -> Law:
    expected = sum(found.offsets for found in held.values())
    law = Law(table, "each record is there once", expected, sum(h.rows for h in held.values()))
    if law.holds:
        return law
    repeats = f'SELECT DISTINCT "partition", "offset" FROM ({_steps_sql(rows)}) WHERE step = 0'
    twice = lake.ask(f"{repeats} ORDER BY ALL LIMIT {MOST_EXAMPLES}")
    examples = tuple(f"partition {row['partition']} offset {row['offset']}" for row in twice)
    return Law(table, law.name, law.expected, law.found, examples)


def _list_holes(lake: FrozenLake, rows: str, horizon: date) -> Iterator[tuple[int, int, int]]:
    """Yield (partition, first, last) of the offsets missing between two that are held."""
    query = (
        f"SELECT * FROM ({_steps_sql(rows)}) WHERE step > 1 AND day_before >= {quote_day(horizon)}"
        ' ORDER BY "partition", "offset"'
    )
    for row in lake.ask(query):
        yield row["partition"], row["offset"] - row["step"] + 1, row["offset"] - 1


def _list_missing(
    holes: list[tuple[int, int, int]],
    held: Mapping[int, HeldOffsets],
    kafka: Mapping[int, OffsetRange] | None,
    *,
    prefix_may_go: bool,
) -> Iterator[tuple[int, int, int]]:
    """Yield (partition, first, last) of the offsets that the table should hold and does not."""
    yield from holes
    for partition, found in held.items():
        low = found.last + 1 if kafka is None or partition not in kafka else kafka[partition].low
        if low < found.first and not prefix_may_go:
            yield partition, low, found.first - 1
        if low > found.last + 1:
            yield partition, found.last + 1, low - 1  # deleted before anybody has read it


def _judge_ends(
    table: str, topic: str, held: Mapping[int, HeldOffsets], kafka: Mapping[int, OffsetRange]
) -> Law:
    """Judge that nothing is held which Kafka has not given: then the topic is another one."""
    ends = {p: kafka[p].high if p in kafka else 0 for p in held}
    beyond = {p: found for p, found in held.items() if found.last >= ends[p]}
    examples = take_examples(
        f"partition {p} ends at {ends[p]} in Kafka, at {found.last + 1} here"
        for p, found in beyond.items()
    )
    name = f"partitions end no later than in {topic}"
    return Law(table, name, len(held), len(held) - len(beyond), examples)


def _select(ranges: OffsetRanges, topic: str) -> dict[int, OffsetRange]:
    return {partition: found for (name, partition), found in ranges.items() if name == topic}


def _write_range(topic: str, partition: int, first: int, last: int) -> str:
    return f"{topic}/{partition} offsets {first} to {last}"
