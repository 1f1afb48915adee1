"""Duck: DuckDB connections that know no time zone but UTC, and the files of the lake's store."""

from __future__ import annotations

import os
import threading

import duckdb
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow import NativeFile
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

_SCHEME = "s3"


class _StoreFile:
    """A file that each thread reads at a place of its own.

    DuckDB reads one file from several threads, each time by a seek and then a read: with one place
    for all of them a thread gets what another has sought.
    """

    def __init__(self, source: NativeFile) -> None:
        self._source = source
        self._size = source.size()
        self._places = threading.local()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Choose where this thread reads next."""
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._size}[whence]
        self._places.offset = begin + offset
        return self.tell()

    def tell(self) -> int:
        """Return where this thread reads next."""
        offset: int = getattr(self._places, "offset", 0)
        return offset

    def read(self, size: int = -1) -> bytes:
        """Return this thread's next bytes."""
        begin = self.tell()
        content: bytes = self._source.read_at(self._size - begin if size < 0 else size, begin)
        self._places.offset = begin + len(content)
        return content

    def close(self) -> None:
        """Close it for every thread."""
        self._source.close()


class _StoreFiles(ArrowFSWrapper):  # type: ignore[misc]
    """Arrow's S3 client, for DuckDB: its own comes as an extension from a host of its own."""

    protocol = _SCHEME

    def _open(self, path: str, mode: str = "rb", **_options: object) -> _StoreFile:
        if mode != "rb":
            raise ValueError(f"{path}: DuckDB only reads here, and asked for mode {mode}")
        return _StoreFile(self.fs.open_input_file(self._strip_protocol(path)))


def open_duck(io: FileIO | None = None) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB in memory that can read where `io` can."""
    duck = duckdb.connect(":memory:")
    duck.execute("SET TimeZone = 'UTC'")
    if isinstance(io, PyArrowFileIO) and f"{_SCHEME}.region" in io.properties:
        duck.register_filesystem(_StoreFiles(io.fs_by_scheme(_SCHEME, None)))
    return duck
