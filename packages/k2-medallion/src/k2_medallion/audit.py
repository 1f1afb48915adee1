"""Audit: Kafka, Bronze, Silver, dead letters, Gold and candles against each other, at one instant.

It reads the tables' files and nothing else; what Kafka holds, its caller says. No Spark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from k2_schemas.registry import Registry
from k2_schemas.topics import DEADLETTER_TOPIC, trades_topic

from .catalog import LakeHome
from .errors import QueryError
from .frozen import FrozenLake
from .id_holes import DeadId, IdHole, ReadFrameIds, find_holes
from .law import Law
from .layer_laws import (
    judge_candles,
    judge_dead_letters,
    judge_gold,
    judge_verdicts,
)
from .places import Lag, OffsetRange, OffsetRanges, PlaceAudit, audit_places
from .tables import DEAD_LETTERS, bronze_trades

__all__ = [
    "AuditReport",
    "DeadId",
    "IdHole",
    "Lag",
    "Law",
    "OffsetRange",
    "OffsetRanges",
    "ReadFrameIds",
    "ReadRanges",
    "audit_lake",
    "list_holes",
]

ReadRanges = Callable[[Sequence[str]], OffsetRanges]
"""Asks Kafka for the ranges of topics."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What holds and what does not.

    `laws` are between the tables and with Kafka; a law that does not hold is a breach: rows were
    lost, doubled or changed. `holes` are trade numbers that never reached the lake: the exchange's
    numbering says so, the tables agree with each other. `lags` and `pending` (batches per table
    that lacks them) are work not done yet. `rows` are counts per table.
    """

    laws: tuple[Law, ...]
    holes: tuple[IdHole, ...]
    lags: tuple[Lag, ...]
    pending: Mapping[str, int]
    rows: Mapping[str, int]

    @property
    def breaches(self) -> list[Law]:
        """The laws that do not hold."""
        return [law for law in self.laws if not law.holds]

    @property
    def settled(self) -> bool:
        """Whether all that Kafka holds has gone through all tables."""
        return not self.lags and not self.pending

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "breaches": len(self.breaches),
            "settled": self.settled,
            "laws": [law.to_dict() for law in self.laws],
            "holes": [hole.to_dict() for hole in self.holes],
            "lags": [lag.to_dict() for lag in self.lags],
            "pending": dict(self.pending),
            "rows": dict(self.rows),
        }


def audit_lake(
    home: LakeHome,
    read_ranges: ReadRanges | None = None,
    *,
    read_frame_ids: ReadFrameIds | None = None,
    since: date | None = None,
    registry: Registry | None = None,
) -> AuditReport:
    """Audit a home; `read_ranges` is asked once for its topics, after the tables have been read.

    In this order, because Kafka is ahead of the tables and never behind. Without it only the tables
    are compared with each other. Without `read_frame_ids` a trade that the feed could not decode
    counts as one that never came. Days that retention has removed are excused; with `since` only
    what came in, or was traded, from that day (UTC) on is judged, and nothing older is read.
    `registry` has the schemas that do not ship with k2-schemas. Raises `CatalogError` where there
    is no lake, `SchemaLackingError` if Silver has rows of a schema that is not known here,
    `QueryError` when maintenance has replaced a file meanwhile: ask again.
    """
    with FrozenLake(home, since, registry) as lake:
        topics = [*map(trades_topic, lake.exchanges), DEADLETTER_TOPIC]
        ranges = None if read_ranges is None else read_ranges(topics)
        places = list(_audit_topics(lake, ranges))
        laws = [law for found in places for law in found.laws]
        laws.append(judge_dead_letters(lake))
        for exchange in lake.exchanges:
            laws += judge_verdicts(lake, exchange)
            laws += judge_gold(lake, exchange)
            laws += judge_candles(lake, exchange)
        return AuditReport(
            laws=tuple(laws),
            holes=tuple(_list_all_holes(lake, lake.exchanges, read_frame_ids)),
            lags=tuple(lag for found in places for lag in found.lags),
            pending=lake.pending,
            rows=lake.count_rows(),
        )


def list_holes(
    home: LakeHome,
    *,
    exchange: str | None = None,
    symbol: str | None = None,
    read_frame_ids: ReadFrameIds | None = None,
    registry: Registry | None = None,
) -> list[IdHole]:
    """Return the trade numbers that never reached a home, of one exchange or symbol if named.

    See `audit_lake` for `read_frame_ids` and `registry`. Raises `CatalogError` where there is no
    lake, `QueryError` for an exchange it does not have.
    """
    with FrozenLake(home, registry=registry) as lake:
        wanted = [name for name in lake.exchanges if exchange in (None, name, name.upper())]
        if exchange is not None and not wanted:
            known = ", ".join(lake.exchanges) or "none"
            raise QueryError(f"no exchange {exchange!r} in {home.path}; there are: {known}")
        holes = list(_list_all_holes(lake, wanted, read_frame_ids))
    return [hole for hole in holes if symbol in (None, hole.symbol)]


def _list_all_holes(
    lake: FrozenLake, exchanges: Sequence[str], read_frame_ids: ReadFrameIds | None
) -> Iterator[IdHole]:
    for exchange in exchanges:
        yield from find_holes(lake, exchange, read_frame_ids)


def _audit_topics(lake: FrozenLake, ranges: OffsetRanges | None) -> Iterator[PlaceAudit]:
    for exchange in lake.exchanges:
        bronze = bronze_trades(exchange)
        rows = f'SELECT topic, "partition", "offset", ingestion_date AS day FROM {bronze.name}'
        topic, horizon = trades_topic(exchange), lake.find_horizon(bronze)
        yield audit_places(lake, bronze.name, rows, topic, ranges, horizon)
    rows = (
        'SELECT kafka_topic AS topic, kafka_partition AS "partition", kafka_offset AS "offset",'
        f" dlq_date AS day FROM {DEAD_LETTERS.name}"
    )
    horizon = lake.find_horizon(DEAD_LETTERS)
    yield audit_places(lake, DEAD_LETTERS.name, rows, DEADLETTER_TOPIC, ranges, horizon)
