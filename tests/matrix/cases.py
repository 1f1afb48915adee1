"""Cases of the matrix: each returns what it found wrong; nothing is the only good answer."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from subprocess import Popen

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from k2_medallion import bronze_trades, open_catalog
from k2_schemas.topics import trades_topic

from .ledger import BATCH, COUNT, STEP_US, MatrixLedger, write_ledger
from .rig import Lake, Rig, judge, kill_group, read_all_the_while


def zombie(rig: Rig, name: str) -> list[str]:
    """Stop a driver in mid-batch, let another do the work, wake the first."""
    ledger, lake = _prepare(rig, name)
    with read_all_the_while(lake) as reader:
        lake.order("silver stage", signal.SIGSTOP)
        first = lake.start()
        _wait_until_stopped(first.pid)
        lake.cancel_order()
        second = lake.start()
        lake.wait_until_done(second, ledger)
        os.kill(first.pid, signal.SIGCONT)
        # It may find that its work is done, or that it is fenced; either is an end of its harm.
        time.sleep(15)
        lake.stop(second)
        first.terminate()
        try:
            first.wait(60)
        finally:
            kill_group(first)
    return judge(lake, ledger, reader.duplicates, reader.reads)


def two_drivers(rig: Rig, name: str, *options: str) -> list[str]:
    """Let two drivers start at once on one home."""
    ledger, lake = _prepare(rig, name)
    with read_all_the_while(lake) as reader:
        drivers = [lake.start(*options), lake.start(*options)]
        if options:
            # What a cheat leaves may never be what it should.
            _wait_for_quiet(lake, *drivers)
        else:
            for driver in drivers:
                lake.wait_until_done(driver, ledger, may_end=True)
        for driver in drivers:
            driver.terminate()
            driver.wait(60)
            kill_group(driver)
        if not options:
            _finish(lake, ledger)
    return judge(lake, ledger, reader.duplicates, reader.reads)


def expired_snapshot(rig: Rig, name: str) -> list[str]:
    """Expire the snapshot that the staged flows read last; go on from there."""
    ledger, lake = _prepare(rig, name, "staged", produce=len_of_half)
    half = _cut(ledger)
    driver = lake.start()
    lake.wait_until_done(driver, half)
    lake.stop(driver)
    table = open_catalog(lake.home).load_table(bronze_trades(name).identifier)
    current = table.current_snapshot()
    others = [s.snapshot_id for s in table.snapshots() if s != current]
    if others:
        table.maintenance.expire_snapshots().by_ids(others).commit()
    rig.produce(ledger, len(half.records))
    _finish(lake, ledger)
    return judge(lake, ledger, 0, 1)


def compaction(rig: Rig, name: str) -> list[str]:
    """Compact, expire and merge manifests all the while."""
    ledger, lake = _prepare(rig, name)
    with read_all_the_while(lake) as reader:
        driver = lake.start("--busy-upkeep", "--batch", "150")
        lake.wait_until_done(driver, ledger)
        time.sleep(5)
        lake.stop(driver)
    found = judge(lake, ledger, reader.duplicates, reader.reads)
    if '"upkeep"' not in lake.log.read_text() and "upkeep" not in lake.log.read_text():
        found.append("nothing was compacted")
    return found


def midnight(rig: Rig, name: str) -> list[str]:
    """Trades around midnight UTC, on a machine that is in Kolkata."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    begin_us = int(today.timestamp() * 1e6) - COUNT * STEP_US // 2
    ledger, lake = _prepare(rig, name, begin_us=begin_us)
    lake.order("silver publish")
    lake.wait_for_death(lake.start(TZ="Asia/Kolkata"))
    driver = lake.start(TZ="Asia/Kolkata")
    lake.wait_until_done(driver, ledger)
    lake.stop(driver)
    return judge(lake, ledger, 0, 1)


def broker_killed(rig: Rig, name: str) -> list[str]:
    """Kill the broker in mid-run and start it again."""
    ledger, lake = _prepare(rig, name)
    with read_all_the_while(lake) as reader:
        driver = lake.start("--batch", "100")
        _wait_for_some(lake)
        os.kill(rig.broker.child.pid, signal.SIGKILL)
        time.sleep(2)
        rig.broker.start()
        rig.broker.wait()
        lake.wait_until_done(driver, ledger, may_end=True)
        if driver.poll() is None:
            lake.stop(driver)
        kill_group(driver)
        _finish(lake, ledger)
    return judge(lake, ledger, reader.duplicates, reader.reads)


