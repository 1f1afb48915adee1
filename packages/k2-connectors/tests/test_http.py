"""UrllibRest: whatever a server does, it is an answer or a lost connection, and in time."""

import asyncio
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from k2_connectors import ConnectionLostError, Hole, RestRequest, UrllibRest

HOLE = Hole("BTCUSDT", 1, 2)


@contextmanager
def serve_bytes(*parts: bytes, pause_s: float = 0.0, stays: bool = False) -> Iterator[str]:
    """A server that says these bytes, whatever it is asked; yields its URL."""
    ended = threading.Event()

    class Answer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            with suppress(OSError):
                for part in parts:
                    self.wfile.write(part)
                    if ended.wait(pause_s):
                        return
                if stays:
                    ended.wait()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/trades"
        finally:
            ended.set()
            server.shutdown()


def get(*parts: bytes, timeout_s: float = 5.0, pause_s: float = 0.0) -> bytes:
    """Get what a server says to a GET."""
    with serve_bytes(*parts, pause_s=pause_s) as url:
        return asyncio.run(UrllibRest(timeout_s).get(RestRequest(url, HOLE))).body


def test_a_whole_answer_is_given_as_it_is():
    """With its length, or in chunks."""
    assert get(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]") == b"[]"
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n"
    assert get(chunks) == b"[]"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n[",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n[",
        b"this is no status line\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 503 Unwell\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n[",
        b"",
    ],
    ids=["cut chunk", "cut body", "no status", "endless header", "cut error", "nothing"],
)
def test_an_answer_that_is_broken_is_a_lost_connection(answer: bytes):
    """It is asked again; one of them was enough to end the feeds of all venues."""
    with pytest.raises(ConnectionLostError, match=r"http://127\.0\.0\.1"):
        get(answer)


def test_an_answer_that_never_ends_is_given_up():
    """A byte now and then is no silence, and yet no answer."""
    began = time.monotonic()
    with pytest.raises(ConnectionLostError, match=r"no whole answer after 0\.4 s"):
        get(b"HTTP/1.1 200 OK\r\n\r\n", *[b"["] * 100, timeout_s=0.2, pause_s=0.1)

    assert time.monotonic() - began < 3
    while any(thread.name == "k2-rest" for thread in threading.enumerate()):
        assert time.monotonic() - began < 8, "a thread reads on that nobody waits for"
        time.sleep(0.05)


def test_nobody_waits_for_an_answer_that_is_wanted_no_more():
    """A feed that stops is not held up by a server that says nothing."""

    async def play(url: str) -> None:
        asking = asyncio.create_task(UrllibRest(timeout_s=20).get(RestRequest(url, HOLE)))
        await asyncio.sleep(0.2)
        asking.cancel()
        await asyncio.wait({asking})

    with serve_bytes(stays=True) as url:
        began = time.monotonic()
        asyncio.run(play(url))
        assert time.monotonic() - began < 3
