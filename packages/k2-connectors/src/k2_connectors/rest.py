"""REST: what a backfill asks of a venue, as data. No socket, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from k2_schemas import SchemaError, Trade

from .event import MAX_LETTER_BYTES

OPEN_END = 2**63 - 1
"""Last id of a hole that has no end: whatever the venue has from the first id on."""


class Hole(NamedTuple):
    """Ids of one pair that are missing, both ends included.

    `after_us` is the match time (microseconds since 1970 UTC) of the last trade known before the
    hole, or 0: venues whose REST pages go by time start there.
    """

    pair: str
    first_id: int
    last_id: int
    after_us: int = 0


class RestRequest(NamedTuple):
    """One GET. `weight` counts against the venue's limit; `cursor` is the venue's own business."""

    url: str
    hole: Hole
    weight: int = 1
    headers: Mapping[str, str] = {}
    cursor: str = ""


class RestResponse(NamedTuple):
    """What came back; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RestLimit(NamedTuple):
    """What a venue allows one address: `weight` every `per_s` seconds."""

    weight: int
    per_s: float


class DeadRow(NamedTuple):
    """A row of a page that no trade can be made of: the exchange sent it, so it is not missing."""

    trade_id: int
    raw: bytes
    reason: str


class RestPage(msgspec.Struct, frozen=True):
    """What a response held.

    `trades` are those of the hole, ascending by id, and `dead` the rows that cannot be trades.
    `next` is the request for what the page did not reach, None when the hole is covered or the
    venue has no more. `retry_after_s` is set when the venue refused to answer now; `problem` when
    the response is not what it should be; `unknown_pair` when it says that there is no such pair.
    """

    trades: Sequence[Trade] = ()
    next: RestRequest | None = None
    retry_after_s: float | None = None
    problem: str | None = None
    dead: Sequence[DeadRow] = ()
    unknown_pair: bool = False


def rest_beside(base_url: str) -> str:
    """Return where the REST of a replaced WebSocket host is looked for: at the same place."""
    return "http" + base_url.removeprefix("ws")


DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, SchemaError)
"""What bytes that are no frame, page or trade of a venue raise."""


class Rows(NamedTuple):
    """What the rows of a page make of its hole: trades ascending by id, and the newest id seen."""

    trades: list[Trade]
    dead: list[DeadRow]
    newest_id: int


def read_rows(
    raws: Iterable[msgspec.Raw],
    hole: Hole,
    read_id: Callable[[msgspec.Raw], int],
    build: Callable[[msgspec.Raw], Trade],
) -> Rows:
    """Build the trades of a hole from a page's rows; one that cannot be built is dead.

    A row without an id is no row of the venue, so what `read_id` raises is raised: then the page
    itself is a problem.
    """
    trades: list[Trade] = []
    dead: list[DeadRow] = []
    newest_id = 0
    for raw in raws:
        row_id = read_id(raw)
        newest_id = max(newest_id, row_id)
        if hole.first_id <= row_id <= hole.last_id:
            try:
                trades.append(build(raw))
            except DECODE_ERRORS as error:
                dead.append(_bury(row_id, bytes(raw), str(error)))
    trades.sort(key=lambda trade: trade.source_sequence or 0)
    return Rows(trades, dead, newest_id)


def _bury(row_id: int, raw: bytes, reason: str) -> DeadRow:
    if len(raw) > MAX_LETTER_BYTES:
        reason = f"cut at {MAX_LETTER_BYTES:,} of {len(raw):,} bytes: {reason}"
    return DeadRow(row_id, raw[:MAX_LETTER_BYTES], reason)


_RATE_LIMITED = (403, 418, 429)
_DEFAULT_RETRY_S = 60.0


def read_refusal(response: RestResponse) -> RestPage | None:
    """Return the page of a response without content: refused for now, or an error; else None."""
    if response.status in _RATE_LIMITED:
        after = response.headers.get("retry-after", "")
        known = after.isdecimal() and len(after) < 7
        return RestPage(retry_after_s=max(1.0, float(after)) if known else _DEFAULT_RETRY_S)
    if response.status != 200:
        return RestPage(problem=f"HTTP status {response.status}: {response.body[:200]!r}")
    return None
