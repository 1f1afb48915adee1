"""Lines and sessions: one owner of every socket, on a clock that jumps."""

from collections.abc import Sequence

import pytest

from k2_connectors.lines import (
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    ROTATE_AFTER_S,
    TOKENS,
    Close,
    Lines,
    Open,
    Send,
)
from k2_connectors.rest import RestLimit
from k2_connectors.session import ACK_TIMEOUT_S, OPEN_TIMEOUT_S, Session, Stage
from k2_connectors.venue import Decoded
from k2_schemas import InstrumentList

S = 1_000_000_000
PAIRS = ["AB", "CB"]
ACK = Decoded(acknowledged=PAIRS)


class Venue:
    """A venue of two pairs and two endpoints."""

    name = "test"
    rest_limit = RestLimit(1, 1.0)
    urls = ("wss://one", "wss://two")
    instruments = InstrumentList("test", ["A/B", "C/B"], lambda base, quote: base + quote)

    def __init__(self, ping_every_s: float = 0.0) -> None:
        self.ping_every_s = ping_every_s

    def subscribe_frames(self, pairs: Sequence[str]) -> Sequence[str]:
        """One request."""
        return ["subscribe " + " ".join(pairs)]

    def unsubscribe_frames(self, pairs: Sequence[str]) -> Sequence[str]:
        """One request."""
        return ["unsubscribe " + " ".join(pairs)]

    def ping_frame(self) -> str:
        """A ping."""
        return "ping"


def go_live(lines: Lines, now_ns: int) -> int:
    """Open and acknowledge the line that is asked for; return it."""
    (opened,) = [action for action in lines.act(now_ns) if isinstance(action, Open)]
    assert lines.open(opened.line, now_ns) == [Send(opened.line, "subscribe AB CB")]
    assert lines.hear(opened.line, ACK, now_ns)
    return opened.line


def test_a_session_is_live_once_every_pair_is_acknowledged():
    """One missing acknowledgement is a symbol that will be silent."""
    session = Session(Venue(), "wss://one", 0)  # type: ignore[arg-type]
    session.open(PAIRS, 0)
    session.hear(Decoded(acknowledged=["AB"]), 1)
    assert session.stage is Stage.SUBSCRIBING
    session.hear(Decoded(acknowledged=["CB"]), 2)

    assert session.stage is Stage.LIVE


@pytest.mark.parametrize(
    ("steps", "after_s", "reason"),
    [
        ((), OPEN_TIMEOUT_S, "not open after 10 s"),
        (("open",), ACK_TIMEOUT_S, "no acknowledgement of AB, CB after 10 s"),
        (("open", "ack"), 60, "silent for 60 s"),
    ],
)
def test_a_stage_that_takes_too_long_is_a_fault(
    steps: tuple[str, ...], after_s: float, reason: str
):
    """Connecting, subscribing and silence each have their time."""
    session = Session(Venue(), "wss://one", 0)  # type: ignore[arg-type]
    if "open" in steps:
        session.open(PAIRS, 0)
    if "ack" in steps:
        session.hear(ACK, 0)

    assert session.fault(int(after_s * S) - 1) is None
    assert session.fault(int(after_s * S)) == reason


def test_a_quiet_line_is_pinged_and_then_given_up():
    """The venue's own ping tells a quiet market from a dead socket."""
    lines = Lines(Venue(ping_every_s=10), 0)  # type: ignore[arg-type]
    line = go_live(lines, 0)

    assert lines.act(9 * S) == []
    assert lines.act(10 * S) == [Send(line, "ping")]
    assert lines.act(11 * S) == []
    lines.hear(line, Decoded(control="pong"), 12 * S)
    assert lines.act(21 * S) == []
    assert lines.act(22 * S) == [Send(line, "ping")]
    assert Close(line, "silent for 30 s") in lines.act(42 * S)


def test_a_lost_line_is_taken_up_at_the_next_endpoint():
    """Failover stays within the venue."""
    lines = Lines(Venue(), 0)  # type: ignore[arg-type]
    (first,) = lines.act(0)
    lines.close(0, 0)
    (second,) = lines.act(S)
    lines.close(1, S)
    (third,) = lines.act(60 * S)

    assert [first.url, second.url, third.url] == ["wss://one", "wss://two", "wss://one"]  # type: ignore[union-attr]
    assert lines.reconnects == 2


def test_delays_grow_to_a_cap_with_full_jitter():
    """However long a venue is away, it is asked again, and never by all feeds at once."""
    delays: dict[int, list[float]] = {}
    for seed in range(200):
        lines = Lines(Venue(), 0, seed=seed)  # type: ignore[arg-type]
        now_ns = 0
        for failures in range(1, 16):
            now_ns = lines.deadline_ns(now_ns)
            while not (opened := [a for a in lines.act(now_ns) if isinstance(a, Open)]):
                now_ns = lines.deadline_ns(now_ns) + 1
            lines.close(opened[0].line, now_ns)
            delays.setdefault(failures, []).append((lines._not_before_ns - now_ns) / S)

    assert max(delays[1]) <= FIRST_DELAY_S * 2
    assert LONGEST_DELAY_S / 2 < max(delays[15]) <= LONGEST_DELAY_S
    assert min(delays[15]) < LONGEST_DELAY_S / 10


