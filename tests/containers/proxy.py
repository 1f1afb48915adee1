"""Proxy: TCP between a client and a service, which can break where a network does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK = 16_384


class Proxy(threading.Thread):
    """Passes bytes on until it is told to cut."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(daemon=True)
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self.is_serving = threading.Event()
        self._over = asyncio.Event()
        self._cuts: list[tuple[bytes, int]] = []
        self._conversations: set[asyncio.Task[None]] = set()
        self.port = 0
        self.cut = 0
        """How many connections were cut."""

    def cut_inside(self, begin: bytes, after_bytes: int) -> None:
        """Cut the next connection whose request begins so, once that many bytes have passed.

        The service has then seen half a request, and the client gets no answer.
        """
        self._cuts.append((begin, after_bytes))

    def run(self) -> None:
        """Serve until stopped."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    def stop(self) -> None:
        """End every connection."""
        self._loop.call_soon_threadsafe(self._over.set)
        self.join(10)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.is_serving.set()
        async with server:
            await self._over.wait()
        for conversation in self._conversations:
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)
        await asyncio.sleep(0)  # aborted sockets are closed by the loop's next turn

    def _accept(self, up: asyncio.StreamReader, down: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._converse(up, down))
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)

    async def _converse(self, up: asyncio.StreamReader, down: asyncio.StreamWriter) -> None:
        ends = [down]
        try:
            reader, writer = await asyncio.open_connection(*self._target)
            ends.append(writer)
            await asyncio.gather(self._pass_up(up, writer, down), self._pass(reader, down))
        except OSError:
            pass  # the service is away, and so is then this connection
        finally:
            for end in ends:
                end.transport.abort()

    async def _pass_up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, down: asyncio.StreamWriter
    ) -> None:
        left: int | None = None
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                if left is None and self._cuts and chunk.startswith(self._cuts[0][0]):
                    left = self._cuts.pop(0)[1]
                if left is not None and len(chunk) >= left:
                    writer.write(chunk[:left])
                    await writer.drain()
                    self.cut += 1
                    for end in (writer, down):
                        end.transport.abort()
                    return
                left = None if left is None else left - len(chunk)
                writer.write(chunk)
                await writer.drain()
            writer.write_eof()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                writer.write(chunk)
                await writer.drain()
            writer.write_eof()


@contextmanager
def open_proxy(host: str, port: int) -> Iterator[Proxy]:
    """Start a proxy of a service."""
    proxy = Proxy(host, port)
    proxy.start()
    assert proxy.is_serving.wait(10)
    try:
        yield proxy
    finally:
        proxy.stop()
