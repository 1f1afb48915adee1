"""Backfill: which missing ids to fetch next, within what the venue allows. Pure, clock injected.

One request at a time and venue. The holes of a pair are fetched in order, so that what comes from
REST is in order too; pairs take turns. What fails, or is no page of trades, is asked for again,
later and later, for as long as it takes: it says nothing about what the venue has. Ids that a venue
has answered about and does not have are given up, each as a `Gap`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from .rest import OPEN_END, Hole, RestLimit, RestPage, RestRequest
from .venue import Venue

MAX_BACKFILL_TRADES = 5_000_000
_NS = 1_000_000_000
_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 60.0
_NEAR_IDS = 1_000
_ANSWERS_BEFORE_GIVING_UP = 6
"""A venue's REST may lag behind its stream: asked at 1, 2, 4, 8 and 16 s before an id is lost."""


def existence_of(pair: str) -> Hole:
    """Return the hole whose request asks no more than whether the venue knows a pair."""
    return Hole(pair, 0, 0)


@dataclass(slots=True)
class _Errand:
    """One hole on its way to be filled."""

    hole: Hole
    request: RestRequest
    failures: int = 0
    empty_answers: int = 0
    not_before_ns: int = 0
    dropped: bool = False


class Backfill:
    """The queue of holes of one venue, and its budget of requests."""

    def __init__(
        self,
        venue: Venue,
        max_trades: int = MAX_BACKFILL_TRADES,
        limit: RestLimit | None = None,
    ) -> None:
        self._venue = venue
        self._max_trades = max_trades
        self._limit = limit or venue.rest_limit
        self._errands: OrderedDict[str, deque[_Errand]] = OrderedDict()
        self._spent: deque[tuple[int, int]] = deque()
        self._blocked_until_ns = 0
        self._in_flight: _Errand | None = None

    @property
    def pending(self) -> int:
        """How many holes wait or are being fetched."""
        return sum(map(len, self._errands.values()))

    def add(self, hole: Hole) -> Hole | None:
        """Queue a hole; return the part of it that is too long ago to be fetched, if any."""
        too_old = None
        excess = (
            0 if hole.last_id == OPEN_END else hole.last_id - hole.first_id + 1 - self._max_trades
        )
        if excess > 0:
            too_old = hole._replace(last_id=hole.first_id + excess - 1)
            hole = hole._replace(first_id=hole.first_id + excess)
        self._queue(_Errand(hole, self._venue.first_request(hole)))
        return too_old

    def _queue(self, errand: _Errand) -> None:
        """Put a hole in its place by ids, behind the one that is being fetched."""
        queue = self._errands.setdefault(errand.hole.pair, deque())
        place = len(queue)
        while (
            place
            and queue[place - 1] is not self._in_flight
            and queue[place - 1].hole.first_id > errand.hole.first_id
        ):
            place -= 1
        queue.insert(place, errand)

    def take_venue(self, venue: Venue) -> None:
        """Make requests through a venue that knows more instruments from now on."""
        self._venue = venue

    def check(self, pair: str) -> None:
        """Queue one look whether the venue knows a pair at all; it asks for no trade."""
        hole = existence_of(pair)
        self._queue(_Errand(hole, self._venue.first_request(hole)))

    def is_checking(self, pair: str) -> bool:
        """Tell whether a look of `check` has neither been answered nor failed."""
        return any(errand.hole == existence_of(pair) for errand in self._errands.get(pair, ()))

    def drop(self, pair: str) -> None:
        """Fetch nothing more of a pair; an answer under way is to be ignored."""
        for errand in self._errands.pop(pair, ()):
            errand.dropped = True

    def take_dropped(self) -> bool:
        """Tell whether the request under way was dropped meanwhile; then it is done with."""
        dropped = self._in_flight is not None and self._in_flight.dropped
        if dropped:
            self._in_flight = None
        return dropped

    def probe(self, hole: Hole) -> None:
        """Queue a look at what follows `hole.first_id`, if the pair has none queued already."""
        queue = self._errands.get(hole.pair, ())
        if not any(errand.hole.last_id == OPEN_END for errand in queue):
            self.add(hole)

    def next_request(self, now_ns: int) -> RestRequest | None:
        """Return the request to send now, or None; the answer goes to `receive` or `fail`."""
        if self._in_flight is not None or now_ns < self._blocked_until_ns:
            return None
        for pair, queue in self._errands.items():
            errand = queue[0]
            if now_ns >= errand.not_before_ns and self._affords(errand.request.weight, now_ns):
                self._errands.move_to_end(pair)
                self._spent.append((now_ns, errand.request.weight))
                self._in_flight = errand
                return errand.request
        return None

    def deadline_ns(self, now_ns: int) -> int | None:
        """Return when `next_request` may have something new to say, or None."""
        if self._in_flight is not None or not self._errands:
            return None
        ready = min(queue[0].not_before_ns for queue in self._errands.values())
        return max(ready, self._blocked_until_ns, self._affordable_ns(now_ns))

    def fail(self, now_ns: int) -> None:
        """Note that no answer came, or none of the venue's; the same page is asked for again."""
        errand = self._take_in_flight()
        if errand.hole == existence_of(errand.hole.pair):
            self._finish(errand)  # where REST cannot be reached, symbols are taken as they are
            return
        errand.failures += 1
        errand.not_before_ns = now_ns + _delay_ns(errand.failures)

    def receive(
        self, page: RestPage, now_ns: int, missing: Sequence[Hole], *, filled: bool = False
    ) -> Hole | None:
        """Note a page whose trades have been taken; return a hole that is finished with.

        `missing` are the parts of the hole that are missing after this page, and `filled` says
        whether the page had any. What is missing when its hole is finished with is lost.
        """
        if page.problem is not None and not page.unknown_pair:
            self.fail(now_ns)
            return None
        errand = self._take_in_flight()
        if page.retry_after_s is not None:
            self._blocked_until_ns = now_ns + int(page.retry_after_s * _NS)
            return None
        if not missing:
            return self._finish(errand)
        errand.failures = 0
        if filled:
            errand.empty_answers = 0
        if page.next is not None:
            errand.request = page.next
            return None
        errand.empty_answers += 1
        if errand.empty_answers >= _ANSWERS_BEFORE_GIVING_UP:
            return self._finish(errand)
        self._ask_again(errand, missing, now_ns + _delay_ns(errand.empty_answers))
        return None

    def _ask_again(self, errand: _Errand, missing: Sequence[Hole], not_before_ns: int) -> None:
        """Let an errand be about what is missing alone: it may be one id of millions."""
        first, *others = _join_near(missing)
        errand.hole, errand.request = first, self._venue.first_request(first)
        errand.not_before_ns = not_before_ns
        for hole in others:
            request = self._venue.first_request(hole)
            self._queue(
                _Errand(
                    hole,
                    request,
                    empty_answers=errand.empty_answers,
                    not_before_ns=not_before_ns,
                )
            )

    @property
    def fetching(self) -> Hole | None:
        """The hole whose request is under way."""
        return None if self._in_flight is None else self._in_flight.hole

    def _take_in_flight(self) -> _Errand:
        errand = self._in_flight
        assert errand is not None, "an answer without a request"
        self._in_flight = None
        return errand

    def _finish(self, errand: _Errand) -> Hole:
        queue = self._errands[errand.hole.pair]
        queue.popleft()
        if not queue:
            del self._errands[errand.hole.pair]
        return errand.hole

    def _affords(self, weight: int, now_ns: int) -> bool:
        self._forget(now_ns)
        return sum(spent for _, spent in self._spent) + weight <= self._limit.weight

    def _affordable_ns(self, now_ns: int) -> int:
        """Return when the oldest spending is forgotten, if the budget is used up."""
        self._forget(now_ns)
        weight = min(queue[0].request.weight for queue in self._errands.values())
        if not self._spent or self._affords(weight, now_ns):
            return 0
        return self._spent[0][0] + int(self._limit.per_s * _NS)

    def _forget(self, now_ns: int) -> None:
        oldest = now_ns - int(self._limit.per_s * _NS)
        while self._spent and self._spent[0][0] <= oldest:
            self._spent.popleft()


def _join_near(holes: Sequence[Hole]) -> list[Hole]:
    """Join holes, ascending, that one page would bring together anyway."""
    joined = [holes[0]]
    for hole in holes[1:]:
        if hole.first_id - joined[-1].last_id <= _NEAR_IDS:
            joined[-1] = joined[-1]._replace(last_id=hole.last_id)
        else:
            joined.append(hole)
    return joined


def _delay_ns(attempts: int) -> int:
    return int(min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** min(attempts - 1, 10)) * _NS)
