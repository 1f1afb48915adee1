"""Recording: every frame as it came and when, in rotating zstd files (extra `record`).

A file is what `read_frames` reads, compressed, with whole lines pushed out every second: whoever is
killed loses that second, and what is cut off behind it is no line.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import urlsplit

import msgspec

from .errors import MissingExtraError, RecorderError
from .record import SUFFIX, record_frame
from .transport import Connection, Transport

try:
    from zstandard import FLUSH_BLOCK, FLUSH_FRAME, ZstdCompressionWriter, ZstdCompressor
except ImportError:
    raise MissingExtraError("zstandard", "record") from None

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_FILE_AGE_S = 3600.0
FLUSH_EVERY_S = 1.0

_LEVEL = 3


class FrameRecorder:
    """Writes frames to files in `folder`, one at a time for each host that they come from.

    A file is ended once it holds `max_file_bytes`, compressed, or was begun `max_file_age_s` ago.
    `clock` gives seconds that only rise.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_file_bytes: int = MAX_FILE_BYTES,
        max_file_age_s: float = MAX_FILE_AGE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._max_file_bytes = max_file_bytes
        self._max_file_age_s = max_file_age_s
        self._clock = clock
        self._files: dict[str, _RecordingFile] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()

    def record(self, url: str, frames: Sequence[bytes], recv_ns: int) -> None:
        """Write frames that came together from `url` at `recv_ns` (wall clock, ns since 1970 UTC).

        Raises `RecorderError` when they cannot be written.
        """
        now_s = self._clock()
        try:
            file = self._files.get(url)
            if file is None:
                file = self._files[url] = self._open(url, recv_ns, now_s)
            file.write(frames, recv_ns, now_s)
            if file.size > self._max_file_bytes or now_s - file.begun_s > self._max_file_age_s:
                self.end(url)
        except OSError as error:
            raise RecorderError(self.folder, error.strerror or str(error)) from error

    def end(self, url: str) -> None:
        """End the file of `url`, if there is one: what comes next begins another."""
        file = self._files.pop(url, None)
        try:
            if file is not None:
                file.close()
        except OSError as error:
            raise RecorderError(self.folder, error.strerror or str(error)) from error

    def close(self) -> None:
        """End every file."""
        for url in list(self._files):
            self.end(url)

    def _open(self, url: str, recv_ns: int, now_s: float) -> _RecordingFile:
        self.folder.mkdir(parents=True, exist_ok=True)
        host = re.sub(r"[^A-Za-z0-9.]+", "-", urlsplit(url).netloc)
        begun = datetime.fromtimestamp(recv_ns // 1_000_000_000, UTC).strftime("%Y%m%dT%H%M%S")
        number = recv_ns % 1_000_000_000
        while True:
            path = self.folder / f"{host}-{begun}.{number:09}{SUFFIX}"
            try:
                return _RecordingFile(path.open("xb"), url, now_s)
            except FileExistsError:
                number += 1


class _RecordingFile:
    def __init__(self, file: BinaryIO, url: str, now_s: float) -> None:
        self.begun_s = now_s
        self._url = url
        self._file = file
        self._writer: ZstdCompressionWriter = ZstdCompressor(level=_LEVEL).stream_writer(file)
        self._encoder = msgspec.json.Encoder()
        self._flushed_s = now_s

    @property
    def size(self) -> int:
        """How many bytes are in the file by now."""
        return self._file.tell()

    def write(self, frames: Sequence[bytes], recv_ns: int, now_s: float) -> None:
        records = [record_frame(frame, recv_ns, self._url) for frame in frames]
        self._writer.write(self._encoder.encode_lines(records))
        if now_s - self._flushed_s >= FLUSH_EVERY_S:
            self._flushed_s = now_s
            self._writer.flush(FLUSH_BLOCK)
            self._file.flush()

    def close(self) -> None:
        try:
            self._writer.flush(FLUSH_FRAME)
        finally:
            self._file.close()


class RecordingTransport:
    """Another transport, every frame of which is recorded before it is given to anybody.

    A file ends with its connection.
    """

    def __init__(self, transport: Transport, recorder: FrameRecorder) -> None:
        self._transport = transport
        self._recorder = recorder

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Connection]:
        """Connect to `url`; see `Transport.connect`."""
        async with self._transport.connect(url) as connection:
            try:
                yield _RecordedConnection(connection, url, self._recorder)
            finally:
                self._recorder.end(url)


class _RecordedConnection:
    def __init__(self, connection: Connection, url: str, recorder: FrameRecorder) -> None:
        self._connection = connection
        self._url = url
        self._recorder = recorder
        self.send = connection.send
        self.close = connection.close

    async def receive(self) -> bytes:
        frame = await self._connection.receive()
        self._recorder.record(self._url, [frame], time.time_ns())
        return frame

    async def receive_all(self) -> Sequence[bytes]:
        frames = await self._connection.receive_all()
        self._recorder.record(self._url, frames, time.time_ns())
        return frames
