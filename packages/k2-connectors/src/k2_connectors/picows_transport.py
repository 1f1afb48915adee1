"""PicowsTransport: sockets by `picows` for a feed that must be cheap (extra `fast`).

What `picows` leaves to its user is done here: answering a close, joining fragments, refusing
frames that were compressed without agreement, and holding the sender when nobody reads.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn, cast

from websockets.exceptions import ConnectionClosed, InvalidProxy, InvalidURI
from websockets.frames import Close
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from k2_schemas.address import is_loopback

from .errors import ConnectionLostError, MissingExtraError
from .transport import MAX_FRAME_BYTES, MAX_TOGETHER, MAX_UNREAD_BYTES, Connection

if TYPE_CHECKING:
    from picows.picows import WSCloseInfo

try:
    from picows import (
        WSCloseCode,
        WSError,
        WSFrame,
        WSListener,
        WSMsgType,
        WSProtocolError,
        WSTransport,
        ws_connect,
    )
except ImportError:
    raise MissingExtraError("picows", "fast") from None

_FRAME_BYTES = 64
"""What a frame takes beside its payload: empty ones must fill the bound too."""
_MAX_PARTS = 10_000
"""Fragments of one message: empty ones without end would fill the memory as long ones do."""
_CLOSE_TIMEOUT_S = 10.0
_PING_S = 20.0
_NO_STATUS = 1005

_TEXT = WSMsgType.TEXT
_BINARY = WSMsgType.BINARY
_CONTINUATION = WSMsgType.CONTINUATION
_CLOSE = WSMsgType.CLOSE

# Whatever it would say is in our error; unasked, errors of a logger nobody set up go to stderr.
_SILENT = logging.Logger("picows", logging.CRITICAL + 1)


class PicowsTransport:
    """Sockets by `picows`; what `WebSocketTransport` promises holds here too."""

    def __init__(self, open_timeout_s: float = 10.0) -> None:
        self._open_timeout_s = open_timeout_s

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made when first asked for: reading the machine's certificates takes half a second."""
        return ssl.create_default_context()

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Connection]:
        """Connect to `url`; raise `ConnectionLostError` when that fails."""
        socket = await self._open(url)
        try:
            yield socket
        except BaseException:
            socket.abort()
            raise
        finally:
            await socket.close()

    async def _open(self, url: str) -> _PicowsSocket:
        try:
            proxy = None if is_loopback(url) else get_proxy(parse_uri(url))
            async with asyncio.timeout(self._open_timeout_s):
                _, socket = await ws_connect(
                    lambda: _PicowsSocket(url),
                    url,
                    ssl_context=self._tls if url.startswith("wss:") else None,
                    # In time before ours: cancelled in a handshake, picows leaves the socket open
                    # until this is over.
                    websocket_handshake_timeout=self._open_timeout_s / 2,
                    logger_name=_SILENT,
                    enable_auto_ping=True,
                    auto_ping_idle_timeout=_PING_S,
                    auto_ping_reply_timeout=_PING_S,
                    max_frame_size=MAX_FRAME_BYTES,
                    max_redirects=0,
                    proxy=proxy,
                    # The interpreter's own TLS and sockets, as the other transport has.
                    use_aiofastnet=False,
                )
        except (OSError, WSError, InvalidURI, InvalidProxy, ValueError) as error:
            raise ConnectionLostError(url, str(error) or type(error).__name__) from error
        assert isinstance(socket, _PicowsSocket)
        return socket