def no_checkpoints(rig: Rig, name: str) -> list[str]:
    """Remove every checkpoint after a clean end; start again."""
    ledger, lake = _prepare(rig, name)
    for _ in range(2):
        _finish(lake, ledger)
        # A driver that finds nothing to do may be ended before it makes any.
        shutil.rmtree(lake.home.checkpoints, ignore_errors=True)
    _finish(lake, ledger)
    return judge(lake, ledger, 0, 1)


def sabotage(rig: Rig, name: str, kind: str) -> list[str]:
    """Run a driver that cheats; what is found must not be nothing."""
    if kind == "failOnDataLoss=false":
        return _lose_offsets(rig, name, kind)
    if kind == "dropped DLQ write":
        ledger, lake = _prepare(rig, name)
        driver = lake.start("--sabotage", kind)
        try:
            _wait_for_bronze(lake, len(ledger.records), driver)
        finally:
            driver.terminate()
            driver.wait(60)
            kill_group(driver)
        return judge(lake, ledger, 0, 1)
    return two_drivers(rig, name, "--sabotage", kind)


def _lose_offsets(rig: Rig, name: str, kind: str) -> list[str]:
    """Delete records that nobody has read yet."""
    ledger, lake = _prepare(rig, name)
    lake.order("bronze publish")
    lake.wait_for_death(lake.start("--batch", "100"))
    admin = AdminClient({"bootstrap.servers": rig.broker.address})
    topic = trades_topic(name)
    consumer = Consumer({"bootstrap.servers": rig.broker.address, "group.id": "matrix"})
    places = []
    for partition in (0, 1):
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition))
        # Two hundred of both are read: what goes with them was not.
        places.append(TopicPartition(topic, partition, end * 3 // 4))
    consumer.close()
    for future in admin.delete_records(places).values():
        future.result()
    driver = lake.start(*(("--sabotage", kind) if kind else ()))
    try:
        _wait_for_quiet(lake, driver)
    finally:
        driver.terminate()
        driver.wait(60)
        kill_group(driver)
    return judge(lake, ledger, 0, 1)


def _prepare(
    rig: Rig,
    name: str,
    topology: str = "fused",
    *,
    begin_us: int | None = None,
    produce: Callable[[MatrixLedger], int | None] = lambda _: None,
) -> tuple[MatrixLedger, Lake]:
    if begin_us is None:
        begin_us = time.time_ns() // 1000 - COUNT * STEP_US - 120_000_000
    ledger = write_ledger(name, COUNT, begin_us, BATCH)
    rig.make_topic(trades_topic(name))
    rig.produce(ledger, 0, produce(ledger))
    return ledger, Lake(rig, name, topology)


def len_of_half(ledger: MatrixLedger) -> int:
    """Return how many records are the first half."""
    return len(ledger.records) // 2


def _cut(ledger: MatrixLedger) -> MatrixLedger:
    return MatrixLedger(ledger.exchange, ledger.records[: len_of_half(ledger)])


def _finish(lake: Lake, ledger: MatrixLedger) -> None:
    driver = lake.start()
    lake.wait_until_done(driver, ledger)
    lake.stop(driver)


def _wait_until_stopped(pid: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with open(f"/proc/{pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == "T":
                return
        time.sleep(0.1)
    raise AssertionError("the driver has not come to the step at which it stops")


def _wait_for_some(lake: Lake) -> None:
    _wait(lambda: lake.count_bronze() > 0)


def _wait_for_bronze(lake: Lake, records: int, driver: Popen[bytes]) -> None:
    _wait(lambda: lake.count_bronze() == records or driver.poll() is not None)
    time.sleep(5)


def _wait_for_quiet(lake: Lake, *drivers: Popen[bytes]) -> None:
    """Wait until Bronze has grown and then has not for ten seconds, or every driver has ended."""
    begun = last = lake.count_bronze()
    since = time.monotonic()
    deadline = since + 240
    while any(driver.poll() is None for driver in drivers):
        now = lake.count_bronze()
        if now != last:
            last, since = now, time.monotonic()
        if last != begun and time.monotonic() - since > 10:
            return
        assert time.monotonic() < deadline, "nothing has come to rest in time"
        time.sleep(0.5)


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.3)
