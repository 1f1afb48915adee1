"""Market rules: what is odd about a trade beside those before it, in whole numbers.

One `MarketState` per (exchange, symbol); each trade is looked at once, in order of arrival, so no
cut of the stream into batches can change what is found.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from .id_gaps import IdGapTracker

IncidentKind = Literal[
    "id_gap",
    "gap_filled",
    "gap_abandoned",
    "time_gap",
    "out_of_order",
    "price_jump",
    "volume_spike",
    "clock_skew",
    "clock_skew_ended",
    "stale_feed",
    "stale_feed_ended",
    "unreadable",
]
"""What an incident is about. Kinds that end in `_ended` or `_filled` close an earlier one."""


@dataclass(frozen=True, slots=True)
class MarketLimits:
    """When a market rule speaks. Times in microseconds; factors are whole numbers.

    `window` trades are looked back on, and a rule is silent until it has seen `warm_up`. A price
    jump is more than `jump_mads` times the median absolute deviation from the window's median, and
    at least `jump_basis_points` of it: a market that stands still has a deviation of zero. A time
    gap is more than `time_gap_factor` times the window's mean gap, and at least `time_gap_us`.
    """

    window: int = 50
    warm_up: int = 20
    jump_mads: int = 10
    jump_basis_points: int = 50
    spike_factor: int = 100
    time_gap_factor: int = 100
    time_gap_us: int = 60_000_000
    behind_us: int = 60_000_000
    ahead_us: int = 1_000_000
    stale_us: int = 120_000_000

    def __post_init__(self) -> None:
        if not 2 <= self.warm_up <= self.window:
            raise ValueError(f"warm_up {self.warm_up} is not from 2 to window {self.window}")
        if min(asdict(self).values()) < 0:
            raise ValueError(f"a limit below zero: {self}")


class Incident(NamedTuple):
    """One thing a market rule has to say; no row is dropped for it.

    `timestamp_us` is the trade's time, for stale feeds the tick's. `measured` and `limit` are in
    microseconds, or in units of 1e-8 for prices and quantities. Gaps carry the ids to backfill.
    """

    kind: IncidentKind
    exchange: str
    symbol: str
    timestamp_us: int | None
    source_sequence: int | None
    message: str
    measured: int | None = None
    limit: int | None = None
    first_missing_id: int | None = None
    last_missing_id: int | None = None


class Observation(NamedTuple):
    """What the market rules read of one trade: prices in units of 1e-8, times in microseconds."""

    exchange: str
    symbol: str
    source_sequence: int | None
    timestamp_us: int
    ingestion_us: int
    price_units: int
    quantity_units: int


class MarketState:
    """What one (exchange, symbol) has shown so far: a window of trades, gaps, what is going on."""

    def __init__(self, limits: MarketLimits) -> None:
        self._limits = limits
        self._ids = IdGapTracker()
        self._prices: deque[int] = deque()
        self._sorted_prices: list[int] = []
        self._quantities: deque[int] = deque()
        self._quantity_sum = 0
        self._times: deque[int] = deque()
        self._latest_us: int | None = None
        self._arrival_us: int | None = None
        self._skewed = False
        self._stale = False

    @property
    def ids(self) -> IdGapTracker:
        """The ids seen, and the ranges missing between them."""
        return self._ids

    def observe(self, trade: Observation) -> Iterator[Incident]:
        """Yield what is odd about the next trade, and remember it."""
        late = (
            trade.source_sequence is not None
            and self._ids.highest is not None
            and trade.source_sequence <= self._ids.highest
        )
        yield from self._judge_id(trade)
        if late:
            # A repeat or a backfilled trade is judged against nothing: its present is long past.
            return
        yield from self._judge_arrival(trade)
        yield from self._judge_time(trade)
        yield from self._judge_price(trade)
        yield from self._judge_quantity(trade)

    def tick(self, exchange: str, symbol: str, now_us: int) -> Iterator[Incident]:
        """Yield once that nothing has arrived for too long."""
        if self._arrival_us is None or self._stale:
            return
        silent_us, limit = now_us - self._arrival_us, self._limits.stale_us
        if silent_us > limit:
            self._stale = True
            message = f"no trade for {silent_us} us"
            yield Incident(
                "stale_feed", exchange, symbol, now_us, self._ids.highest, message, silent_us, limit
            )

    def _judge_id(self, trade: Observation) -> Iterator[Incident]:
        if trade.source_sequence is None:
            return
        step = self._ids.observe(trade.source_sequence)
        if not any(step):
            return
        for kind, gap, verb in (
            ("id_gap", step.opened, "missing"),
            ("gap_filled", step.filled, "complete again"),
            ("gap_abandoned", step.abandoned, "no longer watched: too many gaps are open"),
        ):
            if gap is not None:
                message = f"ids {gap.first} to {gap.last} are {verb}"
                incident = _tell(trade, kind, message, gap.size)
                yield incident._replace(first_missing_id=gap.first, last_missing_id=gap.last)

    def _judge_arrival(self, trade: Observation) -> Iterator[Incident]:
        limits, behind_us = self._limits, trade.ingestion_us - trade.timestamp_us
        if self._stale:
            self._stale = False
            yield _tell(trade, "stale_feed_ended", "trades arrive again")
        self._arrival_us = max(trade.ingestion_us, self._arrival_us or trade.ingestion_us)
        skewed = not -limits.ahead_us <= behind_us <= limits.behind_us
        if skewed and not self._skewed:
            limit = limits.behind_us if behind_us > 0 else -limits.ahead_us
            message = f"the trade's time is {behind_us} us before its arrival"
            yield _tell(trade, "clock_skew", message, behind_us, limit)
        elif self._skewed and not skewed:
            yield _tell(trade, "clock_skew_ended", "times and arrivals agree again", behind_us)
        self._skewed = skewed

    def _judge_time(self, trade: Observation) -> Iterator[Incident]:
        now, latest, times = trade.timestamp_us, self._latest_us, self._times
        if latest is not None and now < latest:
            message = f"{latest - now} us before a trade that came earlier"
            yield _tell(trade, "out_of_order", message, latest - now, 0)
            return
        if latest is not None and len(times) >= self._limits.warm_up:
            gap_us, gaps = now - latest, len(times) - 1
            factor = self._limits.time_gap_factor
            # gap > factor * mean gap, without dividing.
            unusual = gap_us * gaps > factor * (times[-1] - times[0])
            if unusual and gap_us >= self._limits.time_gap_us:
                limit = max(factor * (times[-1] - times[0]) // gaps, self._limits.time_gap_us)
                yield _tell(trade, "time_gap", f"no trade for {gap_us} us", gap_us, limit)
        self._latest_us = now
        times.append(now)
        if len(times) > self._limits.window:
            times.popleft()

    def _judge_price(self, trade: Observation) -> Iterator[Incident]:
        price, ordered = trade.price_units, self._sorted_prices
        if len(ordered) >= self._limits.warm_up:
            yield from self._find_jump(trade)
        insort(ordered, price)
        self._prices.append(price)
        if len(ordered) > self._limits.window:
            del ordered[bisect_left(ordered, self._prices.popleft())]

    def _find_jump(self, trade: Observation) -> Iterator[Incident]:
        """Compare with median and MAD of the window, the trade itself not in it.

        All doubled: the median of an even window lies between two prices.
        """
        double_median = _double_median(self._sorted_prices)
        distance = abs(2 * trade.price_units - double_median)
        if distance * 10_000 < self._limits.jump_basis_points * abs(double_median):
            return  # the usual case, at the cost of one look at the middle
        deviations = sorted(abs(2 * price - double_median) for price in self._sorted_prices)
        # Deviations are doubled, and so is their median: 4 MAD beside 2 distances.
        limit = self._limits.jump_mads * _double_median(deviations)
        if 2 * distance > limit:
            message = f"price {trade.price_units}e-8 beside a median of {double_median // 2}e-8"
            yield _tell(trade, "price_jump", message, distance // 2, limit // 4)

    def _judge_quantity(self, trade: Observation) -> Iterator[Incident]:
        quantity, seen = trade.quantity_units, len(self._quantities)
        factor = self._limits.spike_factor
        if seen >= self._limits.warm_up and quantity * seen > factor * self._quantity_sum:
            message = f"quantity {quantity}e-8 beside a mean of {self._quantity_sum // seen}e-8"
            limit = factor * self._quantity_sum // seen
            yield _tell(trade, "volume_spike", message, quantity, limit)
        self._quantities.append(quantity)
        self._quantity_sum += quantity
        if len(self._quantities) > self._limits.window:
            self._quantity_sum -= self._quantities.popleft()

    def dump(self) -> dict[str, Any]:
        """Return the state in JSON types; sums and sorted prices follow from it."""
        return {
            "ids": self._ids.dump(),
            "prices": list(self._prices),
            "quantities": list(self._quantities),
            "times": list(self._times),
            "latest_us": self._latest_us,
            "arrival_us": self._arrival_us,
            "skewed": self._skewed,
            "stale": self._stale,
        }

    @classmethod
    def restore(cls, limits: MarketLimits, content: dict[str, Any]) -> MarketState:
        """Return a state that goes on from what `dump` returned."""
        state = cls(limits)
        state._ids = IdGapTracker.restore(**content["ids"])
        state._prices.extend(content["prices"])
        state._sorted_prices = sorted(content["prices"])
        state._quantities.extend(content["quantities"])
        state._quantity_sum = sum(content["quantities"])
        state._times.extend(content["times"])
        state._latest_us, state._arrival_us = content["latest_us"], content["arrival_us"]
        state._skewed, state._stale = content["skewed"], content["stale"]
        return state


def _double_median(ordered: list[int]) -> int:
    middle = len(ordered) // 2
    return ordered[middle] + ordered[middle if len(ordered) % 2 else middle - 1]


def _tell(
    trade: Observation,
    kind: Any,
    message: str,
    measured: int | None = None,
    limit: int | None = None,
) -> Incident:
    return Incident(
        kind,
        trade.exchange,
        trade.symbol,
        trade.timestamp_us,
        trade.source_sequence,
        message,
        measured,
        limit,
    )