class _PicowsSocket(WSListener):  # type: ignore[misc, unused-ignore]
    """A connection: `picows` calls the `on_ws_…` methods, a feed the others."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._is_over = False
        """Whether the peer has said its last, in order or against the protocol."""
        self._end: str | None = None
        self._is_congested = False
        self._is_paused = False
        self._reader: asyncio.Future[None] | None = None
        self._transport: WSTransport

    async def receive(self) -> bytes:
        """Return the next frame's bytes, as they came."""
        return (await self._receive(1))[0]

    async def receive_all(self) -> Sequence[bytes]:
        """Return the frames that are here, in order and at least one."""
        return await self._receive(MAX_TOGETHER)

    async def _receive(self, most: int) -> list[bytes]:
        unread = self._unread
        while not unread:
            if self._end is not None:
                raise ConnectionLostError(self._url, self._end)
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        if len(unread) <= most:
            frames = list(unread)
            unread.clear()
            self._unread_bytes = 0
        else:
            frames = [unread.popleft() for _ in range(most)]
            self._unread_bytes -= sum(map(len, frames)) + _FRAME_BYTES * most
        if self._is_paused:
            self._pace()
        return frames

    async def send(self, frame: str) -> None:
        """Send one text frame."""
        if self._end is not None or self._transport.is_close_frame_sent:
            raise ConnectionLostError(self._url, self._end or "closing")
        self._transport.send(_TEXT, frame.encode())

    async def close(self) -> None:
        """Close; frames already received can still be read."""
        if not self._is_over and not self._transport.is_close_frame_sent:
            self._transport.send_close(WSCloseCode.OK)
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._transport.wait_disconnected()
        except TimeoutError:
            self.abort()
        except WSError:
            return  # whoever reads is told

    def abort(self) -> None:
        """Cut the connection: nobody reads any more."""
        self._is_over = True
        self._transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Note the connection."""
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a frame. `picows` refuses one that is too large, and gives it all the same."""
        if self._is_over or frame.payload_size > MAX_FRAME_BYTES:
            return
        kind = frame.msg_type
        if kind is _CLOSE:
            self._answer_close(transport)
        elif kind is _TEXT or kind is _BINARY or kind is _CONTINUATION:
            if frame.rsv1:
                self._refuse(WSCloseCode.PROTOCOL_ERROR, "compressed without agreement")
            if frame.fin and not self._parts and kind is not _CONTINUATION:
                self._take(frame.get_payload_as_bytes())
            else:
                self._take_part(frame, is_first=kind is not _CONTINUATION)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Note the end, in the words of the other transport."""
        self._is_over = True
        self._end = _describe_end(transport)
        self._wake()

    def pause_writing(self) -> None:
        """Read no more from a peer that does not read: answers to its pings would pile up."""
        self._is_congested = True
        self._pace()

    def resume_writing(self) -> None:
        """Read again."""
        self._is_congested = False
        self._pace()

    def _take(self, frame: bytes) -> None:
        self._unread.append(frame)
        self._unread_bytes += len(frame) + _FRAME_BYTES
        if self._unread_bytes > MAX_UNREAD_BYTES and not self._is_paused:
            self._pace()
        if self._reader is not None:
            self._wake()

    def _take_part(self, frame: WSFrame, *, is_first: bool) -> None:
        if is_first == bool(self._parts):
            self._refuse(WSCloseCode.PROTOCOL_ERROR, "a fragment out of order")
        if len(self._parts) >= _MAX_PARTS:
            self._refuse(WSCloseCode.MESSAGE_TOO_BIG, f"more than {_MAX_PARTS} fragments")
        self._parts.append(frame.get_payload_as_bytes())
        self._parts_bytes += frame.payload_size
        if self._parts_bytes > MAX_FRAME_BYTES:
            self._refuse(WSCloseCode.MESSAGE_TOO_BIG, f"more than {MAX_FRAME_BYTES} bytes")
        if frame.fin:
            whole = b"".join(self._parts)
            self._parts, self._parts_bytes = [], 0
            self._take(whole)

    def _refuse(self, code: WSCloseCode, reason: str) -> NoReturn:
        """End the connection; `picows` tells the peer why."""
        self._is_over = True
        raise WSProtocolError(code, reason)

    def _answer_close(self, transport: WSTransport) -> None:
        self._is_over = True
        received = transport.close_handshake.recv
        if not transport.is_close_frame_sent:
            # A close without a code has none to echo.
            transport.send_close((received and received.code) or WSCloseCode.OK)
        transport.disconnect()

    def _pace(self) -> None:
        """Read the socket, or leave what comes to the kernel, and so to the sender."""
        too_much = MAX_UNREAD_BYTES // 2 if self._is_paused else MAX_UNREAD_BYTES
        is_full = self._is_congested or self._unread_bytes > too_much
        if is_full == self._is_paused:
            return
        self._is_paused = is_full
        socket = self._transport.underlying_transport
        if not socket.is_closing():
            (socket.pause_reading if is_full else socket.resume_reading)()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)


def _describe_end(transport: WSTransport) -> str:
    """Say how a connection ended as `websockets` does: codes, reasons, and who came first."""
    handshake = transport.close_handshake
    received = _to_close(handshake.recv) if handshake is not None else None
    sent = _to_close(handshake.sent) if handshake is not None else None
    both = received is not None and sent is not None
    return str(ConnectionClosed(received, sent, handshake.recv_then_sent if both else None))


def _to_close(info: WSCloseInfo | None) -> Close | None:
    return None if info is None else Close(cast(int, info.code) or _NO_STATUS, info.reason or "")
