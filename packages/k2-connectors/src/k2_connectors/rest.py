"""REST: what a backfill asks of a venue, as data. No socket, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from k2_schemas import Trade


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
    the response is not what it should be.
    """

    trades: Sequence[Trade] = ()
    next: RestRequest | None = None
    retry_after_s: float | None = None
    problem: str | None = None
    dead: Sequence[DeadRow] = ()


def rest_beside(base_url: str) -> str:
    """Return where the REST of a replaced WebSocket host is looked for: at the same place."""
    return "http" + base_url.removeprefix("ws")


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
