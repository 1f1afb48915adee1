"""Recording: what was received, byte for byte and when, comes back, also after a kill -9."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2_connectors import (
    Binance,
    Feed,
    MissingExtraError,
    RecorderError,
    RecordingError,
    WebSocketTransport,
    read_frames,
    read_recording,
)
from k2_connectors.recording import FrameRecorder, RecordingTransport
from k2_connectors.testing import (
    Emission,
    Ledger,
    MarketModel,
    MemoryPublisher,
    ReplayExchange,
    open_recordings,
    play_model,
)

URL = "wss://stream.binance.com:9443/stream"
NOW_NS = 1_795_000_000_123_456_789
DEADLINE_S = 20.0
MODEL = MarketModel(seed=5, epoch_us=1_790_000_000_000_000)
SYMBOLS = {"binance": ["BTC/USDT", "ETH/USDT"], "kraken": ["BTC/USD", "ETH/USD"]}
PAIRS = {"binance": ["BTCUSDT", "ETHUSDT"], "kraken": ["BTC/USD", "ETH/USD"]}

frames = st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode))
batches = st.lists(
    st.tuples(st.lists(frames, min_size=1, max_size=5), st.integers(0, 10**9)), max_size=20
)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now_s


def read_back(folder: Path) -> list[tuple[bytes, int | None, str]]:
    return [(f.frame, f.recv_ns, f.src) for f in read_recording(folder)]


@given(batches, st.integers(1, 2_000))
def test_what_was_recorded_comes_back_byte_for_byte_with_its_time(
    recorded: list[tuple[list[bytes], int]], max_file_bytes: int
):
    """Text or not, empty or not, however many files it takes."""
    expected, now_ns = [], NOW_NS
    with TemporaryDirectory() as name:
        folder = Path(name) / "new"
        with FrameRecorder(folder, max_file_bytes=max_file_bytes) as recorder:
            for some, passed_ns in recorded:
                now_ns += passed_ns
                recorder.record(URL, some, now_ns)
                expected += [(frame, now_ns, URL) for frame in some]

        assert (read_back(folder) if recorded else []) == expected


@settings(max_examples=60)
@given(st.lists(frames, min_size=1, max_size=20), st.data())
def test_a_file_that_was_cut_off_is_read_up_to_the_cut(some: list[bytes], data: st.DataObject):
    """At any byte: what comes back is a beginning of what was recorded, and no error."""
    with TemporaryDirectory() as name:
        clock = Clock()
        with FrameRecorder(Path(name), clock=clock) as recorder:
            for number, frame in enumerate(some):
                clock.now_s += 1.0
                recorder.record(URL, [frame], NOW_NS + number)
        (path,) = Path(name).iterdir()
        whole = path.read_bytes()
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
        found = [frame.frame for frame in read_frames(path)]

        assert found == some[: len(found)]


def test_whoever_is_killed_loses_what_came_after_the_last_flush(tmp_path: Path):
    """kill -9 in the middle: everything that was flushed is there, in order."""
    program = f"""
import os, signal
from pathlib import Path
from k2_connectors.recording import FrameRecorder
now_s = 0.0
recorder = FrameRecorder(Path({str(tmp_path)!r}), clock=lambda: now_s)
for number in range(10_000):
    now_s = number / 1_000
    recorder.record({URL!r}, [b"frame %d" % number], number)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    found = [frame.frame for frame in read_recording(tmp_path)]

    assert killed.returncode == -signal.SIGKILL
    assert found == [b"frame %d" % number for number in range(len(found))]
    assert len(found) > 9_000


def test_a_file_ends_when_it_is_full_and_when_it_is_old(tmp_path: Path):
    """So that a day's recording is many files of bounded size, in the order of their names."""
    clock = Clock()
    noise = [os.urandom(1_000) for _ in range(300)]
    with FrameRecorder(
        tmp_path, max_file_bytes=100_000, max_file_age_s=60.0, clock=clock
    ) as recorder:
        for number, frame in enumerate(noise):
            clock.now_s += 1.0
            recorder.record(URL, [frame], NOW_NS + number)
    files = sorted(tmp_path.iterdir())
    contents = [[f.frame for f in read_frames(path)] for path in files]

    assert all(path.stat().st_size < 150_000 for path in files)
    assert max(map(len, contents)) <= 62
    assert [frame for content in contents for frame in content] == noise
    assert len(files) >= 5


def test_a_second_recorder_does_not_touch_what_the_first_wrote(tmp_path: Path):
    """Not even one of the same nanosecond."""
    for content in (b"first", b"second"):
        with FrameRecorder(tmp_path) as recorder:
            recorder.record(URL, [content], NOW_NS)

    assert [frame for frame, *_ in read_back(tmp_path)] == [b"first", b"second"]


def test_frames_of_several_hosts_come_back_in_the_order_they_were_received(tmp_path: Path):
    """Each host has files of its own; reading weaves them."""
    other = "wss://ws.kraken.com/v2"
    with FrameRecorder(tmp_path, max_file_bytes=1) as recorder:
        for number in range(20):
            recorder.record((URL, other)[number % 3 == 0], [b"%d" % number], NOW_NS + number)
    back = read_back(tmp_path)

    assert [frame for frame, *_ in back] == [b"%d" % number for number in range(20)]
    assert {src for *_, src in back} == {URL, other}


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path):
    """Who asked for a recording must not find out later that there is none."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(RecorderError, match=r"cannot record to .*taken.*choose another folder"):
        FrameRecorder(tmp_path / "taken").record(URL, [b"x"], NOW_NS)


def test_what_is_no_recording_is_named(tmp_path: Path):
    """A folder without files, and a file that is not what its name says."""
    with pytest.raises(RecordingError, match="no file"):
        list(read_recording(tmp_path))
    (tmp_path / f"a{'0' * 25}.jsonl.zst").write_bytes(b'{"raw":"plain text"}\n')
    with pytest.raises(RecordingError, match="not zstd"):
        list(read_recording(tmp_path))


def test_without_zstandard_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch):
    """The extra is part of the sentence."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.delitem(sys.modules, "k2_connectors.recording")

    with pytest.raises(MissingExtraError, match=r"pip install 'k2-connectors\[record\]'"):
        __import__("k2_connectors.recording")


