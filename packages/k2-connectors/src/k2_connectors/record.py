"""Recorded frames: what an exchange sent, one JSON object a line, plain or compressed by zstd."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import chain, groupby
from pathlib import Path
from typing import BinaryIO

import msgspec

from .errors import MissingExtraError, RecordingError

SUFFIX = ".jsonl.zst"
"""How the name of a compressed recording ends."""

_CHUNK_BYTES = 64 * 1024
_TIME_CHARS = len("20261124T120000.000000000")


class RecordedFrame(msgspec.Struct, frozen=True, omit_defaults=True):
    """One frame. `raw` is its exact text, `recv_ns` the receiver's wall clock or None.

    `data` holds the bytes of a frame that is no text; its `raw` is empty.
    """

    raw: str
    recv_ns: int | None = None
    src: str = ""
    data: bytes | None = None

    @property
    def frame(self) -> bytes:
        """The frame's bytes, as they came."""
        return self.raw.encode() if self.data is None else self.data


def record_frame(frame: bytes, recv_ns: int, src: str) -> RecordedFrame:
    """Return what is written of a frame received at `recv_ns`."""
    try:
        return RecordedFrame(frame.decode(), recv_ns, src)
    except UnicodeDecodeError:
        return RecordedFrame("", recv_ns, src, frame)


def read_frames(path: Path) -> Iterator[RecordedFrame]:
    """Yield the frames of a recording in file order; raise `RecordingError` naming the line.

    A compressed file may have been cut off, as a killed writer leaves it: it ends at the last whole
    line before the cut.
    """
    decoder = msgspec.json.Decoder(RecordedFrame)
    try:
        with path.open("rb") as file:
            lines = _cut_lines(path, file) if path.name.endswith(SUFFIX) else file
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _decode_line(decoder, path, number, line)
    except OSError as error:
        raise RecordingError(path, error.strerror or str(error)) from error


def read_recording(path: Path) -> Iterator[RecordedFrame]:
    """Yield the frames of a file, or of a folder of compressed ones in the order they came.

    Raises `RecordingError`.
    """
    if not path.is_dir():
        yield from read_frames(path)
        return
    files = sorted(path.glob(f"*{SUFFIX}"))
    if not files:
        raise RecordingError(path, f"no file *{SUFFIX} in it")
    # Files of one host follow each other; those of several were written side by side.
    hosts = [
        chain.from_iterable(map(read_frames, list(group)))
        for _, group in groupby(files, key=_name_host)
    ]
    yield from merge(*hosts, key=lambda frame: frame.recv_ns or 0)


def _name_host(path: Path) -> str:
    return path.name.removesuffix(SUFFIX)[:-_TIME_CHARS]


def _cut_lines(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """Yield the whole lines of a compressed file."""
    try:
        from zstandard import ZstdDecompressor, ZstdError
    except ImportError:
        raise MissingExtraError("zstandard", "record") from None
    decompress = ZstdDecompressor().decompressobj(read_across_frames=True).decompress
    rest = b""
    try:
        while chunk := file.read(_CHUNK_BYTES):
            *lines, rest = (rest + decompress(chunk)).split(b"\n")
            yield from lines
    except ZstdError as error:
        raise RecordingError(path, f"not zstd: {error}") from error


def _decode_line(
    decoder: msgspec.json.Decoder[RecordedFrame], path: Path, number: int, line: bytes
) -> RecordedFrame:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordingError(path, f"line {number}: {error}") from error
