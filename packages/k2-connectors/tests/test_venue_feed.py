"""VenueFeed under a clock that jumps: whatever breaks, what comes out is what was sent.

A seeded exchange emits trades and, by a fault script, drops, doubles, delays and cuts; REST lags,
refuses and fails; the process is killed and starts again from its checkpoint. The ledger judges.
"""

import heapq
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k2_connectors.checkpoint import Position, Watermarks, rebuild_positions
from k2_connectors.continuity import Continuity
from k2_connectors.errors import (
    IdsRestartedError,
    SubscriptionChangeError,
    SubscriptionRejectedError,
)
from k2_connectors.event import BACKFILL, LATE, ORIGIN, Gap, Status
from k2_connectors.lines import Action, Close, Open, Send
from k2_connectors.rest import DeadRow, Hole, RestLimit, RestPage, RestRequest, RestResponse
from k2_connectors.runner import DRAIN_S
from k2_connectors.sequencer import Sequencer
from k2_connectors.subscriptions import Subscription
from k2_connectors.venue import Decoded, TradeFactories
from k2_connectors.venue_feed import DeadLetter, Fetch, VenueFeed
from k2_schemas import InstrumentList, Trade

S = 1_000_000_000
EPOCH_US = 1_790_000_000_000_000
PAIRS = ("AAAUSD", "BBBUSD")
SYMBOLS = ("AAA/USD", "BBB/USD")
MORE_SYMBOLS = ("CCC/USD", "DDD/USD")
REFUSED = "ZZZ/USD"
"""A symbol that the exchange refuses on the socket."""
UNKNOWN = "YYY/USD"
"""A symbol that the exchange acknowledges, as Binance does; only REST knows better."""
PAGE = 20


def match_us(trade_id: int) -> int:
    """When a trade was matched: twice a second."""
    return EPOCH_US + trade_id * 500_000


class TinyVenue:
    """The smallest venue there is: frames and pages are JSON lists of [pair, id, is dead].

    {"ack": pairs} acknowledges, {"refused": pair} refuses, and names none if that is empty.
    """

    name = "tiny"
    rest_limit = RestLimit(weight=60, per_s=10.0)
    ping_every_s = 2.0
    urls = ("wss://one", "wss://two")

    def __init__(self, symbols: Iterable[str] = SYMBOLS) -> None:
        self.instruments = InstrumentList("tiny", symbols, lambda base, quote: base + quote)
        self._factories = TradeFactories(self.instruments)

    def of(self, symbols: Iterable[str]) -> "TinyVenue":
        """Another of the same."""
        return TinyVenue(symbols)

    def subscribe_frames(self, pairs: Sequence[str]) -> Sequence[str]:
        """Subscribe everything at once."""
        return [" ".join(["subscribe", *pairs])]

    def unsubscribe_frames(self, pairs: Sequence[str]) -> Sequence[str]:
        """Leave everything at once."""
        return [" ".join(["unsubscribe", *pairs])]

    def ping_frame(self) -> str:
        """Ask for a pong."""
        return "ping"

    def decode(self, frame: bytes, recv_us: int) -> Decoded:
        """Read a control word or a batch of trades."""
        content = json.loads(frame)
        if isinstance(content, dict) and "refused" in content:
            raise SubscriptionRejectedError("tiny", "no", list(filter(None, [content["refused"]])))
        if isinstance(content, dict):
            return Decoded(control="ack", acknowledged=content["ack"])
        if isinstance(content, str):
            return Decoded(control=content, closing=content == "shutdown")
        dead = [(pair, trade_id) for pair, trade_id, is_dead in content if is_dead]
        return Decoded(
            trades=[self._make(row, recv_us, {}) for row in content if not row[2]],
            rejections=["beyond decimal"] * len(dead),
            dead_ids=dead,
        )

    def first_request(self, hole: Hole) -> RestRequest:
        """Ask from the first missing id on."""
        return RestRequest(f"https://tiny/{hole.pair}", hole, cursor=str(hole.first_id))

    def read_page(self, request: RestRequest, response: RestResponse, recv_us: int) -> RestPage:
        """Read a page; a full one has a next."""
        if response.status == 429:
            return RestPage(retry_after_s=float(response.headers["retry-after"]))
        if response.status != 200:
            unknown = response.status == 404
            return RestPage(problem=f"status {response.status}", unknown_pair=unknown)
        rows = json.loads(response.body)
        hole = request.hole
        inside = [row for row in rows if hole.first_id <= row[1] <= hole.last_id]
        trades = [self._make(row, recv_us, {ORIGIN: BACKFILL}) for row in inside if not row[2]]
        dead = [DeadRow(row[1], b"row", "beyond decimal") for row in inside if row[2]]
        last_id = rows[-1][1] if rows else hole.last_id
        if len(rows) < PAGE or last_id >= hole.last_id:
            return RestPage(trades, dead=dead)
        return RestPage(trades, request._replace(cursor=str(last_id + 1)), dead=dead)

    def _make(self, row: list[Any], recv_us: int, extras: dict[str, str]) -> Trade:
        pair, trade_id, _ = row
        return self._factories[pair].make(
            trade_id, "1", "1", "BUY", match_us(trade_id), recv_us, {"pair": pair, **extras}
        )


@dataclass
class Faults:
    """How often each thing goes wrong, as a probability per frame, request or second."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    reset: float = 0.0
    deaf: float = 0.0
    shutdown: float = 0.0
    no_ack: float = 0.0
    refuse: float = 0.0
    rest_down: float = 0.0
    rest_error: float = 0.0
    rest_limited: float = 0.0
    rest_lag_s: float = 0.0
    rest_nonsense: float = 0.0
    absent: float = 0.0
    crash: float = 0.0
    stop: float = 0.0
    dead: float = 0.0
    change: float = 0.0
    stall: float = 0.0
    snapshot: int = 0
    """How many of the newest trades a subscription begins with, as Kraken's does."""


ALL_FAULTS = Faults(
    drop=0.05, duplicate=0.05, delay=0.1, reset=0.01, deaf=0.003, shutdown=0.003, no_ack=0.1,
    refuse=0.1, rest_down=0.2, rest_error=0.1, rest_limited=0.1, rest_lag_s=0.6, rest_nonsense=0.1,
    absent=0.02, crash=0.01, stop=0.01, dead=0.05, stall=0.003,
    snapshot=30,
)  # fmt: skip


