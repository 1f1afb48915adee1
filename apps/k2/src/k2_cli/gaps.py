"""Gaps: trade numbers that never reached the lake, and how to fetch them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import typer

from k2_connectors import ConnectorError, Hole, open_venue
from k2_medallion.audit import DeadId, IdHole
from k2_schemas import SchemaError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Cure(NamedTuple):
    """What fills a hole: the venue's own request for it, and where k2-feed must begin again.

    `pair` is the venue's name of the symbol, `position` the trade id and the time (microseconds
    since 1970 UTC) that the feed's checkpoint must have for it.
    """

    url: str
    pair: str
    position: tuple[int, int]


def read_frame_ids(
    exchange: str, symbols: Sequence[str], frames: Iterable[bytes]
) -> Iterator[DeadId]:
    """Yield (symbol, trade number) of the trades in frames that the feed could not decode.

    They have come: they are dead letters and not missing. None of a venue that is not installed.
    """
    try:
        venue = open_venue(exchange, symbols)
    except (ConnectorError, SchemaError):
        return
    for frame in frames:
        try:
            dead_ids = venue.decode(frame, 0).dead_ids
        except ConnectorError:
            # A refused subscription is dead too, and no trade.
            continue
        for pair, trade_id in dead_ids:
            yield venue.instruments.find(pair).symbol, trade_id


def find_cure(hole: IdHole) -> Cure | None:
    """Return how to fill a hole, or None when no venue of that name is installed."""
    after_us = 0 if hole.before is None else (hole.before - _EPOCH) // timedelta(microseconds=1)
    try:
        venue = open_venue(hole.exchange.lower(), [hole.symbol])
    except (ConnectorError, SchemaError):
        return None
    (instrument,) = venue.instruments
    first, last = hole.missing
    request = venue.first_request(Hole(instrument.pair, first, last, after_us))
    return Cure(request.url, instrument.pair, (first - 1, after_us))


def print_json(holes: Sequence[IdHole]) -> None:
    """Print one JSON object a hole."""
    for hole in holes:
        cure = find_cure(hole)
        shown: dict[str, Any] = hole.to_dict()
        typer.echo(json.dumps(shown | (cure._asdict() if cure else {"url": None})))


def print_lines(holes: Sequence[IdHole]) -> None:
    """Print the holes for people, a line each, and once a symbol how to fill them."""
    for hole in holes:
        typer.echo(str(hole))
    for line in _describe_cures(holes):
        typer.echo(line)
    if not holes:
        typer.echo("no gap: every trade number between the first and the last is in the lake")


def _describe_cures(holes: Sequence[IdHole]) -> list[str]:
    """Return the venue's request for each symbol's first hole, and what makes the feed ask it."""
    firsts = {(hole.exchange, hole.symbol): hole for hole in reversed(holes)}
    lines = []
    for (exchange, symbol), hole in sorted(firsts.items()):
        cure = find_cure(hole)
        if cure is None:
            lines.append(f"{exchange} {symbol}: no venue of that name is installed here")
            continue
        place = f'positions."{exchange.lower()}"."{cure.pair}"'
        lines.append(f"{exchange} {symbol}: GET {cure.url}")
        lines.append(f"  or stop k2-feed, set {place} = {json.dumps(cure.position)}")
        lines.append(
            "  in its checkpoint and start it: it fetches from there; Gold takes each once"
        )
    return lines
