"""VenueFeed: one venue's whole feed without sockets: lines, continuity, dead letters. Pure.

Whoever runs it gives it what happened and the time, does the actions it returns, and passes on
the events. `feed` does so with asyncio; the tests do so with a clock that jumps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from k2_schemas import Trade

from .backfill import MAX_BACKFILL_TRADES
from .checkpoint import Position
from .continuity import Continuity, Outcome
from .errors import SubscriptionRejectedError
from .event import Gap, Status
from .lines import Action, Lines
from .rest import Hole, RestRequest, RestResponse
from .subscriptions import Subscription, Subscriptions
from .venue import Decoded, RunDecoder, Venue


class DeadLetter(NamedTuple):
    """A frame, as it came, that could not become trades in full.

    `ids` are (pair, id) of the trades that it holds instead of being trades.
    """

    frame: bytes
    venue: str
    reason: str
    recv_ns: int
    ids: tuple[tuple[str, int], ...] = ()


class Fetch(NamedTuple):
    """Send a REST request; the answer goes to `answer`, no answer to `fail`."""

    request: RestRequest


Event = Trade | Gap | Status | DeadLetter

_PLAIN = Decoded()
"""What is left of frames that held trades alone, once these are taken out."""


class VenueFeed:
    """One venue. Times called `now_ns` are of a monotonic clock, `recv_ns` of the wall clock.

    With `contiguity=False` trades pass as they come: for recordings, whose ids repeat and jump, and
    for venues that do not number their trades.
    """

    def __init__(
        self,
        venue: Venue,
        now_ns: int,
        positions: Mapping[str, Position] | None = None,
        *,
        lines: int = 1,
        contiguity: bool = True,
        backfill: bool = True,
        max_backfill_trades: int = MAX_BACKFILL_TRADES,
        seed: int | None = None,
    ) -> None:
        self.venue = venue
        self.lines = Lines(venue, now_ns, wanted=lines, seed=seed)
        self.continuity = Continuity(
            venue,
            now_ns,
            positions,
            backfill=backfill and contiguity,
            max_backfill_trades=max_backfill_trades,
        )
        self._subscriptions = Subscriptions(venue, self.lines, self.continuity)
        self._lost: dict[str, list[Hole]] = {}
        """Trades passed on that were dropped behind us, by pair, and not asked for yet."""
        self._contiguity = contiguity
        self.frames = 0
        self.trades = 0
        self.dead_letters = 0
        self.control: Counter[str] = Counter()
        self.heard_ns = now_ns
        """When the last frame came, by the monotonic clock."""
        self.lag_us = 0
        """How long after its match the last live trade came, by both clocks."""

    def act(self, now_ns: int) -> list[Action | Fetch]:
        """Return what to do now."""
        actions: list[Action | Fetch] = list(self.lines.act(now_ns))
        request = self.continuity.next_request(now_ns)
        if request is not None:
            actions.append(Fetch(request))
        return actions

    def tick(self, now_ns: int) -> list[Event]:
        """Let time pass."""
        settled: list[Event] = list(self._subscriptions.settle(now_ns))
        if self._contiguity:
            settled += self._pass_on(self.continuity.tick(now_ns))
        return settled

    @property
    def symbols(self) -> list[str]:
        """The canonical symbols in force."""
        return self._subscriptions.symbols

    def subscribe(self, symbols: Iterable[str], now_ns: int) -> Subscription:
        """Take up symbols, each as at a first start: it begins with its first live trade.

        Done once every live line has them acknowledged and REST, where it answers, knows them.
        Raises `k2_schemas.SchemaError` for what is no symbol.
        """
        change = self._subscriptions.add(symbols, now_ns)
        self.venue = self._subscriptions.venue
        return change

    def unsubscribe(self, symbols: Iterable[str]) -> list[Event]:
        """Leave symbols: what was held goes on, what was missing is missed no more.

        Raises `SubscriptionChangeError` for a symbol that is not subscribed, and for the last ones.
        """
        held, status = self._subscriptions.remove(symbols)
        for pair in status.pairs:
            self._lost.pop(pair, None)
        return [*self._pass_on(Outcome(held, [])), status]

    def cancel(self, change: Subscription) -> list[Event]:
        """Undo a subscription that is not done, as if it had been unsubscribed."""
        held, status = self._subscriptions.cancel(change)
        return [*self._pass_on(Outcome(held, [])), status]

    def open(self, line: int, now_ns: int) -> list[Action]:
        """Note that a socket is open; return what to send over it."""
        return self.lines.open(line, now_ns)

    def hear(self, line: int, frame: bytes, recv_ns: int, now_ns: int) -> list[Event]:
        """Take a frame; raises `SubscriptionRejectedError` when the venue refuses a symbol.

        If it is one of `subscribe`, that `Subscription` is refused instead, and the feed goes on.
        """
        return self.hear_all(line, [frame], recv_ns, now_ns)

    def hear_all(
        self, line: int, frames: Sequence[bytes], recv_ns: int, now_ns: int
    ) -> list[Event]:
        """Take frames that came together, in order; see `hear`.

        What is asked of a line and of a pair is asked once for all of them, not once a frame.
        """
        self.frames += len(frames)
        self.heard_ns = now_ns
        recv_us = recv_ns // 1000
        events: list[Event] = []
        trades: list[Trade] = []
        """Of frames that held nothing else, as nearly every one does; they are taken together."""
        place = 0
        while place < len(frames):
            run = self._decode_run(frames[place:], recv_us)
            trades += run
            place += len(run)
            if place == len(frames):
                break
            frame, place = frames[place], place + 1
            try:
                decoded = self.venue.decode(frame, recv_us)
            except SubscriptionRejectedError as error:
                self.control["refusal"] += 1
                events += self._take(line, _PLAIN, trades, recv_us, now_ns)
                trades = []
                events += self._refuse(error, now_ns, line)
                continue
            if decoded.trades and not (
                decoded.rejections or decoded.control or decoded.acknowledged or decoded.closing
            ):
                trades += decoded.trades
                continue
            events += self._take(line, _PLAIN, trades, recv_us, now_ns)
            trades = []
            events += self._take(line, decoded, decoded.trades, recv_us, now_ns)
            events += self._note_rest(frame, decoded, recv_ns, now_ns)
        return events + self._take(line, _PLAIN, trades, recv_us, now_ns)

    def _decode_run(self, frames: Sequence[bytes], recv_us: int) -> list[Trade]:
        """Decode what it can at once, by a venue that is a `RunDecoder` too."""
        decode: Callable[[Sequence[bytes], int], list[Trade]] | None
        decode = getattr(self.venue, RunDecoder.decode_run.__name__, None)
        return [] if decode is None else decode(frames, recv_us)

    def _take(
        self, line: int, decoded: Decoded, trades: Sequence[Trade], recv_us: int, now_ns: int
    ) -> list[Event]:
        """Take a line's frame, the last of those that `trades` came with; return what may go on."""
        if not trades and decoded is _PLAIN:
            return []
        events: list[Event] = []
        if self.lines.hear(line, decoded, now_ns):
            if self._contiguity:
                self.continuity.note_live(now_ns)
            events.append(Status(self.venue.name, "live"))
        if trades:
            self.lag_us = recv_us - trades[-1].timestamp_us
            if self._contiguity:
                trades = self.continuity.accept(trades, now_ns)
            elif self._subscriptions.have_shrunk:
                trades = [trade for trade in trades if trade.pair in self.lines.pairs]
            self.trades += len(trades)
            events += trades
        return events

    def _note_rest(self, frame: bytes, decoded: Decoded, recv_ns: int, now_ns: int) -> list[Event]:
        """Note what a frame held beside trades; return its dead letter."""
        events: list[Event] = []
        if decoded.rejections:
            self.dead_letters += 1
            reason = "; ".join(decoded.rejections)
            # Before a pair has begun, an id that was read of what is no trade says nothing.
            begun = self.continuity.has_begun
            dead_ids = tuple(dead for dead in decoded.dead_ids if begun(dead[0]))
            events.append(DeadLetter(frame, self.venue.name, reason, recv_ns, dead_ids))
            if self._contiguity:
                for pair, trade_id in dead_ids:
                    events += self.continuity.accept_dead(pair, trade_id, now_ns)
        elif decoded.control:
            self.control[decoded.control] += 1
        return events

    def close(self, line: int, reason: str, now_ns: int) -> list[Event]:
        """Note that a socket is gone."""
        self.lines.close(line, now_ns)
        return [Status(self.venue.name, "lost", reason)]

    def answer(
        self, request: RestRequest, response: RestResponse, recv_ns: int, now_ns: int
    ) -> list[Event]:
        """Take the answer of the REST request under way; raises as `hear` does."""
        pair = request.hole.pair
        try:
            outcome = self.continuity.receive(request, response, recv_ns // 1000, now_ns)
        except SubscriptionRejectedError as error:
            return self._refuse(error, now_ns)
        if self.continuity.take_deaf():
            self.lines.retire_all()
        letters = [
            DeadLetter(row.raw, self.venue.name, row.reason, recv_ns, ((pair, row.trade_id),))
            for row in outcome.dead
        ]
        self.dead_letters += len(letters)
        events = [*self._pass_on(outcome), *letters]
        if outcome.problem is not None:
            self.control["rest_failed"] += 1
            events.append(Status(self.venue.name, "rest_failed", outcome.problem, (pair,)))
        return events

    def fail(self, now_ns: int) -> None:
        """Note that the REST request under way got no answer."""
        self.continuity.fail_request(now_ns)

    def drain(self) -> list[Action]:
        """Begin to end: return what closes every line."""
        return self.lines.drain()

    def finish(self) -> list[Event]:
        """Let go what is still held, with the sockets closed.

        Go on with `act` and `answer`, not `tick`, until `missing` is 0 or time is up: the holes
        that are left then wait for the next start.
        """
        if not self.continuity.fetches:
            self.fetch_lost()  # nobody will: they are gaps
        return self._pass_on(self.continuity.finish())

    @property
    def missing(self) -> int:
        """How many trades are known to be missing right now."""
        lost = [hole for holes in list(self._lost.values()) for hole in list(holes)]
        return self.continuity.missing + sum(h.last_id - h.first_id + 1 for h in lost)

    def note_lost(self, trade: Trade) -> None:
        """Note that a trade passed on was dropped behind us; `fetch_lost` asks for it again."""
        if trade.pair not in self.lines.pairs:
            return  # left meanwhile: nothing of it is missed
        trade_id = trade.source_sequence or 0
        holes = self._lost.setdefault(trade.pair, [])
        if holes and holes[-1].last_id + 1 == trade_id:
            holes[-1] = holes[-1]._replace(last_id=trade_id)
        else:
            holes.append(Hole(trade.pair, trade_id, trade_id, trade.timestamp_us - 1))

    def fetch_lost(self) -> None:
        """Fetch, now that there is room, what was dropped for lack of it."""
        lost, self._lost = self._lost, {}
        for holes in lost.values():
            for hole in holes:
                self.continuity.note_lost(hole)

    def deadline_ns(self, now_ns: int) -> int:
        """Return when `tick` and `act` are next to be called, at the latest."""
        deadlines = [self.lines.deadline_ns(now_ns), self.continuity.deadline_ns(now_ns)]
        return max(now_ns, min(deadline for deadline in deadlines if deadline is not None))

    def _refuse(
        self, error: SubscriptionRejectedError, now_ns: int, line: int | None = None
    ) -> list[Event]:
        asked = error.pairs if line is None else self.lines.asked(line)
        if line is not None and self.lines.bears(error.pairs or asked, now_ns):
            # What it has acknowledged once exists: it is about the connection, or about now.
            self.lines.condemn(line, str(error) if error.pairs else error.reason)
            return []
        held, said = self._subscriptions.refuse(error, asked)
        return [*self._pass_on(Outcome(held, [])), *said]

    def _pass_on(self, outcome: Outcome) -> list[Event]:
        self.trades += len(outcome.trades)
        return [*outcome.trades, *outcome.gaps]
