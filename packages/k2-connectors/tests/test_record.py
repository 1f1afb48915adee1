"""Recorded frames: one JSON object a line, and an error that names the line."""

from pathlib import Path

import msgspec
import pytest

from k2_connectors import RecordedFrame, RecordingError, read_frames


def test_frames_come_in_file_order_with_their_exact_text(tmp_path: Path):
    """Blank lines and unknown keys are tolerated; `recv_ns` and `src` may be missing."""
    frames = [
        RecordedFrame('{"p":"1.50"}', 7, "a"),
        RecordedFrame("not JSON é\n", None, ""),
        RecordedFrame(""),
    ]
    lines = [msgspec.json.encode(frame) for frame in frames]
    (tmp_path / "f").write_bytes(
        b"\n".join([lines[0], b"  ", lines[1], b'{"raw":"","note":[1]}', b""])
    )

    assert list(read_frames(tmp_path / "f")) == frames


@pytest.mark.parametrize(
    "line",
    [
        *[b"{", b"[]", b"{}", b'{"raw":1}', b'{"raw":null}', b'{"raw":"x","recv_ns":1.5}', b"\xff"],
        *[b'{"raw":"\xff"}', b'{"raw":"\\ud800"}', b'{"x":' + b"[" * 100_000, b'{"raw":"a"} x'],
    ],
    ids=lambda line: repr(line[:24]),
)
def test_a_broken_line_is_named(tmp_path: Path, line: bytes):
    """The message says which line, and what a line should look like."""
    path = tmp_path / "frames.jsonl"
    path.write_bytes(b'{"raw":"fine"}\n' + line + b"\n")
    frames = read_frames(path)

    assert next(frames) == RecordedFrame("fine")
    with pytest.raises(RecordingError, match=r"line 2: .*expected one JSON object a line"):
        next(frames)


@pytest.mark.parametrize(("name", "reason"), [("absent", "No such file"), ("", "directory")])
def test_a_file_that_cannot_be_opened_is_a_recording_error(tmp_path: Path, name: str, reason: str):
    """The system's own reason is in the message."""
    with pytest.raises(RecordingError, match=reason):
        list(read_frames(tmp_path / name))
