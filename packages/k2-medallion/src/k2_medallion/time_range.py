"""Time ranges: which stretches of time a batch touches, as literals by which files are skipped."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

MOST_RANGES = 32
"""Ranges that a plan names one by one; a batch over more of them is read as fewer, wider ones."""

DEDUP_SLACK = timedelta(seconds=1)
"""REST and socket may give the same trade times that differ in their last digits."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TimeRange(NamedTuple):
    """From `first` to `last`, both included."""

    first: datetime
    last: datetime


def from_micros(micros: int) -> datetime:
    """Return the UTC time of microseconds since 1970.

    Spark hands timestamps out in local time, which is ambiguous for an hour every autumn.
    """
    return _EPOCH + timedelta(microseconds=micros)


def merge_ranges(ranges: Iterable[TimeRange], slack: timedelta) -> list[TimeRange]:
    """Widen ranges by `slack` on both sides and join those that meet.

    Returns at most `MOST_RANGES`, ascending; the narrowest gaps are given up for that.
    """
    merged: list[TimeRange] = []
    for first, last in sorted(ranges):
        if merged and first - slack <= merged[-1].last:
            merged[-1] = TimeRange(merged[-1].first, max(merged[-1].last, last + slack))
        else:
            merged.append(TimeRange(first - slack, last + slack))
    return _join_nearest(merged)


def _join_nearest(ranges: list[TimeRange]) -> list[TimeRange]:
    surplus = len(ranges) - MOST_RANGES
    if surplus <= 0:
        return ranges
    gaps = sorted(range(1, len(ranges)), key=lambda n: ranges[n].first - ranges[n - 1].last)
    joined = set(gaps[:surplus])
    result: list[TimeRange] = []
    for place, found in enumerate(ranges):
        if place in joined:
            result[-1] = TimeRange(result[-1].first, found.last)
        else:
            result.append(found)
    return result