def test_attempts_are_bounded_by_tokens():
    """Two reasons to reconnect never become a storm of sockets."""
    lines = Lines(Venue(), 0, wanted=100)  # type: ignore[arg-type]

    assert len(lines.act(0)) == TOKENS
    assert len(lines.act(5 * S)) == 1
    assert lines.act(5 * S) == []
    opened = sum(
        isinstance(action, Open) for second in range(6, 600) for action in lines.act(second * S)
    )
    assert TOKENS + opened < 150, "Kraken bans an address for as many in 10 minutes"


def test_an_old_line_is_replaced_before_it_is_closed():
    """Make before break: its successor is live first."""
    lines = Lines(Venue(), 0, seed=1)  # type: ignore[arg-type]
    old = go_live(lines, 0)
    due_ns = int(ROTATE_AFTER_S[1] * S)
    lines.hear(old, Decoded(), due_ns)
    (opened,) = lines.act(due_ns)
    assert isinstance(opened, Open)
    lines.open(opened.line, due_ns)
    assert lines.act(due_ns) == []
    assert lines.hear(opened.line, ACK, due_ns)

    assert lines.act(due_ns) == [Close(old, "replaced")]
    assert (lines.live, lines.rotations, lines.reconnects) == (1, 1, 0)


def test_no_line_lives_past_the_longest_rotation_nor_rotates_early():
    """Between 20 and 23 hours, each feed at its own moment."""
    moments = set()
    for seed in range(50):
        lines = Lines(Venue(), 0, seed=seed)  # type: ignore[arg-type]
        line = go_live(lines, 0)
        moments.add(lines._rotate_ns[line])

    assert min(moments) >= ROTATE_AFTER_S[0] * S
    assert max(moments) <= ROTATE_AFTER_S[1] * S
    assert len(moments) > 40


def test_an_announced_end_is_a_rotation():
    """serverShutdown and a status that is not online take the same path."""
    lines = Lines(Venue(), 0)  # type: ignore[arg-type]
    old = go_live(lines, 0)
    lines.hear(old, Decoded(control="shutdown", closing=True), S)
    (opened,) = lines.act(S)

    assert isinstance(opened, Open)
    assert lines.rotations == 1


def test_a_venue_that_is_ending_when_we_come_is_not_left_again():
    """Its successor is told the same: an hour of maintenance is not an hour of connecting."""
    lines = Lines(Venue(), 0)  # type: ignore[arg-type]
    opens = 0
    for second in range(3600):
        for action in lines.act(second * S):
            if isinstance(action, Open):
                opens += 1
                lines.open(action.line, second * S)
                lines.hear(action.line, Decoded(control="status", closing=True), second * S)
                lines.hear(action.line, ACK, second * S)
        for line in list(lines._sessions):
            lines.hear(line, Decoded(control="pong"), second * S)

    assert (opens, lines.rotations) == (1, 0)


def test_a_line_that_ends_while_it_is_replaced_is_no_failure():
    """Its successor is already on the way."""
    lines = Lines(Venue(), 0)  # type: ignore[arg-type]
    old = go_live(lines, 0)
    lines.hear(old, Decoded(closing=True), S)
    lines.act(S)
    lines.close(old, 2 * S)

    assert lines.reconnects == 0
    assert [a for a in lines.act(3 * S) if isinstance(a, Open)] == []


def test_redundant_lines_stand_at_different_endpoints():
    """What takes one endpoint down leaves the other."""
    opened = Lines(Venue(), 0, wanted=2).act(0)  # type: ignore[arg-type]

    assert {action.url for action in opened if isinstance(action, Open)} == {
        "wss://one",
        "wss://two",
    }


@pytest.mark.parametrize("lost", [[0], [1], [0, 1], [1, 0], [0, 0, 0], [1, 1]])
def test_redundant_lines_stand_at_different_endpoints_whichever_was_lost(lost: list[int]):
    """However often, and in whatever order."""
    lines = Lines(Venue(), 0, wanted=2)  # type: ignore[arg-type]
    now_ns = 0
    for place in [None, *lost]:
        if place is not None:
            lines.close(sorted(lines._sessions)[place], now_ns)
        now_ns += 50 * S
        for action in lines.act(now_ns):
            lines.open(action.line, now_ns)
        for line in lines._sessions:
            lines.hear(line, ACK, now_ns)

        assert {s.url for s in lines._sessions.values()} == {"wss://one", "wss://two"}
