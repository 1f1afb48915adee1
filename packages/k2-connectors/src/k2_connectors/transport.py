"""Transport: the one-method seam between a feed and a socket, and its default on `websockets`.

`picows_transport` has the other implementation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidProxy, InvalidURI
from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import Event

from k2_schemas.address import is_loopback

from .errors import ConnectionLostError
from .event import MAX_LETTER_BYTES

MAX_FRAME_BYTES = MAX_LETTER_BYTES
"""Larger frames end the connection: no exchange sends them, an attacker would.

Any frame may have to become a dead letter.
"""

MAX_UNREAD_BYTES = 2 * 1024 * 1024
"""The socket is read no further while more waits here; one read of the socket may pass it."""

MAX_TOGETHER = 256
"""Frames given at once: other sockets must get their turn between them."""

TransportName = Literal["websockets", "picows"]


class Connection(Protocol):
    """An open socket. `receive` raises `ConnectionLostError` once nothing is left to read."""

    async def receive(self) -> bytes:
        """Return the next frame's bytes, as they came."""

    async def receive_all(self) -> Sequence[bytes]:
        """Return the frames that are here, in order and at least one; see `receive`."""

    async def send(self, frame: str) -> None:
        """Send one text frame."""

    async def close(self) -> None:
        """Close; frames already received can still be read."""


class Transport(Protocol):
    """Opens connections."""

    def connect(self, url: str) -> AbstractAsyncContextManager[Connection]:
        """Connect to `url`; raise `ConnectionLostError` when that fails."""


def open_transport(name: TransportName) -> Transport:
    """Return the transport called `name`; raise `MissingExtraError` if it is not installed."""
    if name == "websockets":
        return WebSocketTransport()
    from .picows_transport import PicowsTransport

    return PicowsTransport()


class WebSocketTransport:
    """Sockets by `websockets`: TLS verified, frames bounded, no compression (so no bombs)."""

    def __init__(self, open_timeout_s: float = 10.0) -> None:
        self._open_timeout_s = open_timeout_s

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Connection]:
        """Connect to `url`; raise `ConnectionLostError` when that fails."""
        try:
            socket = await connect(
                url,
                create_connection=_CountingConnection,
                compression=None,
                max_size=MAX_FRAME_BYTES,
                max_queue=1024,
                open_timeout=self._open_timeout_s,
                proxy=None if is_loopback(url) else True,
            )
        except (OSError, InvalidHandshake, InvalidProxy, InvalidURI, ValueError) as error:
            raise ConnectionLostError(url, str(error) or type(error).__name__) from error
        assert isinstance(socket, _CountingConnection)
        async with socket:
            try:
                yield _WebSocket(socket, url)
            except BaseException:
                # Nobody reads any more: a closing handshake behind unread frames would time out.
                socket.transport.abort()
                raise


class _CountingConnection(ClientConnection):
    """Knows how many whole messages wait to be received, and their bytes.

    So they can be received without waiting, and the socket is not read while they are too many: the
    library counts frames alone, and a thousand of the largest are a gigabyte.
    """

    unread = 0
    unread_bytes = 0
    _is_full = False

    def process_event(self, event: Event) -> None:
        """Count a message at its last frame."""
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            self.unread += event.fin
            self.unread_bytes += len(event.data)
        super().process_event(event)
        if self.unread_bytes > MAX_UNREAD_BYTES and self.unread:
            self._is_full = True
            self.transport.pause_reading()

    def count_out(self, size_bytes: int) -> None:
        """Note that a message was received."""
        self.unread -= 1
        self.unread_bytes -= size_bytes
        if self._is_full and (self.unread_bytes < MAX_UNREAD_BYTES // 2 or not self.unread):
            self._is_full = False
            if not self.recv_messages.paused:
                self.transport.resume_reading()


class _WebSocket:
    def __init__(self, socket: _CountingConnection, url: str) -> None:
        self._socket = socket
        self._url = url

    async def receive(self) -> bytes:
        try:
            # Bytes, not text: a frame that is not UTF-8 must reach the dead letters, not end us.
            frame = await self._socket.recv(decode=False)
        except ConnectionClosed as error:
            raise ConnectionLostError(self._url, str(error)) from error
        self._socket.count_out(len(frame))
        return frame

    async def receive_all(self) -> Sequence[bytes]:
        frames = [await self.receive()]
        while self._socket.unread and len(frames) < MAX_TOGETHER:
            frames.append(await self.receive())
        return frames

    async def send(self, frame: str) -> None:
        try:
            await self._socket.send(frame)
        except ConnectionClosed as error:
            raise ConnectionLostError(self._url, str(error)) from error

    async def close(self) -> None:
        await self._socket.close()
