"""Id holes: which of an exchange's trade numbers the lake lacks, found without holding them all.

The rule is `k2_validation.find_missing_ids`: what lies between the lowest and the highest id and is
not there. Here DuckDB sorts, on disk if need be, and only the holes come out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from k2_schemas import SchemaError, TradeCodec
from k2_schemas.topics import DEADLETTER_TOPIC
from k2_validation import IdRange

from .frozen import FrozenLake
from .scan import quote_day, quote_text
from .tables import DEAD_LETTERS, bronze_trades, silver_trades

DeadId = tuple[str, int]
"""A symbol and the number of one of its trades that is a dead letter."""

ReadFrameIds = Callable[[str, Sequence[str], Iterable[bytes]], Iterable[DeadId]]
"""Reads the trade numbers out of frames that the feed could not decode: given the exchange
(lower-case name), its symbols and the frames. Only who knows the exchange's protocol can."""

_IDS = range(-(2**63), 2**63)
"""What a number of a broken frame may be; no trade of ours has another."""

_DEAD_IDS = pa.schema([("symbol", pa.string()), ("id", pa.int64())])


@dataclass(frozen=True, slots=True)
class IdHole:
    """Trade numbers of a symbol that are missing, and when its neighbours were traded.

    `exchange` is as records name it, in upper case; `before` and `after` are the times of the
    trades numbered `missing.first - 1` and `missing.last + 1`, None where one is a dead letter.
    """

    exchange: str
    symbol: str
    missing: IdRange
    before: datetime | None
    after: datetime | None

    def __str__(self) -> str:
        first, last = self.missing
        times = " to ".join(_write_time(time) for time in (self.before, self.after))
        return (
            f"{self.exchange} {self.symbol}: {self.missing.size:,} missing, ids {first} to {last}, "
            f"traded {times}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold: ids as numbers, times as ISO 8601."""
        first, last = self.missing
        times = {name: getattr(self, name) for name in ("before", "after")}
        written = {name: time and time.isoformat() for name, time in times.items()}
        names = {name: asdict(self)[name] for name in ("exchange", "symbol")}
        return names | {"first": first, "last": last, "count": self.missing.size} | written


def find_holes(
    lake: FrozenLake, exchange: str, read_frame_ids: ReadFrameIds | None = None
) -> list[IdHole]:
    """Return what an exchange (lower-case name) is missing, by symbol and id.

    Silver says which ids there are, from the day on that it has whole. A dead letter whose number
    can still be read fills a hole, as its trade did arrive; it does not make one, as what it says
    has been refused. Trades without a number are left out.
    """
    silver = silver_trades(exchange).name
    horizon = quote_day(lake.find_horizon(silver_trades(exchange)))
    whole = f'SELECT * FROM {silver} WHERE "timestamp" >= {horizon}'
    rows = f'SELECT symbol, source_sequence AS id, "timestamp" AS time FROM ({whole})'
    if not lake.ask(f"{find_holes_sql(rows)} LIMIT 1"):
        return []
    name = f"dead_ids_{exchange}"
    lake.register(name, _read_dead_ids(lake, exchange, read_frame_ids))
    bounds = f"SELECT symbol, min(source_sequence), max(source_sequence) FROM ({whole}) GROUP BY 1"
    inside = (
        f"SELECT dead.symbol, id, NULL FROM {name} dead JOIN ({bounds}) held(symbol, low, high)"
        " ON dead.symbol = held.symbol AND id BETWEEN low AND high"
    )
    found = lake.ask(f"{find_holes_sql(f'{rows} UNION ALL {inside}')} ORDER BY symbol, first")
    return [
        IdHole(
            exchange=exchange.upper(),
            symbol=row["symbol"],
            missing=IdRange(int(row["first"]), int(row["last"])),
            before=row["before"],
            after=row["after"],
        )
        for row in found
    ]


def find_holes_sql(rows: str) -> str:
    """Return SQL for the holes (symbol, first, last, before, after) of rows (symbol, id, time).

    Repeats need no DISTINCT: an id is no hole's distance from itself. As HUGEINT, because two ids
    may be further apart than a BIGINT can say.
    """
    return f"""
SELECT symbol, previous + 1 AS first, id - 1 AS last, before, time AS after
FROM (
  SELECT symbol, id, time, lag(id) OVER ids AS previous, lag(time) OVER ids AS before
  FROM (SELECT symbol, id::HUGEINT AS id, time FROM ({rows}) WHERE id IS NOT NULL)
  WINDOW ids AS (PARTITION BY symbol ORDER BY id)
)
WHERE id - previous > 1"""


def _read_dead_ids(
    lake: FrozenLake, exchange: str, read_frame_ids: ReadFrameIds | None
) -> pa.Table:
    """Return (symbol, id) of the dead letters that can be read: records, and the feed's frames."""
    source = quote_text(bronze_trades(exchange).name)
    codec = TradeCodec(lake.registry)
    found = list(_decode_ids(codec, _read_raw(lake, f"bronze_source = {source}")))
    if read_frame_ids is not None:
        query = f"SELECT DISTINCT symbol FROM {silver_trades(exchange).name} ORDER BY symbol"
        symbols = [row["symbol"] for row in lake.ask(query)]
        # What the feed could not decode begins its reason with the venue's name.
        venue = quote_text(f"{exchange}: ")
        own = f"kafka_topic = '{DEADLETTER_TOPIC}' AND starts_with(error_reason, {venue})"
        found += read_frame_ids(exchange, symbols, _read_raw(lake, own))
    rows = [{"symbol": symbol, "id": number} for symbol, number in found if number in _IDS]
    return pa.Table.from_pylist(rows, schema=_DEAD_IDS)


def _read_raw(lake: FrozenLake, own: str) -> Iterator[bytes]:
    query = f"SELECT raw_record FROM {DEAD_LETTERS.name} WHERE {own} AND raw_record IS NOT NULL"
    return (row["raw_record"] for row in lake.stream(query))


def _decode_ids(codec: TradeCodec, raw_records: Iterable[bytes]) -> Iterator[DeadId]:
    for raw in raw_records:
        try:
            trade = codec.decode(raw)
        except SchemaError:
            continue
        if trade.source_sequence is not None:
            yield trade.symbol, trade.source_sequence


def _write_time(time: datetime | None) -> str:
    return "?" if time is None else time.isoformat()
