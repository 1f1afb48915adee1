"""Twin: the publish protocol in plain Python, on tables in memory and a clock that is a number.

What `flow`, `bronze_sink`, `stage`, `promotion`, `publish` and `maintain` decide is written down
here once more, step by step, so that thousands of schedules of crashes, second drivers, sleep and
expiry can be tried in seconds. `Rules` switches single decisions off, to show that each is needed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

STALE_AFTER = 20
SNAPSHOT_AGE = 60


class FencedError(Exception):
    """Another driver has been here."""


@dataclass(frozen=True)
class Rules:
    """The decisions of the protocol; each can be left out."""

    fence: bool = True
    roll_forward: bool = True
    positions_from_tables: bool = True
    keep_needed: bool = True
    write_down: bool = True
    refuse_stale: bool = True
    confirm: bool = True
    dead_letters: bool = True


@dataclass
class Snapshot:
    """One published batch: its id, its rows, when it was staged, whether it has expired."""

    publish_id: str
    rows: list[object]
    staged_at: int
    end: int
    expired: bool = False


@dataclass
class Table:
    """Published snapshots in order; rows outlive the snapshots that brought them."""

    snapshots: list[Snapshot] = field(default_factory=list)
    rows: list[object] = field(default_factory=list)
    written: str | None = None

    def ids(self) -> dict[str, Snapshot]:
        """Return the batches that the table still knows."""
        return {found.publish_id: found for found in self.snapshots if not found.expired}


@dataclass
class World:
    """A topic, four tables, a checkpoint and the time."""

    topic: list[object]
    rules: Rules
    chance: random.Random
    now: int = 0
    bronze: Table = field(default_factory=Table)
    dlq: Table = field(default_factory=Table)
    silver: Table = field(default_factory=Table)
    gold: Table = field(default_factory=Table)
    checkpoint: int = 0

    def cherry_pick(self, table: Table, snapshot: Snapshot, since: int) -> bool:
        """Publish if nobody has published the id: Iceberg's own check, in one step.

        `since` is when the driver last knew that the batch is its to publish.
        """
        if self.rules.refuse_stale and self.now - since > STALE_AFTER:
            raise FencedError
        if self.rules.fence and snapshot.publish_id in table.ids():
            return False
        table.snapshots.append(snapshot)
        table.rows += snapshot.rows
        return True

    def newest_id(self) -> str | None:
        """Return the id of the newest batch that Bronze knows."""
        known = [found.publish_id for found in self.bronze.snapshots if not found.expired]
        return known[-1] if known else None

    def expire(self) -> None:
        """Forget old snapshots that nothing needs; first write down where the flow stands."""
        cutoff = self.now - SNAPSHOT_AGE
        known, place = find_begin(self)
        finished = known[place - 1].publish_id if place else None
        pending = {found.publish_id for found in known[place:]}
        held = self.gold.ids().get(finished or "")
        if self.rules.write_down and held is not None and held.staged_at < cutoff:
            for table in (self.dlq, self.silver, self.gold):
                table.written = finished
        is_written = not self.rules.write_down or self.gold.written == finished
        self._forget(self.bronze, pending | {finished} if pending or not is_written else set())
        for table in (self.dlq, self.silver, self.gold):
            is_written = not self.rules.write_down or table.written == finished
            self._forget(table, pending if is_written else pending | {finished})

    def _forget(self, table: Table, needed: set[str | None]) -> None:
        """Expire what is old and before everything needed."""
        for snapshot in table.snapshots:
            if self.rules.keep_needed and snapshot.publish_id in needed and not snapshot.expired:
                return
            if snapshot.staged_at < self.now - SNAPSHOT_AGE:
                snapshot.expired = True


def find_begin(world: World) -> tuple[list[Snapshot], int]:
    """Return the batches that Bronze knows, and how many of them are in every table.

    Gold says it: it is published last.
    """
    known = [found for found in world.bronze.snapshots if not found.expired]
    finished = {*world.gold.ids(), world.gold.written}
    for place in range(len(known), 0, -1):
        if known[place - 1].publish_id in finished:
            return known, place
    return known, 0


def run_driver(world: World) -> Iterator[str]:
    """Run a driver; it can be left for dead, or asleep, at every yield."""
    while world.rules.roll_forward and (pending := list_pending(world)):
        yield from promote(world, pending[0], world.now)
    newest = world.newest_id()
    yield "standing taken"
    position = len(world.bronze.rows) if world.rules.positions_from_tables else world.checkpoint
    while position < len(world.topic):
        yield "batch planned"
        if world.rules.confirm:
            found = world.newest_id()
            beyond = len(world.bronze.rows) > position if found is None else found != newest
            if beyond:
                raise FencedError
        since = world.now
        end = min(len(world.topic), position + world.chance.randint(1, 5))
        mine = Snapshot(f"k2:{position}", world.topic[position:end], world.now, end)
        yield "bronze staged"
        if not world.cherry_pick(world.bronze, mine, since):
            theirs = world.bronze.ids()[mine.publish_id]
            if theirs.end != end:
                raise FencedError
        newest = mine.publish_id
        yield "bronze published"
        yield from promote(world, mine, since)
        position = world.checkpoint = end


def list_pending(world: World) -> list[Snapshot]:
    """Return the Bronze batches after the newest that all tables carry."""
    known, begin = find_begin(world)
    return known[begin:]


def promote(world: World, batch: Snapshot, since: int) -> Iterator[str]:
    """Publish dead letters, Silver and Gold of a Bronze batch, in that order."""
    accepted = [row for row in batch.rows if row[0] != "bad"]
    dead = [row for row in batch.rows if row[0] == "bad"] if world.rules.dead_letters else []
    silver = Snapshot(batch.publish_id, accepted, world.now, batch.end)
    yield "silver staged"
    dlq = Snapshot(batch.publish_id, dead, world.now, batch.end)
    yield from _publish(world, world.dlq, dlq, since)
    yield from _publish(world, world.silver, silver, since)
    held = {row[1] for row in world.gold.rows}
    new = {row[1]: ("trade", row[1]) for row in accepted if row[1] not in held}
    gold = Snapshot(batch.publish_id, list(new.values()), world.now, batch.end)
    yield "gold staged"
    yield from _publish(world, world.gold, gold, since)


def _publish(world: World, table: Table, snapshot: Snapshot, since: int) -> Iterator[str]:
    if snapshot.publish_id not in table.ids() or not world.rules.fence:
        world.cherry_pick(table, snapshot, since)
    yield "published"


def find_breaches(world: World, *, finished: bool) -> list[str]:
    """Return what no reader may ever see; once all is done, also what must not be missing."""
    found = [f"Gold doubles {row}" for row, n in Counter(world.gold.rows).items() if n > 1]
    found += [f"DLQ doubles {row}" for row, n in Counter(world.dlq.rows).items() if n > 1]
    if finished:
        if world.bronze.rows != world.topic:
            found.append("Bronze is not the topic")
        trades = {row[1] for row in world.topic if row[0] != "bad"}
        if {row[1] for row in world.gold.rows} != trades:
            found.append("Gold is not the trades")
        if sorted(world.dlq.rows) != sorted(row for row in world.topic if row[0] == "bad"):
            found.append("DLQ is not the bad records")
        if Counter(world.silver.rows) != Counter(row for row in world.topic if row[0] != "bad"):
            found.append("Silver is not the accepted records")
    return found


def play(seed: int, rules: Rules = Rules()) -> list[str]:
    """Play one schedule: drivers start, crash, sleep and wake; snapshots expire; then all ends."""
    chance = random.Random(seed)
    topic: list[object] = []
    for offset in range(chance.randint(5, 30)):
        kind = chance.choices(["trade", "again", "bad"], [8, 2, 1])[0]
        number = chance.randrange(max(1, offset)) if kind == "again" else offset
        topic.append(("bad", offset) if kind == "bad" else ("trade", number))
    world = World(topic, rules, chance)
    drivers: list[Iterator[str]] = []
    current: Iterator[str] | None = None
    for _ in range(chance.randint(20, 150)):
        world.now += chance.choice([1, 1, 1, 2, 30])
        deed = chance.random()
        if deed < 0.08 and len(drivers) < 3:
            drivers.append(run_driver(world))
        elif deed < 0.12 and drivers:
            drivers.pop(chance.randrange(len(drivers)))
        elif deed < 0.2:
            world.expire()
        elif deed < 0.23:
            world.checkpoint = chance.randint(0, world.checkpoint)
        elif drivers:
            # Mostly the one that ran last: the others sleep, at times for long.
            if current not in drivers or chance.random() < 0.1:
                current = chance.choice(drivers)
            _step(drivers, current)
        breaches = find_breaches(world, finished=False)
        if breaches:
            return breaches
    return _finish(world)


def _step(drivers: list[Iterator[str]], driver: Iterator[str]) -> None:
    try:
        next(driver)
    except (StopIteration, FencedError, KeyError):
        drivers.remove(driver)


def _finish(world: World) -> list[str]:
    """Let drivers, one after the other, do what is left; three are enough if none is disturbed."""
    for _ in range(3):
        try:
            for _ in run_driver(world):
                world.now += 1
        except FencedError:
            continue
    return find_breaches(world, finished=True)
