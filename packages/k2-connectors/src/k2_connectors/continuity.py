"""Continuity: every trade of a venue, each once, whatever the sockets lost. Pure, clock injected.

It joins a `Sequencer` per pair with the venue's `Backfill`, and keeps the promise of the feed:
what comes out is what the exchange sent, in order within an origin, and a `Gap` names the rest.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from k2_schemas import Trade

from .backfill import MAX_BACKFILL_TRADES, Backfill, existence_of
from .checkpoint import Position
from .errors import SubscriptionRejectedError
from .event import Gap
from .rest import OPEN_END, DeadRow, Hole, RestPage, RestRequest, RestResponse
from .sequencer import HOLD_NS, LEAP, MAX_HELD, Sequencer
from .silence import Silence
from .venue import Venue

_LEAST_HELD = 500


class Outcome(NamedTuple):
    """What may go on, in order, what is known to be lost, and fetched rows that are no trades.

    `problem` is why an answer of REST was none.
    """

    trades: list[Trade]
    gaps: list[Gap]
    dead: Sequence[DeadRow] = ()
    problem: str | None = None


class Continuity:
    """The pairs of one venue. `positions` are those of an earlier run; other pairs begin live."""

    def __init__(
        self,
        venue: Venue,
        now_ns: int,
        positions: Mapping[str, Position] | None = None,
        *,
        backfill: bool = True,
        max_backfill_trades: int = MAX_BACKFILL_TRADES,
        hold_ns: int = HOLD_NS,
        max_held: int = MAX_HELD,
    ) -> None:
        self._venue = venue
        self.fetches = backfill
        """Whether what is missing is asked for, over REST."""
        self._hold_ns = hold_ns
        self._max_held = max_held
        self._backfill = Backfill(venue, max_backfill_trades)
        self._sequencers: dict[str, Sequencer] = {}
        self._silences: dict[str, Silence] = {}
        self._gaps: list[Gap] = []
        self._past_duplicates = 0
        self.backfilled = 0
        self.gaps = 0
        for instrument in venue.instruments:
            self.add(instrument.pair, now_ns, (positions or {}).get(instrument.pair))

    def add(self, pair: str, now_ns: int, position: Position | None = None) -> None:
        """Take up a pair; without a position it begins live, and REST is asked if it exists."""
        self._sequencers[pair] = _open_sequencer(pair, position, self._hold_ns, self._max_held)
        self._silences[pair] = Silence(now_ns)
        self._share_memory()
        if position is None and self.fetches:
            self._backfill.check(pair)

    def remove(self, pair: str) -> list[Trade]:
        """Leave a pair: return what was held; what is missing before it is missed no more."""
        sequencer = self._sequencers.pop(pair)
        del self._silences[pair]
        self._share_memory()
        self._backfill.drop(pair)
        held = [] if sequencer.deadline_ns is None else sequencer.release(sequencer.deadline_ns)
        late, _ = sequencer.close(Hole(pair, 0, OPEN_END))
        self._past_duplicates += sequencer.duplicates
        return late + held

    def _share_memory(self) -> None:
        """Let all pairs together hold what one may hold alone, as far as that is worth while."""
        share = max(_LEAST_HELD, self._max_held // max(1, len(self._sequencers)))
        for sequencer in self._sequencers.values():
            sequencer.max_held = min(self._max_held, share)

    def take_venue(self, venue: Venue) -> None:
        """Read pages through a venue that knows more instruments from now on."""
        self._venue = venue
        self._backfill.take_venue(venue)

    def is_checking(self, pairs: Iterable[str]) -> bool:
        """Tell whether REST has yet to say if `pairs` exist."""
        return any(map(self._backfill.is_checking, pairs))

    @property
    def duplicates(self) -> int:
        """How many trades were dropped because their id was known."""
        current = sum(sequencer.duplicates for sequencer in list(self._sequencers.values()))
        return current + self._past_duplicates

    @property
    def missing(self) -> int:
        """How many trades are known to be missing right now, and are being fetched."""
        return sum(hole.last_id - hole.first_id + 1 for hole in self.open_holes)

    @property
    def held(self) -> int:
        """How many trades wait for an earlier one."""
        return sum(sequencer.held for sequencer in list(self._sequencers.values()))

    @property
    def open_holes(self) -> tuple[Hole, ...]:
        """Every id range that is missing right now."""
        return tuple(hole for s in list(self._sequencers.values()) for hole in s.holes)

    def is_complete(self) -> bool:
        """Tell whether nothing is held or missing, and REST, asked twice, knows no more than we."""
        if self.held or self.open_holes or self._backfill.pending:
            return False
        return not self.fetches or all(
            self._silences[pair].looks >= 2 or sequencer.next_id is None
            for pair, sequencer in self._sequencers.items()
        )

    def take_deaf(self) -> bool:
        """Tell, once, whether a stream is dead though its connection is well."""
        deaf = [silence for silence in self._silences.values() if silence.is_deaf]
        for silence in deaf:
            silence.forgive()
        return bool(deaf)

    def accept(self, trades: Sequence[Trade], now_ns: int) -> list[Trade]:
        """Take live trades; return those that may go on."""
        passed: list[Trade] = []
        heard: dict[str, int] = {}
        place = 0
        while place < len(trades):
            pair = trades[place].vendor_data["pair"]
            sequencer = self._sequencers.get(pair)
            if sequencer is None:
                place += 1  # unsubscribed, and the exchange has not heard of it yet
                continue
            end = sequencer.follow(trades, place)
            if end > place:
                passed += trades[place:end]
            else:
                passed += self._sort_in(sequencer, trades[place], now_ns)
                end += 1
            heard[pair] = heard.get(pair, 0) + end - place
            place = end
        for pair, count in heard.items():
            self._silences[pair].hear(now_ns, count)
        return passed

    def _sort_in(self, sequencer: Sequencer, trade: Trade, now_ns: int) -> list[Trade]:
        """Take a trade that is not the next one of its pair."""
        passed = sequencer.accept(trade, now_ns)
        return passed + self._release(sequencer, now_ns) if sequencer.is_full else passed

    def has_begun(self, pair: str) -> bool:
        """Tell whether it is known where a pair's trades begin: with its first good one."""
        sequencer = self._sequencers.get(pair)
        return sequencer is not None and sequencer.next_id is not None

    def accept_dead(self, pair: str, trade_id: int, now_ns: int) -> list[Trade]:
        """Note that a trade came that no trade can be made of; return what may go on."""
        sequencer = self._sequencers.get(pair)
        return [] if sequencer is None else sequencer.accept_dead(trade_id, now_ns)

    def note_live(self, now_ns: int) -> None:
        """Note that a connection became live: REST is asked soon about pairs that stay silent."""
        for silence in self._silences.values():
            silence.note_live(now_ns)

    def note_lost(self, hole: Hole) -> None:
        """Note that trades that had gone on were dropped by whoever took them: fetch them again."""
        sequencer = self._sequencers.get(hole.pair)
        if sequencer is None:
            return
        missing = sequencer.reopen(hole)
        if missing is not None:
            self._ask_for(sequencer, missing)

    def tick(self, now_ns: int) -> Outcome:
        """Let time pass: return what has been held long enough, and gaps that are certain."""
        trades = self._release_held(now_ns)
        for pair, silence in self._silences.items():
            if now_ns >= silence.due_ns:
                silence.look(now_ns)
                self.probe(pair)
        return Outcome(trades, self._take_gaps())

    def finish(self) -> Outcome:
        """Let go whatever is held, as nothing more will come; what is missing is still fetched."""
        return Outcome(self._release_held(math.inf), self._take_gaps())

    def probe(self, pair: str) -> None:
        """Ask REST for whatever follows our last trade of a pair."""
        sequencer = self._sequencers[pair]
        if self.fetches and sequencer.next_id is not None:
            hole = Hole(pair, sequencer.next_id, OPEN_END, sequencer.last_us)
            self._backfill.probe(hole)

    def next_request(self, now_ns: int) -> RestRequest | None:
        """Return the REST request to send now, or None; one is under way at a time."""
        return self._backfill.next_request(now_ns)

    def fail_request(self, now_ns: int) -> None:
        """Note that the request under way got no answer."""
        if not self._backfill.take_dropped():
            self._backfill.fail(now_ns)

    def receive(
        self, request: RestRequest, response: RestResponse, recv_us: int, now_ns: int
    ) -> Outcome:
        """Take the answer of the request under way.

        Raises `SubscriptionRejectedError` when it says that a pair just taken up does not exist.
        """
        if self._backfill.take_dropped():
            return Outcome([], [])
        asked = self._backfill.fetching
        assert asked is not None, "an answer without a request"
        sequencer = self._sequencers[asked.pair]
        page = self._venue.read_page(request, response, recv_us)
        if asked == existence_of(asked.pair):
            self._backfill.receive(page, now_ns, [])
            refuse_unknown(self._venue.name, asked.pair, page)
            return Outcome([], [])
        is_probe = asked.last_id == OPEN_END
        probed_from = sequencer.next_id or 0
        followers = sequencer.skip_to(_newest_id(page, probed_from)) if is_probe else []
        filled = [trade for trade in page.trades if sequencer.fill(trade)]
        dead = _fill_dead(sequencer, page.dead, filled)
        if is_probe:
            missing = [asked] if page.next is not None else []
        else:
            missing = sequencer.missing_in(asked)
        done = self._backfill.receive(page, now_ns, missing, filled=bool(filled or dead))
        if is_probe:
            # What the page skipped over becomes holes of their own.
            for hole in sequencer.holes:
                if hole.first_id >= probed_from:
                    self._ask_for(sequencer, hole)
            if filled and page.next is None:
                self._silences[asked.pair].find()  # once, however many pages it took
        elif done is not None:
            late, lost = sequencer.close(done)
            filled += late
            self._name_gaps(lost, page.problem or "the venue's REST does not have them")
        self.backfilled += len(filled)
        return Outcome(filled + followers, self._take_gaps(), dead, page.problem)

    def deadline_ns(self, now_ns: int) -> int | None:
        """Return when `tick` or `next_request` may have something new, or None."""
        deadlines = [s.deadline_ns for s in self._sequencers.values()]
        deadlines += [silence.due_ns for silence in self._silences.values()]
        deadlines.append(self._backfill.deadline_ns(now_ns))
        known = [deadline for deadline in deadlines if deadline is not None]
        return min(known) if known else None

    def _release_held(self, until_ns: float) -> list[Trade]:
        """Let go, of every pair, what was to be held until a time at most."""
        trades: list[Trade] = []
        for sequencer in self._sequencers.values():
            if sequencer.deadline_ns is not None and sequencer.deadline_ns <= until_ns:
                trades += self._release(sequencer, sequencer.deadline_ns)
        return trades

    def _release(self, sequencer: Sequencer, now_ns: int) -> list[Trade]:
        known = len(sequencer.holes)
        trades = sequencer.release(now_ns)
        for hole in sequencer.holes[known:]:
            self._ask_for(sequencer, hole)
        return trades

    def _ask_for(self, sequencer: Sequencer, hole: Hole) -> None:
        if not self.fetches:
            self._name_gaps(sequencer.close(hole)[1], "backfill is off")
            return
        too_old = self._backfill.add(hole)
        if too_old is not None:
            reason = "more trades were missed than max_backfill_trades"
            self._name_gaps(sequencer.close(too_old)[1], reason)

    def _name_gaps(self, lost: Iterable[Hole], reason: str) -> None:
        name = self._venue.name
        self._gaps += [Gap(name, h.pair, h.first_id, h.last_id, reason) for h in lost]

    def _take_gaps(self) -> list[Gap]:
        taken, self._gaps = self._gaps, []
        self.gaps += len(taken)
        return taken


