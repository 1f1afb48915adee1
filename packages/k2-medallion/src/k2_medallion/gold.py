"""Gold: each accepted trade once. Deduplication is stateless: memory grows with the batch alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce

import pyarrow as pa
from pyiceberg.expressions import And, BooleanExpression, Or
from pyiceberg.table import Table
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from .data_files import plan_data_files
from .duck import open_duck
from .scan import is_equal, is_equal_sql, is_within, is_within_sql, scan_sql
from .time_range import DEDUP_SLACK, TimeRange, from_micros, merge_ranges
from .window import Window

_HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Tally:
    """What a batch of Silver rows holds: rows, distinct ids, ids that occur twice.

    `ranges` are the rows' times, one range an hour touched, ascending.
    """

    rows: int
    distinct: int
    repeated: pa.Table
    ranges: tuple[TimeRange, ...]

    @property
    def first(self) -> datetime:
        """The oldest row's time; only if there is one."""
        return min(found.first for found in self.ranges)

    @property
    def last(self) -> datetime:
        """The newest row's time; only if there is one."""
        return max(found.last for found in self.ranges)


def count_ids(ids: pa.Table) -> Tally:
    """Count a batch's rows (message_id, timestamp)."""
    with open_duck() as duck:
        duck.register("ids", ids)
        repeated = duck.sql(
            "SELECT message_id FROM ids GROUP BY message_id HAVING count(*) > 1"
        ).to_arrow_table()
        (distinct,) = duck.sql("SELECT count(DISTINCT message_id) FROM ids").fetchall()[0]
        hours = duck.sql(
            'SELECT min(epoch_us("timestamp")), max(epoch_us("timestamp")) FROM ids'
            f' GROUP BY epoch_us("timestamp") // {_HOUR_US} ORDER BY 1'
        ).fetchall()
        duck.unregister("ids")
    ranges = (TimeRange(from_micros(first), from_micros(last)) for first, last in hours)
    return Tally(ids.num_rows, distinct, repeated, tuple(ranges))


def find_known(ids: pa.Table, gold: Table, exchange: str, ranges: Iterable[TimeRange]) -> pa.Table:
    """Return the message_ids of a batch that the Gold table holds already, each once.

    `ranges` cover the batch's times. They are literals in the plan, so only files that overlap are
    read; the hash side of the join is the batch, never the table.
    """
    held = select_rows(gold, exchange, "timestamp", merge_ranges(ranges, DEDUP_SLACK))
    with open_duck(gold.io) as duck:
        duck.register("ids", ids)
        known = duck.sql(
            f"SELECT DISTINCT message_id FROM ({held}) WHERE message_id IN"
            " (SELECT message_id FROM ids)"
        ).to_arrow_table()
        duck.unregister("ids")
    return known


def select_rows(table: Table, exchange: str, column: str, ranges: Sequence[TimeRange]) -> str:
    """Return SQL for an exchange's rows of a table whose time lies in one of the ranges."""
    if not ranges:
        return scan_sql(table.schema(), [])
    snapshot = table.current_snapshot()
    windows = [Window(first, last + timedelta(microseconds=1)) for first, last in ranges]
    inside: BooleanExpression = reduce(Or, (is_within(column, window) for window in windows))
    condition = And(is_equal("exchange", exchange.upper()), inside)
    files = plan_data_files(table, snapshot.snapshot_id if snapshot else None, condition)
    rows = " OR ".join(f"({is_within_sql(column, window)})" for window in windows)
    where = f"{is_equal_sql('exchange', exchange.upper())} AND ({rows})"
    return f"SELECT * FROM ({scan_sql(table.schema(), files)}) WHERE {where}"


def to_gold(silver: DataFrame, trade_names: Sequence[str]) -> DataFrame:
    """Return Silver rows as Gold rows, as many as there are."""
    return (
        silver.select(*trade_names)
        .withColumn("exchange_date", F.to_date("timestamp"))
        .withColumn("exchange_hour", F.hour("timestamp"))
    )


def drop_repeats(rows: DataFrame, repeated: pa.Table) -> DataFrame:
    """Return one row per message_id; `repeated` are the ids that occur more than once.

    Only their rows are grouped: they are few, and grouping every row costs more than writing it.
    """
    ids = F.broadcast(rows.sparkSession.createDataFrame(repeated))
    single = rows.join(ids, "message_id", "left_anti")
    double = rows.join(ids, "message_id", "left_semi").dropDuplicates(["message_id"])
    return single.unionByName(double)


def drop_known(rows: DataFrame, known: pa.Table) -> DataFrame:
    """Return the rows whose message_id is not among the known ones."""
    ids = F.broadcast(rows.sparkSession.createDataFrame(known))
    return rows.join(ids, "message_id", "left_anti")
