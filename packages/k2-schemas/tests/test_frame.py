"""Frames: 0x00, a 4-byte big-endian schema id, a body."""

import pytest

from k2_schemas import FrameError, parse_frame
from k2_schemas.frame import frame_header


@pytest.mark.parametrize("schema_id", [0, 1, 259, 2**31, 2**32 - 1])
def test_header_and_body_come_apart_again(schema_id: int):
    """Whatever the id, the body is what stands behind five bytes."""
    assert parse_frame(frame_header(schema_id) + b"body") == (schema_id, b"body")
    assert parse_frame(memoryview(frame_header(schema_id) + b"body")) == (schema_id, b"body")  # type: ignore[arg-type]


@pytest.mark.parametrize("schema_id", [-1, 2**32])
def test_ids_beyond_four_bytes_are_refused(schema_id: int):
    """Nothing is cut."""
    with pytest.raises(FrameError, match="does not fit into 4 bytes"):
        frame_header(schema_id)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "shorter than"),
        (b"\x00\x00\x00\x00\x01", "shorter than"),
        (b"\x01\x00\x00\x00\x01x", "0x01, not 0x00"),
        (b"\xff\x00\x00\x00\x01x", "0xff, not 0x00"),
        (None, "NoneType instead of bytes"),
        ("text of six", "str instead of bytes"),
    ],
)
def test_what_is_no_frame_says_why(frame: bytes, reason: str):
    """The error tells the size too."""
    with pytest.raises(FrameError, match=reason) as caught:
        parse_frame(frame)

    assert caught.value.size_bytes == (len(frame) if isinstance(frame, bytes) else 0)