def refuse_unknown(venue: str, pair: str, page: RestPage) -> None:
    """Raise `SubscriptionRejectedError` if a page says that there is no such pair."""
    if page.unknown_pair:
        reason = f"its REST knows no such pair ({page.problem})"
        raise SubscriptionRejectedError(venue, reason, [pair])


def _fill_dead(sequencer: Sequencer, rows: Iterable[DeadRow], filled: list[Trade]) -> list[DeadRow]:
    """Return the rows that were missing; a live trade that came late stands in for its row."""
    dead: list[DeadRow] = []
    for row in rows:
        found = sequencer.fill_dead(row.trade_id)
        if isinstance(found, Trade):
            insort(filled, found, key=lambda trade: trade.source_sequence or 0)
        elif found:
            dead.append(row)
    return dead


def _newest_id(page: RestPage, next_id: int) -> int:
    """Return the newest id of a page that may be believed, at least the one before `next_id`."""
    ids = {trade.source_sequence or 0 for trade in page.trades}
    ids.update(row.trade_id for row in page.dead)
    newest = next_id - 1
    for trade_id in sorted(ids):
        if trade_id - newest <= LEAP or trade_id + 1 in ids:
            newest = max(newest, trade_id)
    return newest


def _open_sequencer(pair: str, position: Position | None, hold_ns: int, max_held: int) -> Sequencer:
    next_id = None if position is None else position.trade_id + 1
    last_us = 0 if position is None else position.timestamp_us
    return Sequencer(pair, next_id, last_us, hold_ns=hold_ns, max_held=max_held)