@dataclass
class Socket:
    """One connection as the exchange sees it."""

    open: bool = True
    subscribed: set[str] = field(default_factory=set)
    deaf: bool = False
    stalled_until_ns: int = 0
    """Nothing arrives before; then everything does, in order."""


@dataclass
class World:
    """An exchange, a Kafka and a feed process on one clock."""

    seed: int
    faults: Faults
    trades: int = 120
    lines: int = 1
    make_feed: Callable[..., VenueFeed] = VenueFeed
    now_ns: int = 1_000 * S
    emitted: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    emitted_ns: dict[tuple[str, int], int] = field(default_factory=dict)
    kafka: list[Trade] = field(default_factory=list)
    dead: set[tuple[str, int]] = field(default_factory=set)
    absent: set[tuple[str, int]] = field(default_factory=set)
    """Trades that REST never has."""
    letters: set[tuple[str, int]] = field(default_factory=set)
    gaps: list[Gap] = field(default_factory=list)
    runs: list[list[tuple[int, Trade]]] = field(default_factory=list)
    """What each process passed on, with the number of the pair's subscription."""
    market: Sequence[str] = PAIRS
    """The pairs that trade, subscribed or not."""
    names_refused: bool = True
    changes: list[Subscription] = field(default_factory=list)
    eras: Counter[str] = field(default_factory=Counter)
    """How often each pair was left."""
    first_ids: dict[str, int] = field(default_factory=dict)
    """Where the promise for a pair in force begins."""
    most_held: int = 0
    crashes: int = 0
    stop_by_ns: int | None = None
    """When a process that was told to stop ends, whatever it misses."""
    stops: Counter[str] = field(default_factory=Counter)
    """How processes that were told to stop ended: complete, or out of time."""
    left_behind: list[str] = field(default_factory=list)
    """Holes that a process left which said that it misses nothing."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.count = 0
        self.next_ids = {pair: self.random.randrange(1, 10**6) for pair in self.market}
        self.start_process(Watermarks(), SYMBOLS)

    # -- the process --------------------------------------------------------------------------

    def start_process(self, marks: Watermarks, symbols: Iterable[str]) -> None:
        """Start a feed from what is safe."""
        self.generation = getattr(self, "generation", 0) + 1
        self.marks = marks
        self.stop_by_ns = None
        positions: dict[str, Position] = dict(rebuild_positions(self.kafka).get("tiny", {}))
        positions.update(marks.positions().get("tiny", {}))
        self.feed = self.make_feed(
            TinyVenue(symbols), self.now_ns, positions, lines=self.lines, seed=self.seed
        )
        self.sockets: dict[int, Socket] = {}
        self.runs.append([])
        self.queue: list[Trade] = []
        self.letters_due: list[DeadLetter] = []

    def crash(self) -> None:
        """Kill -9: half of what was not acknowledged is in Kafka all the same."""
        self.crashes += 1
        self.kafka += [trade for trade in self.queue if self.random.random() < 0.5]
        self.restart()

    def restart(self) -> None:
        """Start the next process from the checkpoint of the one that ended."""
        self.changes.clear()
        symbols = [s for s in self.feed.symbols if s not in (REFUSED, UNKNOWN)]
        self.start_process(Watermarks(self.marks.positions()), symbols)

    def stop(self) -> None:
        """SIGTERM: the sockets close, and what is missing before the newest trade is fetched."""
        self.perform(self.feed.drain())
        self.publish(self.feed.finish())
        self.stop_by_ns = self.now_ns + int(DRAIN_S * S)

    def end_stop(self) -> None:
        """Flush, write the checkpoint, exit 0; then the next process starts from that."""
        for trade in list(self.queue):
            self.acknowledge(trade)
        for letter in list(self.letters_due):
            self.acknowledge_letter(letter)
        if self.feed.missing:
            self.stops["out of time"] += 1
        else:
            self.stops["complete"] += 1
            self.left_behind += self.find_holes()
        self.restart()

    def find_holes(self) -> list[str]:
        """Return what is missing between the trades that the running process passed on."""
        holes = []
        for pair in self.feed.lines.pairs:
            run = [t for era, t in self.runs[-1] if (t.pair, era) == (pair, self.eras[pair])]
            ids = {trade.source_sequence or 0 for trade in run}
            if ids:
                between = set(range(min(ids), max(ids))) - ids
                lost = {i for i in between if (pair, i) not in self.letters | self.absent}
                holes += [f"{pair}: stopped with holes {sorted(lost)}"] if lost else []
        return holes

    def publish(self, events: Sequence[Any]) -> None:
        """Do with a feed's events what k2-feed does."""
        for event in events:
            if isinstance(event, Status) and event.kind in ("unsubscribed", "refused"):
                for pair in event.pairs:
                    self.marks.forget("tiny", pair)
                    self.eras[pair] += 1
                    self.first_ids.pop(pair, None)
            elif isinstance(event, Trade):
                self.first_ids.setdefault(event.pair, event.source_sequence or 0)
                self.runs[-1].append((self.eras[event.pair], event))
                self.marks.begin([event])
                self.queue.append(event)
                self.later(self.random.uniform(0.001, 0.05), self.acknowledge, event)
            elif isinstance(event, DeadLetter):
                self.letters_due.append(event)
                self.later(self.random.uniform(0.001, 0.05), self.acknowledge_letter, event)
            elif isinstance(event, Gap):
                self.gaps.append(event)
                self.marks.settle_gap("tiny", event.pair, event.first_id, event.last_id)

    def acknowledge(self, trade: Trade) -> None:
        """Kafka has it."""
        if trade in self.queue:
            self.queue.remove(trade)
            self.kafka.append(trade)
            self.marks.settle([trade])

    def acknowledge_letter(self, letter: DeadLetter) -> None:
        """Kafka has a dead letter."""
        if letter in self.letters_due:
            self.letters_due.remove(letter)
        for pair, trade_id in letter.ids:
            self.letters.add((pair, trade_id))
            self.marks.settle_gap("tiny", pair, trade_id, trade_id)

    # -- the exchange -------------------------------------------------------------------------

    def emit(self) -> None:
        """Match a trade, or a few, and send them to whoever listens."""
        pair = self.random.choice(self.market)
        rows = []
        for _ in range(self.random.choice([1, 1, 1, 3])):
            trade_id = self.next_ids[pair]
            self.next_ids[pair] += 1
            self.emitted[pair].append(trade_id)
            self.emitted_ns[pair, trade_id] = self.now_ns
            if self.random.random() < self.faults.dead:
                self.dead.add((pair, trade_id))
            if self.random.random() < self.faults.absent:
                self.absent.add((pair, trade_id))
            rows.append([pair, trade_id, (pair, trade_id) in self.dead])
        for line, socket in list(self.sockets.items()):
            if pair in socket.subscribed and socket.open:
                self.send(line, socket, rows)

    def send(self, line: int, socket: Socket, content: Any) -> None:
        """Put a frame on the wire; by the script it is lost, doubled, late, or the last one."""
        dice, faults = self.random.random, self.faults
        if isinstance(content, list):
            if dice() < faults.reset:
                self.later(0.0, self.cut, line, socket)
                return
            if dice() < faults.stall:
                socket.stalled_until_ns = self.now_ns + self.random.randrange(5 * S, 60 * S)
            if dice() < faults.deaf:
                socket.deaf = True
            if dice() < faults.shutdown:
                self.later(0.001, self.deliver, line, socket, b'"shutdown"')
                self.later(5.0, self.cut, line, socket)
            if dice() < faults.drop:
                return
        frame = json.dumps(content).encode()
        copies = 2 if dice() < faults.duplicate else 1
        for _ in range(copies):
            late = self.random.uniform(0, 0.6) if dice() < faults.delay else 0.001
            late = max(late, (socket.stalled_until_ns - self.now_ns) / S)
            self.later(late, self.deliver, line, socket, frame)

    def deliver(self, line: int, socket: Socket, frame: bytes) -> None:
        """A frame arrives."""
        if socket.open and not socket.deaf and self.sockets.get(line) is socket:
            self.publish(self.feed.hear(line, frame, EPOCH_US * 1000, self.now_ns))

    def cut(self, line: int, socket: Socket) -> None:
        """The connection is gone."""
        if socket.open and self.sockets.get(line) is socket:
            socket.open = False
            del self.sockets[line]
            self.publish(self.feed.close(line, "reset", self.now_ns))

    def answer(self, request: RestRequest) -> None:
        """Answer a REST request with what is visible there by now."""
        dice, faults = self.random.random, self.faults
        if dice() < faults.rest_down:
            self.feed.fail(self.now_ns)
            return
        response = RestResponse(200, {}, b"")
        if dice() < faults.rest_error:
            response = RestResponse(500, {}, b"oops")
        elif dice() < faults.rest_nonsense:
            response = RestResponse(451, {}, b"not from where you are")
        elif dice() < faults.rest_limited:
            response = RestResponse(429, {"retry-after": "3"}, b"")
        elif request.hole.pair not in self.market:
            response = RestResponse(404, {}, b"")
        else:
            pair, first_id = request.hole.pair, int(request.cursor)
            seen_ns = self.now_ns - int(faults.rest_lag_s * S)
            visible = [
                [pair, i, (pair, i) in self.dead]
                for i in self.emitted[pair]
                if i >= first_id
                and self.emitted_ns[pair, i] <= seen_ns
                and (pair, i) not in self.absent
            ]
            response = RestResponse(200, {}, json.dumps(visible[:PAGE]).encode())
        self.publish(self.feed.answer(request, response, EPOCH_US * 1000, self.now_ns))

    # -- the clock ----------------------------------------------------------------------------

    def later(self, delay_s: float, do: Callable[..., None], *arguments: Any) -> None:
        """Do something in a while, unless the process it concerns has died by then."""
        generation = self.generation
        self.count += 1
        when_ns = self.now_ns + int(delay_s * S)
        heapq.heappush(
            self.events,
            (
                when_ns,
                self.count,
                lambda: do(*arguments) if generation == self.generation else None,
            ),
        )

    def perform(self, actions: Iterable[Action | Fetch]) -> None:
        """Do what the feed asks for, as far as the world lets it."""
        for action in actions:
            match action:
                case Open(line=line):
                    if self.random.random() < self.faults.refuse:
                        self.later(0.01, self.refuse, line)
                    else:
                        self.later(0.01, self.connect, line)
                case Send(line=line, frame=text):
                    self.receive(line, text)
                case Close(line=line):
                    socket = self.sockets.pop(line, None)
                    if socket is not None:
                        socket.open = False
                case Fetch(request=request):
                    self.later(self.random.uniform(0.02, 0.3), self.answer, request)

    def connect(self, line: int) -> None:
        """The socket opens."""
        self.sockets[line] = Socket()
        for action in self.feed.open(line, self.now_ns):
            assert isinstance(action, Send)
            self.receive(line, action.frame)

    def refuse(self, line: int) -> None:
        """The socket does not open."""
        self.publish(self.feed.close(line, "refused", self.now_ns))

    def receive(self, line: int, text: str) -> None:
        """The exchange gets a frame."""
        socket = self.sockets.get(line)
        if socket is None or not socket.open:
            return
        kind, *pairs = text.split()
        refused = REFUSED.replace("/", "")
        if kind == "unsubscribe":
            socket.subscribed.difference_update(pairs)
        elif kind == "ping":
            self.send(line, socket, "pong")
        elif self.random.random() >= self.faults.no_ack:
            if refused in pairs:
                self.send(line, socket, {"refused": refused if self.names_refused else ""})
                pairs = [p for p in pairs if p != refused] if self.names_refused else []
            socket.subscribed.update(pairs)
            if pairs:
                self.send(line, socket, {"ack": pairs})
            for pair in pairs:
                newest = self.emitted[pair][-self.faults.snapshot :]
                if newest and self.faults.snapshot:
                    self.send(line, socket, [[pair, i, (pair, i) in self.dead] for i in newest])

    def change(self) -> None:
        """Somebody wants other symbols, or one that the exchange does not have."""
        in_force = [s for s in self.feed.symbols if s not in (REFUSED, UNKNOWN)]
        out_of_force = {*SYMBOLS, *MORE_SYMBOLS} - set(in_force)
        dice = self.random.random()
        if dice < 0.4 and len(in_force) > 1:
            self.publish(self.feed.unsubscribe([self.random.choice(in_force)]))
        elif dice < 0.8 and out_of_force:
            self.subscribe(self.random.choice(sorted(out_of_force)))
        else:
            self.subscribe(self.random.choice([REFUSED, UNKNOWN]), *sorted(out_of_force)[:1])

    def subscribe(self, *symbols: str) -> Subscription:
        """Take up symbols."""
        change = self.feed.subscribe(symbols, self.now_ns)
        self.changes.append(change)
        return change

    def run(self) -> "World":
        """Let the market trade, then let the feed come to rest."""
        self.emissions_left = self.trades
        emit_at_ns = self.now_ns + S
        end_ns = self.now_ns + 3_600 * S
        while self.now_ns < end_ns:
            deadlines = [self.feed.deadline_ns(self.now_ns), end_ns]
            if self.stop_by_ns is not None:
                deadlines = [self.now_ns + S // 20, self.stop_by_ns]
            if self.events:
                deadlines.append(self.events[0][0])
            if self.emissions_left:
                deadlines.append(emit_at_ns)
            self.now_ns = max(self.now_ns + 1, min(deadlines))
            while self.events and self.events[0][0] <= self.now_ns:
                heapq.heappop(self.events)[2]()
            if self.emissions_left and self.now_ns >= emit_at_ns:
                self.emit()
                self.emissions_left -= 1
                emit_at_ns = self.now_ns + int(self.random.expovariate(4) * S)
                self.interfere()
                if not self.emissions_left:
                    self.faults = Faults(rest_lag_s=self.faults.rest_lag_s)
            if self.stop_by_ns is None:
                self.publish(self.feed.tick(self.now_ns))
            elif not self.feed.missing or self.now_ns >= self.stop_by_ns:
                self.end_stop()
            self.perform(self.feed.act(self.now_ns))
            self.most_held = max(self.most_held, self.feed.continuity.held)
            if not self.emissions_left and self.is_at_rest():
                break
        return self

    def interfere(self) -> None:
        """By the script, change the symbols of the process, kill it, or tell it to stop."""
        dice, faults, is_stopping = self.random.random, self.faults, self.stop_by_ns is not None
        if not is_stopping and faults.change and dice() < faults.change:
            self.change()
        if dice() < faults.crash:
            self.crash()
        elif not is_stopping and faults.stop and dice() < faults.stop:
            self.stop()

    def is_at_rest(self) -> bool:
        """Everything sent has arrived, everything missing has been asked for."""
        return (
            self.stop_by_ns is None
            and self.feed.continuity.is_complete()
            and self.feed.lines.live > 0
            and not self.queue
            and not self.letters_due
            and all(change.is_done for change in self.changes)
            and self.feed.lines.are_subscribed(self.feed.lines.pairs)
            and all(not socket.deaf for socket in self.sockets.values())
            and all(s.subscribed == set(self.feed.lines.pairs) for s in self.sockets.values())
        )

    # -- the judge ----------------------------------------------------------------------------

    def breaches(self) -> list[str]:
        """Say what is wrong with what reached Kafka; empty means that the promise was kept."""
        named = {(gap.pair, i) for gap in self.gaps for i in range(gap.first_id, gap.last_id + 1)}
        fillable = sorted(named - self.absent)
        wrong = [f"a gap that REST could have filled: {fillable}"] if fillable else []
        wrong += self.left_behind
        for pair in self.market:
            found = {t.source_sequence for t in self.kafka if t.pair == pair}
            unsent = found - {i for i in self.emitted[pair] if (pair, i) not in self.dead}
            wrong += [f"{pair}: never sent {unsent}"] if unsent else []
            if pair in self.first_ids:
                sent = {i for i in self.emitted[pair] if i >= self.first_ids[pair]}
                named_here = {i for i in sent if (pair, i) in named}
                # Of the newest trades, what REST does not have nobody can know of.
                newest = max([*found, *(i for p, i in self.letters if p == pair)], default=0)
                sent -= {i for i in sent if i > newest and (pair, i) in self.absent}
                expected = {i for i in sent if (pair, i) not in self.dead} - named_here
                dead = {i for i in sent if (pair, i) in self.dead} - named_here
                unlettered = {i for i in dead if (pair, i) not in self.letters}
                wrong += [f"{pair}: no dead letter of {unlettered}"] if unlettered else []
                wrong += [f"{pair}: lost {sorted(expected - found)}"] if expected - found else []
        for run in self.runs:
            for pair, era in {(trade.pair, era) for era, trade in run}:
                trades = [t for number, t in run if (t.pair, number) == (pair, era)]
                ids = [t.source_sequence for t in trades]
                if len(ids) != len(set(ids)):
                    wrong.append(f"{pair}: passed on twice in one run")
                for origin in (None, BACKFILL, LATE):
                    order = [
                        t.source_sequence for t in trades if t.vendor_data.get(ORIGIN) == origin
                    ]
                    if order != sorted(order):  # type: ignore[type-var]
                        wrong.append(f"{pair}: out of order, origin={origin}: {order}")
        if self.most_held > 200:
            wrong.append(f"{self.most_held} trades held")
        if not self.is_at_rest():
            wrong.append("never came to rest")
        return wrong


@pytest.mark.parametrize("block", range(20))
def test_a_thousand_fault_schedules_lose_and_double_nothing(block: int):
    """Every seed is another mix of all faults; with one socket and with two."""
    for seed in range(block * 50, block * 50 + 50):
        world = World(seed, ALL_FAULTS, trades=60, lines=1 + seed % 2).run()
        assert world.breaches() == [], seed


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_ten_thousand_fault_schedules_lose_and_double_nothing():
    """The long form of the same."""
    for seed in range(10_000, 20_000):
        world = World(seed, ALL_FAULTS, trades=120, lines=1 + seed % 2).run()
        assert world.breaches() == [], seed


CHANCES = st.floats(0, 0.3)


@given(
    st.integers(0, 2**32),
    st.builds(
        Faults,
        drop=CHANCES,
        duplicate=CHANCES,
        delay=CHANCES,
        reset=st.floats(0, 0.05),
        deaf=st.floats(0, 0.02),
        shutdown=st.floats(0, 0.02),
        no_ack=CHANCES,
        refuse=CHANCES,
        rest_down=CHANCES,
        rest_error=CHANCES,
        rest_limited=CHANCES,
        rest_lag_s=st.floats(0, 2),
        crash=st.floats(0, 0.05),
        stop=st.floats(0, 0.05),
        dead=CHANCES,
        rest_nonsense=CHANCES,
        absent=CHANCES,
    ),
)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_mix_of_faults_loses_and_doubles_nothing(seed: int, faults: Faults):
    """Hypothesis looks for the mix that breaks the promise, and would show the smallest one."""
    assert World(seed, faults, trades=30).run().breaches() == []


CHANGING = replace(ALL_FAULTS, change=0.15)


def change_symbols(seed: int, faults: Faults, trades: int = 60) -> World:
    """A world whose symbols change while everything goes wrong."""
    market = [symbol.replace("/", "") for symbol in (*SYMBOLS, *MORE_SYMBOLS)]
    names = {"market": market, "names_refused": bool(seed % 2)}
    return World(seed, faults, trades=trades, lines=1 + seed // 2 % 2, **names).run()


def breaches_of_changes(world: World) -> list[str]:
    """Say what is wrong with the symbols that were asked for."""
    wrong = [f"{c.symbols} never settled" for c in world.changes if not c.is_done]
    for change in world.changes:
        bad = {REFUSED, UNKNOWN}.intersection(change.symbols)
        # A refusal that names nothing and is late may hit the change after its own.
        if change.refusal is not None and not bad and world.names_refused:
            wrong += [] if "again" in str(change.refusal) else [f"refused: {change.symbols}"]
    return wrong


@pytest.mark.parametrize("block", range(5))
def test_symbols_that_change_in_the_middle_of_faults_lose_and_double_nothing(block: int):
    """What is in force at the end is complete since it was subscribed; what was left has no gap."""
    for seed in range(block * 40, block * 40 + 40):
        world = change_symbols(seed, replace(CHANGING, crash=0.0 if seed % 3 else 0.01))
        assert world.breaches() + breaches_of_changes(world) == [], seed


def test_the_schedules_of_changes_hold_what_they_are_said_to():
    """Symbols came, went, came again and were refused by socket and by REST."""
    worlds = [change_symbols(seed, replace(CHANGING, crash=0.0)) for seed in range(30)]
    refusals = [str(c.refusal) for w in worlds for c in w.changes if c.refusal is not None]

    assert sum(world.eras.total() for world in worlds) > 60
    assert sum(c.refusal is None for world in worlds for c in world.changes) > 40
    assert [r for r in refusals if "refused YYYUSD: its REST knows no such pair" in r]
    assert [r for r in refusals if "refused ZZZUSD: no" in r]
    assert sum(world.feed.lines.reconnects for world in worlds) > 10


def start_quiet_world(**options: Any) -> World:
    """A world without faults in which 20 trades have come through."""
    world = World(3, Faults(), trades=20, market=("AAAUSD", "BBBUSD", "CCCUSD"), **options)
    assert world.run().breaches() == []
    return world


def test_a_new_symbol_begins_live_and_the_old_ones_do_not_notice():
    """As at a first start: nothing of what it traded before is fetched."""
    world = start_quiet_world()
    traded_before = max(world.emitted["CCCUSD"])
    change = world.subscribe("CCC/USD")
    assert not change.is_done
    world.run()

    assert (change.is_done, change.refusal, world.breaches()) == (True, None, [])
    found = sorted(t.source_sequence or 0 for t in world.kafka if t.pair == "CCCUSD")
    assert found == list(range(traded_before + 1, max(world.emitted["CCCUSD"]) + 1))
    assert (world.feed.continuity.backfilled, world.feed.lines.reconnects) == (0, 0)


@pytest.mark.parametrize("rotates", [False, True])
def test_a_changed_set_is_what_a_new_connection_subscribes(rotates: bool):
    """Reconnect and rotation alike ask for what is in force, in one request."""
    world = start_quiet_world()
    world.subscribe("CCC/USD")
    world.publish(world.feed.unsubscribe(["AAA/USD"]))
    world.run()
    ((line, socket),) = world.sockets.items()
    if rotates:
        world.send(line, socket, "shutdown")
    else:
        world.cut(line, socket)
    world.run()
    ((successor, socket),) = world.sockets.items()

    assert successor != line
    assert socket.subscribed == {"BBBUSD", "CCCUSD"}
    assert world.breaches() == []


def test_a_symbol_that_is_left_leaves_no_hole_and_its_held_trades_go_on():
    """What it lacks is asked of nobody any more, not even the answer under way is taken."""
    world = start_quiet_world()
    feed, last_id = world.feed, max(world.emitted["AAAUSD"])
    frame = json.dumps([["AAAUSD", last_id + 3, False]]).encode()
    (line,) = world.sockets
    assert feed.hear(line, frame, EPOCH_US * 1000, world.now_ns) == []
    feed.tick(world.now_ns + S)
    assert feed.continuity.missing == 2
    request = next(a.request for a in feed.act(world.now_ns + S) if isinstance(a, Fetch))
    later = json.dumps([["AAAUSD", last_id + 5, False]]).encode()
    assert feed.hear(line, later, EPOCH_US * 1000, world.now_ns + S) == []
    events = feed.unsubscribe(["AAA/USD"])

    held = [e.source_sequence for e in events if isinstance(e, Trade)]
    assert (held, events[-1]) == (
        [last_id + 5],
        Status("tiny", "unsubscribed", "AAA/USD", ("AAAUSD",)),
    )
    rows = [["AAAUSD", last_id + n, False] for n in (1, 2)]
    answer = RestResponse(200, {}, json.dumps(rows).encode())
    assert feed.answer(request, answer, 0, world.now_ns + S) == []
    assert feed.hear(line, later, EPOCH_US * 1000, world.now_ns + S) == []
    assert (feed.continuity.missing, feed.continuity.held, feed.continuity.gaps) == (0, 0, 0)
    assert feed.symbols == ["BBB/USD"]


@pytest.mark.parametrize("names_refused", [True, False])
def test_a_refused_symbol_is_named_and_nothing_else_changes(names_refused: bool):
    """All or none: what was asked for together with it is not subscribed either."""
    world = start_quiet_world(names_refused=names_refused)
    change = world.subscribe("CCC/USD", REFUSED)
    world.run()

    assert change.is_done
    assert isinstance(change.refusal, SubscriptionRejectedError)
    assert "ZZZUSD" in change.refusal.pairs
    assert world.feed.symbols == list(SYMBOLS)
    assert [socket.subscribed for socket in world.sockets.values()] == [set(PAIRS)]
    assert (world.breaches(), world.feed.lines.reconnects) == ([], 0)


def test_a_symbol_that_only_rest_knows_to_be_wrong_is_refused():
    """Binance acknowledges any stream; without REST it would be silence."""
    world = start_quiet_world()
    change = world.subscribe(UNKNOWN)
    world.run()

    assert change.refusal is not None
    assert change.refusal.pairs == ("YYYUSD",)
    assert (world.feed.symbols, world.breaches()) == (list(SYMBOLS), [])


def test_a_wrong_symbol_of_the_configuration_ends_the_feed_though_the_socket_accepts_it():
    """At the first look over REST, which every symbol without a position gets."""
    feed = VenueFeed(TinyVenue([*SYMBOLS, UNKNOWN]), 0, {"AAAUSD": Position(7, 0)})
    (first,) = [a.request for a in feed.act(0) if isinstance(a, Fetch)]
    feed.answer(first, RestResponse(200, {}, b"[]"), 0, 1)
    (second,) = [a.request for a in feed.act(1) if isinstance(a, Fetch)]

    assert (first.hole.pair, second.hole.pair) == ("BBBUSD", "YYYUSD")
    with pytest.raises(SubscriptionRejectedError, match="refused YYYUSD: its REST knows no"):
        feed.answer(second, RestResponse(404, {}, b""), 0, 2)


@pytest.mark.parametrize("status", [503, 451])
def test_a_venue_that_is_unwell_for_long_is_asked_until_it_answers(status: int):
    """What is no page of trades says nothing about what it has: no gap, however often it comes."""
    feed = VenueFeed(TinyVenue(), 0, {"AAAUSD": Position(7, 0), "BBBUSD": Position(7, 0)})
    now_ns, answers = 0, 0
    feed.hear(0, b'[["AAAUSD", 9, false]]', EPOCH_US * 1000, 0)
    while answers < 40:
        now_ns += S
        assert [e for e in feed.tick(now_ns) if isinstance(e, Gap)] == []
        for request in [a.request for a in feed.act(now_ns) if isinstance(a, Fetch)]:
            answers += 1
            (said,) = feed.answer(request, RestResponse(status, {}, b""), 0, now_ns)
            assert isinstance(said, Status)
            assert (said.kind, str(status) in said.detail) == ("rest_failed", True)
    while feed.continuity.missing:
        now_ns += S
        for request in [a.request for a in feed.act(now_ns) if isinstance(a, Fetch)]:
            rows = [["AAAUSD", 8, False], ["AAAUSD", 9, False]]
            body = json.dumps(rows if "AAA" in request.url else []).encode()
            feed.answer(request, RestResponse(200, {}, body), EPOCH_US * 1000, now_ns)

    assert (feed.continuity.backfilled, feed.continuity.gaps) == (1, 0)


@pytest.mark.parametrize("absent", [[7], [7, 2_990], [1], [3_000], range(30, 60)])
def test_a_long_hole_is_fetched_once_and_what_nobody_has_is_named(absent: Sequence[int]):
    """One id that is lacking does not make the venue be asked for all the others for ever."""
    feed = VenueFeed(TinyVenue(["AAA/USD"]), 0, {"AAAUSD": Position(0, 0)})
    feed.hear(0, b'[["AAAUSD", 3001, false]]', EPOCH_US * 1000, 0)
    now_ns, asked, events = 0, 0, list[Any]()
    while now_ns < 300 * S:
        now_ns += S // 4
        events += feed.tick(now_ns)
        for request in [a.request for a in feed.act(now_ns) if isinstance(a, Fetch)]:
            asked += 1
            first = int(request.cursor)
            rows = [["AAAUSD", i, False] for i in range(first, 3_002) if i not in absent]
            body = json.dumps(rows[:PAGE]).encode()
            events += feed.answer(request, RestResponse(200, {}, body), EPOCH_US * 1000, now_ns)

    named = [i for e in events if isinstance(e, Gap) for i in range(e.first_id, e.last_id + 1)]
    fetched = [e.source_sequence for e in events if isinstance(e, Trade)]
    assert named == list(absent)
    assert fetched[0] == 3_001
    assert fetched[1:] == [i for i in range(1, 3_001) if i not in absent]
    assert feed.missing == 0
    assert 3_000 / PAGE <= asked < 3_000 / PAGE + 30


@pytest.mark.parametrize("asks", [True, False])
def test_a_complaint_about_a_connection_replaces_it_and_accuses_no_symbol(asks: bool):
    """Everything it was asked for was acknowledged once: slow consumption, a ping it dislikes."""
    world = start_quiet_world()
    ((line, socket),) = world.sockets.items()
    if asks:  # a new connection, whose subscription is refused though nothing is wrong with it
        world.cut(line, socket)
        (opened,) = [a for a in wait_for_open(world) if isinstance(a, Open)]
        world.feed.open(opened.line, world.now_ns)
        line = opened.line
    assert world.feed.hear(line, b'{"refused": ""}', 0, world.now_ns) == []

    assert Close(line, "no") in world.feed.act(world.now_ns)
    assert world.feed.symbols == list(SYMBOLS)


def test_a_symbol_that_is_refused_after_it_was_acknowledged_is_asked_for_again():
    """The maintenance of one market must not end all the others; for ever is no maintenance."""
    world = start_quiet_world()
    ((line, socket),) = world.sockets.items()
    world.cut(line, socket)
    refusal, began_ns = b'{"refused": "AAAUSD"}', 0
    with pytest.raises(SubscriptionRejectedError, match="AAAUSD"):  # noqa: PT012  # by and by
        for _ in range(1000):
            (opened,) = [a for a in wait_for_open(world) if isinstance(a, Open)]
            began_ns = began_ns or world.now_ns
            world.feed.open(opened.line, world.now_ns)
            assert world.feed.hear(opened.line, refusal, 0, world.now_ns) == []
            (closed,) = [a for a in world.feed.act(world.now_ns) if isinstance(a, Close)]
            assert "AAAUSD" in closed.reason

    assert 600 * S <= world.now_ns - began_ns < 700 * S
    assert world.feed.symbols == list(SYMBOLS)


def test_a_line_that_becomes_live_ends_the_patience_with_a_refusal():
    """Ten minutes later the next refusal is a new one."""
    world = start_quiet_world()
    for _ in range(3):
        ((line, socket),) = world.sockets.items()
        refusal = json.dumps({"refused": "AAAUSD"}).encode()
        assert world.feed.hear(line, refusal, 0, world.now_ns) == []
        world.cut(line, socket)
        world.now_ns += 500 * S
        world.run()

    assert world.breaches() == []


def test_a_long_look_proves_no_deafness():
    """After a stop a pair has pages to fetch, over a connection that is well."""
    feed = VenueFeed(TinyVenue(["AAA/USD"]), 0, {"AAAUSD": Position(0, match_us(0))}, seed=1)
    (opened,) = [a for a in feed.act(0) if isinstance(a, Open)]
    feed.open(opened.line, 0)
    feed.hear(opened.line, b'{"ack": ["AAAUSD"]}', 0, 0)
    fetched: list[int | None] = []
    for now_ns in range(0, 60 * S, S // 10):
        feed.tick(now_ns)
        feed.hear(opened.line, b'"beat"', 0, now_ns)
        for action in feed.act(now_ns):
            assert not isinstance(action, Open | Close), action
            if isinstance(action, Fetch):
                first_id = int(action.request.cursor)
                ids = range(first_id, min(first_id + PAGE, 1_001))
                body = json.dumps([["AAAUSD", n, False] for n in ids]).encode()
                answer = RestResponse(200, {}, body)
                events = feed.answer(action.request, answer, EPOCH_US * 1000, now_ns)
                fetched += [e.source_sequence for e in events if isinstance(e, Trade)]

    assert fetched == list(range(1, 1_001))
    assert feed.lines.rotations == 0


def test_a_feed_that_backfills_nothing_still_asks_if_its_symbols_exist():
    """A limit of 0 trades is none on looks: Binance says nothing of a symbol it does not have."""
    feed = VenueFeed(TinyVenue(["AAA/USD"]), 0, max_backfill_trades=0)
    (fetch,) = [a for a in feed.act(0) if isinstance(a, Fetch)]
    with pytest.raises(SubscriptionRejectedError, match="AAAUSD"):
        feed.answer(fetch.request, RestResponse(404, {}, b""), 0, 0)


def test_a_number_that_rest_cannot_mean_moves_nothing():
    """A lone row ahead of all: what comes after it would be known, and dropped in silence."""
    feed = VenueFeed(TinyVenue(["AAA/USD"]), 0, {"AAAUSD": Position(10, match_us(10))})
    rows = [["AAAUSD", 11, False], ["AAAUSD", 10**15, True]]
    for now_ns in range(0, 30 * S, S):
        feed.tick(now_ns)
        for action in feed.act(now_ns):
            if isinstance(action, Fetch):
                answer = RestResponse(200, {}, json.dumps(rows).encode())
                feed.answer(action.request, answer, EPOCH_US * 1000, now_ns)

    frame = json.dumps([["AAAUSD", 12, False]]).encode()
    assert len(feed.hear(0, frame, EPOCH_US * 1000, 30 * S)) == 1


def test_the_id_of_a_broken_frame_is_no_beginning():
    """It is told with the letter only once the pair has begun: a restart builds on it."""
    feed = VenueFeed(TinyVenue(["AAA/USD"]), 0)
    letters = [
        event.ids
        for row in (["AAAUSD", 10**18, True], ["AAAUSD", 7, False], ["AAAUSD", 8, True])
        for event in [*feed.hear(0, json.dumps([row]).encode(), 0, 0), *feed.tick(S)]
        if isinstance(event, DeadLetter)
    ]

    assert letters == [(), (("AAAUSD", 8),)]


def wait_for_open(world: World) -> list[Action | Fetch]:
    """Let time pass until a connection is to be opened."""
    while not (actions := world.feed.act(world.now_ns)):
        world.now_ns += S
    return actions


def test_ids_that_fall_end_the_feed_with_the_reason():
    """New trades whose ids are known would be dropped as repetitions, for ever and in silence."""
    feed = VenueFeed(TinyVenue(["AAA/USD"]), 0, {"AAAUSD": Position(1_000_000, EPOCH_US)})
    later = [["AAAUSD", 900_000, False]]
    assert feed.hear(0, json.dumps(later).encode(), EPOCH_US * 1000, 0) == []

    feed = VenueFeed(TinyVenue(["AAA/USD"]), 0, {"AAAUSD": Position(9_000_000, EPOCH_US)})
    frames = [json.dumps([["AAAUSD", 5_000_000 + n, False]]).encode() for n in range(100)]
    with pytest.raises(IdsRestartedError, match=r"ids about 50000\d\d, and all below 9000001"):
        feed.hear_all(0, frames, EPOCH_US * 1000, 0)


def test_old_trades_that_come_again_are_no_new_numbering():
    """However many: they were matched before what we know."""
    feed = VenueFeed(TinyVenue(["AAA/USD"]), 0, {"AAAUSD": Position(9_000, match_us(9_000))})
    frames = [json.dumps([["AAAUSD", 5_000 + n, False]]).encode() for n in range(1000)]

    assert feed.hear_all(0, frames, EPOCH_US * 1000, 0) == []
    assert feed.continuity.duplicates == 1000


@pytest.mark.parametrize(
    ("symbols", "reason"),
    [(["CCC/USD"], "not subscribed"), (list(SYMBOLS), "no symbol would be left")],
)
def test_what_cannot_be_left_is_refused_and_nothing_is(symbols: list[str], reason: str):
    """A misspelt symbol, and the last one."""
    feed = VenueFeed(TinyVenue(), 0)
    with pytest.raises(SubscriptionChangeError, match=reason):
        feed.unsubscribe(symbols)

    assert feed.symbols == list(SYMBOLS)


def test_a_world_without_faults_is_quiet():
    """Nothing is fetched, dropped or held when nothing is lost."""
    world = World(1, Faults()).run()

    assert world.breaches() == []
    assert world.feed.continuity.backfilled == 0
    assert len(world.kafka) == sum(len(ids) for ids in world.emitted.values())


# -- sabotage: each of these feeds is broken in one way, and the judge must see it ---------------


class WithoutBackfill(VenueFeed):
    """Never fetches what is missing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **(options | {"backfill": False}))


class Unsequenced(Sequencer):
    """Lets everything through, known or not."""

    def accept(self, trade: Trade, now_ns: int) -> list[Trade]:
        """Pass a trade on as it comes."""
        self.next_id = max(self.next_id or 0, (trade.source_sequence or 0) + 1)
        return [trade]


class WithoutDedup(VenueFeed):
    """Passes known ids on again."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for pair, sequencer in self.continuity._sequencers.items():
            self.continuity._sequencers[pair] = Unsequenced(pair, sequencer.next_id)


class FirstOfBatch(VenueFeed):
    """Reads one trade a frame, as the origin did with Kraken's batches, and asks nobody."""

    def __init__(self, venue: TinyVenue, *arguments: Any, **options: Any) -> None:
        decode = venue.decode

        def decode_first(frame: bytes, recv_us: int) -> Decoded:
            decoded = decode(frame, recv_us)
            if not decoded.trades:
                return decoded
            return Decoded(trades=list(decoded.trades)[:1])

        venue.decode = decode_first  # type: ignore[method-assign]
        super().__init__(venue, *arguments, **(options | {"backfill": False}))


class AckedTooEarly(World):
    """Moves its positions when a trade is handed over, not when Kafka has it."""

    def publish(self, events: Sequence[Any]) -> None:
        """Settle first, deliver later."""
        for event in events:
            if isinstance(event, Trade):
                self.marks.settle([event])
        super().publish(events)


class Credulous(VenueFeed):
    """Takes an answer that is no page for one that says that the venue has nothing."""

    def __init__(self, venue: TinyVenue, *arguments: Any, **options: Any) -> None:
        read_page = venue.read_page

        def believe(request: RestRequest, response: RestResponse, recv_us: int) -> RestPage:
            page = read_page(request, response, recv_us)
            return RestPage() if page.problem else page

        venue.read_page = believe  # type: ignore[method-assign]
        super().__init__(venue, *arguments, **options)


def test_a_feed_that_believes_any_answer_is_caught():
    """Six of them in a row, and it gives up what the venue has."""
    faults = Faults(drop=0.05, rest_nonsense=0.95)
    breached = [
        seed
        for seed in range(20)
        if World(seed, faults, trades=240, make_feed=Credulous).run().breaches()
    ]

    assert len(breached) >= 10
    assert [World(seed, faults, trades=240).run().breaches() for seed in range(20)] == [[]] * 20


@pytest.mark.parametrize("sabotage", [WithoutBackfill, WithoutDedup, FirstOfBatch])
def test_a_sabotaged_feed_is_caught(sabotage: Callable[..., VenueFeed]):
    """A judge that passes these would pass anything."""
    breached = [
        seed
        for seed in range(20)
        if World(seed, ALL_FAULTS, trades=60, make_feed=sabotage).run().breaches()
    ]

    assert len(breached) >= 15


def test_positions_that_move_before_delivery_are_caught():
    """Kill -9 then loses what was under way."""
    faults = Faults(crash=0.3, drop=0.02)
    breached = [seed for seed in range(20) if AckedTooEarly(seed, faults).run().breaches()]

    assert len(breached) >= 10


LOSSY = Faults(drop=0.3, delay=0.1, reset=0.05, dead=0.05, stop=0.2)


def test_a_process_that_is_told_to_stop_leaves_no_hole_while_rest_is_well():
    """Whatever it misses at that moment is fetched before it ends."""
    worlds = [World(seed, LOSSY, trades=60, lines=1 + seed % 2).run() for seed in range(100)]

    assert [breach for world in worlds for breach in world.breaches()] == []
    assert sum(world.stops["complete"] for world in worlds) > 500
    assert sum(world.stops["out of time"] for world in worlds) == 0


class HastyFinish(VenueFeed):
    """Lets go what it held and asks nobody for what is missing before it."""

    def finish(self) -> list[Any]:
        """Release alone."""
        sequencers = self.continuity._sequencers.values()
        return [trade for s in sequencers for trade in s.release(s.deadline_ns or 0)]


def test_a_feed_that_ends_in_haste_is_caught():
    """It misses trades for as long as it may, and leaves them behind."""
    worlds = [World(seed, LOSSY, trades=60, make_feed=HastyFinish).run() for seed in range(20)]

    assert sum(world.stops["out of time"] for world in worlds) > 10


def test_the_judge_counts_crashes_and_faults():
    """The schedules do contain what they are said to contain."""
    worlds = [World(seed, ALL_FAULTS, trades=120).run() for seed in range(30)]

    assert sum(world.crashes for world in worlds) > 5
    assert sum(world.stops["complete"] for world in worlds) > 10
    assert sum(world.feed.continuity.backfilled for world in worlds) > 100
    assert sum(world.feed.continuity.duplicates for world in worlds) > 50
    assert sum(world.feed.lines.reconnects for world in worlds) > 5
    assert sum(len(world.gaps) for world in worlds) > 5
    assert isinstance(worlds[0].feed.continuity, Continuity)


tiny_rows = st.tuples(st.sampled_from(PAIRS), st.integers(1, 12), st.booleans())
tiny_frames = st.lists(
    st.one_of(
        st.lists(tiny_rows, max_size=4),
        st.sampled_from(["pong", "shutdown", {"ack": PAIRS}, {"refused": REFUSED}]),
    ),
    max_size=12,
)


@given(tiny_frames, st.booleans(), st.sets(st.integers(0, 12)))
def test_frames_that_come_together_are_what_they_are_alone(
    contents: list[Any], contiguity: bool, cuts: set[int]
):
    """The same events in the same order, however a socket was read."""
    frames = [json.dumps(content).encode() for content in contents]
    ends = sorted({end for end in cuts if end < len(frames)} | {len(frames)})

    def hear(batches: list[list[bytes]]) -> tuple[object, ...]:
        feed = VenueFeed(TinyVenue(), S, {"AAAUSD": Position(3, 0)}, contiguity=contiguity)
        (opened, *_) = feed.act(S)
        assert isinstance(opened, Open)
        feed.open(opened.line, S)
        heard: list[object] = []
        try:
            for batch in batches:
                heard += feed.hear_all(opened.line, batch, EPOCH_US * 1000, 2 * S)
        except SubscriptionRejectedError as error:
            return (str(error),)
        counts = (feed.frames, feed.trades, feed.dead_letters, feed.control, feed.lag_us)
        return heard, counts, feed.continuity.held, feed.continuity.duplicates

    together = [frames[begin:end] for begin, end in pairwise([0, *ends])]

    assert hear(together) == hear([[frame] for frame in frames])