async def feed_until(
    publisher: MemoryPublisher, count: int, url: str, transport: object = None
) -> None:
    """Feed Binance from an exchange until `count` records are published."""
    stop = asyncio.Event()
    venue = Binance(SYMBOLS["binance"], f"{url}/binance")
    feed = Feed([venue], publisher, contiguity=False, transport=transport)  # type: ignore[arg-type]
    running = asyncio.create_task(feed.run(stop))
    async with asyncio.timeout(DEADLINE_S):
        while len(publisher.trades) + len(publisher.dead_letters) < count and not running.done():
            await asyncio.sleep(0.01)
    stop.set()
    await running


@asynccontextmanager
async def serve(emissions: Sequence[Emission], folder: Path, **how: object):
    with Ledger(folder / "ledger.db") as ledger:
        exchange = ReplayExchange({"binance": emissions}, PAIRS, ledger, **how)
        async with exchange.serve(0) as port:
            yield f"ws://127.0.0.1:{port}"


def record_feed(folder: Path, emissions: Sequence[Emission]) -> MemoryPublisher:
    """Feed every one of an exchange's frames, and record them."""
    publisher = MemoryPublisher()
    count = sum(len(e.trades) + len(e.bad_trades) + (e.bad_frame is not None) for e in emissions)

    async def play() -> None:
        # Nobody closes the recorder: its files end with their connections.
        transport = RecordingTransport(WebSocketTransport(), FrameRecorder(folder / "frames"))
        async with serve(emissions, folder) as url:
            await feed_until(publisher, count, url, transport)

    asyncio.run(play())
    return publisher


def test_a_feed_is_recorded_as_it_was_received(tmp_path: Path):
    """Every frame of the exchange, raw bytes among them, and nothing that it did not send."""
    emissions = play_model(MODEL, 2_000)["binance"]
    record_feed(tmp_path, emissions)
    recorded = read_back(tmp_path / "frames")
    times = [recv_ns or 0 for _, recv_ns, _ in recorded]

    control = [frame for frame, *_ in recorded if b'"result"' in frame]
    assert len(control) == 1
    assert [f for f, *_ in recorded if f not in control] == [e.frame for e in emissions]
    assert all(earlier <= later for earlier, later in pairwise(times))


def test_a_recording_is_played_back_as_a_live_exchange_with_the_same_trades(tmp_path: Path):
    """What a feed makes of the replay is what it made of the exchange, but for the times."""
    first = record_feed(tmp_path, play_model(MODEL, 2_000)["binance"])
    (recording,) = open_recordings(tmp_path / "frames", SYMBOLS)
    second = MemoryPublisher()

    async def play() -> None:
        with Ledger(tmp_path / "replay.db") as ledger:
            shift_us = recording.keep_shift(ledger, NOW_NS // 1000)
            emissions = list(recording.play(shift_us, NOW_NS // 1000))
            exchange = ReplayExchange(
                {"binance": emissions}, PAIRS, ledger, live=True, speed=1_000.0
            )
            async with exchange.serve(0) as port:
                count = len(first.trades) + len(first.dead_letters)
                await feed_until(second, count, f"ws://127.0.0.1:{port}")

    asyncio.run(play())

    def describe(publisher: MemoryPublisher) -> list[tuple[object, ...]]:
        return [(t.pair, t.trade_id, t.price, t.quantity, t.side) for t in publisher.trades]

    assert describe(second) == describe(first)
    assert len(second.dead_letters) == len(first.dead_letters)


@pytest.mark.parametrize("speed", [10.0, 40.0])
def test_the_pace_of_a_replay_is_that_of_the_recording_times_the_speed(
    tmp_path: Path, speed: float
):
    """A market of four seconds: at no time has more been emitted than was due, in the end all."""
    step_ns = 4_000_000_000 // 400
    emissions = [
        Emission(b"frame %d" % number, bad_frame="not JSON", recv_ns=NOW_NS + number * step_ns)
        for number in range(400)
    ]
    seen: list[tuple[float, int]] = []

    async def play() -> None:
        with Ledger(tmp_path / "ledger.db") as ledger:
            exchange = ReplayExchange({"binance": emissions}, PAIRS, ledger, live=True, speed=speed)
            tape, loop = exchange.tapes["binance"], asyncio.get_running_loop()
            began_s = loop.time()
            async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
                tasks.create_task(tape.run_as_recorded(speed))
                while not tape.is_over:
                    emitted = tape.emitted
                    seen.append((loop.time() - began_s, emitted))
                    await asyncio.sleep(0.001)

    asyncio.run(play())

    assert all((emitted - 1) * step_ns <= passed_s * speed * 1e9 for passed_s, emitted in seen)
    assert seen[-1][0] >= (seen[-1][1] - 1) * step_ns / speed / 1e9
