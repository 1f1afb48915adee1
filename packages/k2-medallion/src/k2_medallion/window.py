"""Window: from one time to before another, in steps of whole candles."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple, Self

from .errors import QueryError

INTERVALS: Mapping[str, timedelta] = MappingProxyType(
    {
        "1m": timedelta(minutes=1),
        "5m": timedelta(minutes=5),
        "15m": timedelta(minutes=15),
        "30m": timedelta(minutes=30),
        "1h": timedelta(hours=1),
        "1d": timedelta(days=1),
    }
)
"""What a candle can be of. Days begin at midnight UTC."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Window(NamedTuple):
    """From `start`, included, to `end`, excluded. None is no bound."""

    start: datetime | None
    end: datetime | None

    @classmethod
    def make(cls, start: datetime | None, end: datetime | None) -> Self:
        """Check the bounds; raise `QueryError` if one has no time zone, or if they are swapped."""
        for name, time in (("start", start), ("end", end)):
            if time is not None and time.tzinfo is None:
                raise QueryError(f"{name}={time.isoformat()} has no time zone; say which: {time}Z")
        if start is not None and end is not None and start > end:
            raise QueryError(f"start {start.isoformat()} is after end {end.isoformat()}; swap them")
        return cls(start and start.astimezone(UTC), end and end.astimezone(UTC))

    def align(self, step: timedelta) -> Self:
        """Move both bounds up to where a candle begins: a part of a candle is no candle."""
        return type(self)(_align(self.start, step), _align(self.end, step))

    def begin_at(self, start: datetime) -> Self:
        """Begin no earlier than `start`."""
        return self._replace(start=start if self.start is None else max(start, self.start))

    @property
    def empty(self) -> bool:
        """Whether no time lies in it."""
        return self.start is not None and self.end is not None and self.start >= self.end


def find_interval(name: str) -> timedelta:
    """Return how long a candle is; raise `QueryError` for an interval that is not offered."""
    if name not in INTERVALS:
        raise QueryError(f"no candles of {name!r}; choose one of: {', '.join(INTERVALS)}")
    return INTERVALS[name]


def _align(time: datetime | None, step: timedelta) -> datetime | None:
    if time is None:
        return None
    return _EPOCH - (_EPOCH - time) // step * step
