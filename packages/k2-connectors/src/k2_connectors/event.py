"""Event: what a feed tells beside trades. A `Gap` is a loss that is known, named and final."""

from __future__ import annotations

from typing import Literal

import msgspec

ORIGIN = "origin"
"""Key of `vendor_data` that says where a trade came from, if not from the live stream in turn."""

BACKFILL = "backfill"
"""The origin of a trade that was fetched over REST."""

LATE = "late"
"""The origin of a live trade that came behind its successors and that REST does not have."""

MAX_LETTER_BYTES = 900_000
"""What a dead letter may hold: with its headers it must fit into one Kafka record, a million."""

StatusKind = Literal["live", "lost", "subscribed", "unsubscribed", "refused", "rest_failed"]
"""A connection became live, or was lost; symbols were taken up, left, or refused by the venue; its
REST answered, but not with trades: it is asked again."""


class Gap(msgspec.Struct, frozen=True):
    """Trades of one pair, `first_id` to `last_id`, both included, that nobody can give any more."""

    venue: str
    pair: str
    first_id: int
    last_id: int
    reason: str

    @property
    def count(self) -> int:
        """How many trades are missing."""
        return self.last_id - self.first_id + 1


class Status(msgspec.Struct, frozen=True):
    """A change in how a venue's feed is doing.

    `pairs` are those that were subscribed, unsubscribed or refused, in the venue's own words.
    """

    venue: str
    kind: StatusKind
    detail: str = ""
    pairs: tuple[str, ...] = ()
