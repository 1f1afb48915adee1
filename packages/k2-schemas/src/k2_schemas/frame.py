"""Frame: Confluent's wire format, 0x00, a 4-byte big-endian schema id, the Avro body."""

from __future__ import annotations

import struct

from .errors import FrameError

_HEADER = struct.Struct(">bI")
HEADER_BYTES = _HEADER.size
_MAX_SCHEMA_ID = 2**32 - 1


def parse_frame(frame: bytes) -> tuple[int, bytes]:
    """Split a wire frame into schema id and body; raise `FrameError` when it has no header."""
    if not isinstance(frame, (bytes, bytearray, memoryview)):
        raise FrameError(f"{type(frame).__name__} instead of bytes", 0)
    if len(frame) <= HEADER_BYTES:
        raise FrameError("shorter than its 5-byte header and a body", len(frame))
    magic, schema_id = _HEADER.unpack_from(frame)
    if magic != 0:
        raise FrameError(f"first byte is 0x{magic & 0xFF:02x}, not 0x00", len(frame))
    return schema_id, bytes(frame[HEADER_BYTES:])


def frame_header(schema_id: int) -> bytes:
    """Return the 5 bytes that stand before every body of a schema id."""
    if not 0 <= schema_id <= _MAX_SCHEMA_ID:
        raise FrameError(f"schema id {schema_id} does not fit into 4 bytes", 0)
    return _HEADER.pack(0, schema_id)
