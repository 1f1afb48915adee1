"""`k2 dlq`: list and show dead letters, and put them back into their topic."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from k2_medallion import LakeReader
from k2_schemas.topics import trades_topic

from .dead_letter import (
    DeadLetter,
    Place,
    count_returns,
    find_dead_letters,
    list_exchange_topics,
    name_place_sql,
    read_record,
    split_by_exchange,
)
from .errors import CommandError
from .options import DEFAULT_BOOTSTRAP, Bootstrap, Home, open_home, read_client_settings
from .rows import escape_text, print_table, to_text

if TYPE_CHECKING:
    from .requeue import Requeueing

app = typer.Typer(
    no_args_is_help=True,
    help="List and show dead letters; put those of a trade topic back into it.",
)

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Topic = Annotated[str, typer.Argument(help="The record's Kafka topic.")]
Partition = Annotated[int, typer.Argument(min=0)]


@app.command("list")
def list_(
    home: Home = Path(".k2"),
    since: Annotated[
        str | None, typer.Option(help="Only of the last time: 30m, 24h, 7d.", metavar="AGE")
    ] = None,
    error_type: Annotated[
        str | None, typer.Option("--type", help="Only of this error type, as `schema`.")
    ] = None,
    exchange: Annotated[str | None, typer.Option(help="Only of this exchange.")] = None,
    limit: Annotated[int, typer.Option(help="Newest rows to list.", min=0)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Count dead letters by type and reason, and list the newest.

    Example: k2 dlq list --since 24h --exchange binance
    """
    where = " AND ".join(_filter(since, error_type, exchange)) or "true"
    source = f"FROM silver_dlq_trades WHERE {where}"
    # A rule says first what it demands, then what it found: which differs from row to row.
    cause = "regexp_replace(error_reason, ',? found .*', '')"
    with LakeReader(open_home(home)) as lake:
        counts = lake.sql(
            f"SELECT count(*) AS rows, error_type, {cause} AS reason {source}"
            " GROUP BY 2, 3 ORDER BY 1 DESC, 2, 3"
        ).to_arrow()
        rows = lake.sql(
            "SELECT error_timestamp, kafka_topic, kafka_partition, kafka_offset, error_type,"
            f" octet_length(raw_record) AS size_bytes, error_reason {source}"
            f" ORDER BY error_timestamp DESC, 2, 3, 4 DESC LIMIT {limit}"
        ).to_arrow()
    if as_json:
        shown = {"counts": counts.to_pylist(), "rows": rows.to_pylist()}
        typer.echo(json.dumps(shown, default=to_text))
        return
    print_table(counts)
    for row in rows.to_pylist():
        typer.echo(_describe(row))


@app.command()
def show(
    topic: Topic,
    partition: Partition,
    offset: Annotated[int, typer.Argument(min=0)],
    home: Home = Path(".k2"),
    raw: Annotated[
        bool, typer.Option("--raw", help="Nothing but the record's bytes, on stdout.")
    ] = False,
) -> None:
    """Show a dead letter: why it died, its bytes, and what of them can be read.

    Example: k2 dlq show market.crypto.trades.binance 0 4711
    """
    place = Place(topic, partition, offset)
    with LakeReader(open_home(home)) as lake:
        letter = _find_one(lake, place)
        topics = list_exchange_topics(lake)
        returns = {
            place: count
            for exchange, own in split_by_exchange([letter], topics)
            for place, count in count_returns(lake, exchange, own).items()
        }
    if raw:
        sys.stdout.buffer.write(letter.raw or b"")
        return
    row = {name: value for name, value in letter.row.items() if name != "raw_record"}
    shown: dict[str, Any] = row | {"returned": returns.get(place, 0)} | read_record(letter.raw)
    # Escaped beyond ASCII: a stranger wrote it, and terminals obey more than JSON forbids.
    typer.echo(json.dumps(shown, indent=2, default=to_text))


