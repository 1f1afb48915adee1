"""Recorded frames: what an exchange sent, one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from .errors import RecordingError


class RecordedFrame(msgspec.Struct, frozen=True):
    """One frame. `raw` is its exact text, `recv_ns` the receiver's wall clock or None."""

    raw: str
    recv_ns: int | None = None
    src: str = ""


def read_frames(path: Path) -> Iterator[RecordedFrame]:
    """Yield the frames of a recording in file order; raise `RecordingError` naming the line."""
    decoder = msgspec.json.Decoder(RecordedFrame)
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _decode_line(decoder, path, number, line)
    except OSError as error:
        raise RecordingError(path, error.strerror or str(error)) from error


def _decode_line(
    decoder: msgspec.json.Decoder[RecordedFrame], path: Path, number: int, line: bytes
) -> RecordedFrame:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordingError(path, f"line {number}: {error}") from error