@app.command()
def requeue(
    topic: Annotated[str | None, typer.Argument(help="The records' Kafka topic.")] = None,
    partition: Annotated[int | None, typer.Argument(min=0)] = None,
    offsets: Annotated[list[int] | None, typer.Argument(metavar="OFFSET...")] = None,
    where: Annotated[
        str | None, typer.Option(help="All for which this SQL holds, over silver_dlq_trades.")
    ] = None,
    home: Home = Path(".k2"),
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    again: Annotated[
        bool, typer.Option("--again", help="Also what has come again since it died.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done; ask no Kafka.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Produce dead records to their topic again: same bytes, same key, a new offset.

    They run through the whole pipeline, with today's rules; their old rows stay. A row whose bytes
    the lake has read again since it died is left out, unless --again. Wait until k2-lake has read
    what was requeued before requeueing the same again: what is still on its way nobody can count.

    Example: k2 dlq requeue --where "error_type = 'range'" --dry-run
    """
    from .requeue import plan_requeueing
    from .requeue import requeue as produce

    by_place = topic is not None and partition is not None and bool(offsets)
    if by_place == (where is not None) or (topic is not None and not by_place):
        raise typer.BadParameter("give either TOPIC PARTITION OFFSET... or --where")
    with LakeReader(open_home(home)) as lake:
        if where is not None:
            letters = find_dead_letters(lake, where)
        else:
            assert topic is not None
            assert partition is not None
            letters = _find_all(lake, topic, partition, offsets or [])
        plan = plan_requeueing(lake, letters, again=again)
    if by_place and plan.foreign:
        raise CommandError(_explain_foreign(topic or ""))
    if plan.letters and not dry_run:
        produce(bootstrap, plan, read_client_settings(os.environ))
    _print_plan(plan, dry_run=dry_run, again=again, as_json=as_json)


def _describe(row: dict[str, Any]) -> str:
    """Write a dead letter in one line, its place as `k2 dlq show` takes it."""
    time = row["error_timestamp"]
    place = " ".join(str(row[f"kafka_{name}"]) for name in ("topic", "partition", "offset"))
    size = "no value" if row["size_bytes"] is None else f"{row['size_bytes']:,} bytes"
    return (
        f"{time and time.isoformat(timespec='seconds')}  {escape_text(place)}  "
        f"{escape_text(row['error_type'])}, {size}: {escape_text(row['error_reason'])}"
    )


def _print_plan(plan: Requeueing, *, dry_run: bool, again: bool, as_json: bool) -> None:
    count = len(plan.letters)
    if as_json:
        shown = {
            "requeued": 0 if dry_run else count,
            "places": [str(letter.place) for letter in plan.letters],
            "returned": {str(place): times for place, times in plan.returned.items()},
            "foreign": [str(letter.place) for letter in plan.foreign],
        }
        typer.echo(json.dumps(shown))
        return
    if dry_run:
        for letter in plan.letters:
            typer.echo(str(letter.place))
    typer.echo(f"{'would requeue' if dry_run else 'requeued'} {count:,} records")
    if plan.returned:
        most = max(plan.returned.values())
        treated = "among them" if again else "left out (--again takes them too)"
        typer.echo(f"{len(plan.returned):,} came again already, up to {most} times: {treated}")
    for topic in sorted({letter.place.topic for letter in plan.foreign}):
        own = sum(letter.place.topic == topic for letter in plan.foreign)
        typer.echo(f"{own:,} left out: {_explain_foreign(topic)}")


def _explain_foreign(topic: str) -> str:
    return (
        f"{topic} is no trade topic of this lake: its records are frames as the exchange sent "
        "them, and no part of the pipeline reads frames from Kafka"
    )


def _filter(since: str | None, error_type: str | None, exchange: str | None) -> list[str]:
    """Return the SQL conditions of the options that were given."""
    conditions = []
    if since is not None:
        begin = datetime.now(UTC) - _parse_age(since)
        conditions.append(f"error_timestamp >= TIMESTAMPTZ '{begin.isoformat()}'")
    if error_type is not None:
        conditions.append(f"error_type = {_quote(error_type)}")
    if exchange is not None:
        # The feed's own dead letters begin with the venue's name.
        venue = _quote(f"{exchange.lower()}: ")
        topic = _quote(trades_topic(exchange))
        conditions.append(f"(kafka_topic = {topic} OR starts_with(error_reason, {venue}))")
    return conditions


def _parse_age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no age; write 90s, 30m, 24h or 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _find_one(lake: LakeReader, place: Place) -> DeadLetter:
    found = find_dead_letters(lake, name_place_sql(place))
    if not found:
        raise CommandError(f"no dead letter at {place}; see those there are: k2 dlq list")
    return found[0]


def _find_all(
    lake: LakeReader, topic: str, partition: int, offsets: Sequence[int]
) -> list[DeadLetter]:
    return [_find_one(lake, Place(topic, partition, offset)) for offset in dict.fromkeys(offsets)]


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
