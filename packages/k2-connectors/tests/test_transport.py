"""WebSocketTransport: bytes as they came, and one error for every way a socket ends."""

import asyncio
import socket as sockets
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.server import ServerConnection, serve

from k2_connectors import ConnectionLostError, WebSocketTransport
from k2_connectors.transport import MAX_FRAME_BYTES

DEADLINE_S = 15.0


def read_all(converse: Callable[[ServerConnection], Awaitable[None]]) -> list[bytes | str]:
    """Connect to a server and read until the connection is lost; its reason comes last."""
    received: list[bytes | str] = []

    async def play() -> None:
        async with (
            asyncio.timeout(DEADLINE_S),
            serve(converse, "127.0.0.1", 0, compression=None) as server,
        ):
            port = next(iter(server.sockets)).getsockname()[1]
            async with WebSocketTransport().connect(f"ws://127.0.0.1:{port}") as connection:
                try:
                    while True:
                        received.append(await connection.receive())
                except ConnectionLostError as error:
                    received.append(error.reason)

    asyncio.run(play())
    return received


def test_frames_arrive_as_the_bytes_they_are():
    """Text, bytes, and text that is not UTF-8: each can become a dead letter byte for byte."""
    frames = [b'{"a":1}', b"\xff\xfe\x00", b"", b"\xc3"]

    async def converse(socket: ServerConnection) -> None:
        for frame in frames:
            await socket.send(frame, text=True)
        await socket.send(b"binary")

    assert read_all(converse)[:-1] == [*frames, b"binary"]


@pytest.mark.parametrize("ending", ["normal", "error", "abort"])
def test_every_end_of_a_connection_is_the_same_error(ending: str):
    """A goodbye, an error code or a cut: what came before is read first."""

    async def converse(socket: ServerConnection) -> None:
        await socket.send("last words")
        if ending == "abort":
            await (await socket.ping())
            socket.transport.abort()
        else:
            await socket.close(1000 if ending == "normal" else 1011)

    *frames, reason = read_all(converse)
    assert frames == [b"last words"]
    assert reason


def test_a_frame_that_fits_a_kafka_record_is_taken_and_a_larger_one_ends_the_connection():
    """Nobody can fill our memory, and what we take can always become a dead letter."""
    largest = b"x" * MAX_FRAME_BYTES

    async def converse(socket: ServerConnection) -> None:
        await socket.send(largest)
        await socket.send(largest + b"x")
        await socket.wait_closed()

    received = read_all(converse)
    assert received[:-1] == [largest]
    assert "1009" in str(received[-1])


def test_nobody_listening_is_a_lost_connection():
    """A refused connection is reconnected to like any other loss."""
    with sockets.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ConnectionLostError) as caught:
            asyncio.run(_connect(url))

    assert caught.value.url == url
    assert caught.value.reason


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense"])
def test_an_address_that_is_no_websocket_is_a_lost_connection(url: str):
    """The reason names the address."""
    with pytest.raises(ConnectionLostError, match=url):
        asyncio.run(_connect(url))


def test_a_server_that_never_answers_is_given_up():
    """A half-open server must not hold the feed for ever."""
    with sockets.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectionLostError):
            asyncio.run(_connect(url, WebSocketTransport(open_timeout_s=0.1)))


async def _connect(url: str, transport: WebSocketTransport | None = None) -> None:
    async with asyncio.timeout(DEADLINE_S), (transport or WebSocketTransport()).connect(url):
        pass


def test_sending_on_a_closed_connection_is_a_lost_connection():
    """The feed reconnects, whichever side notices first."""

    async def play() -> None:
        async with (
            asyncio.timeout(DEADLINE_S),
            serve(_echo, "127.0.0.1", 0) as server,
        ):
            port = next(iter(server.sockets)).getsockname()[1]
            async with WebSocketTransport().connect(f"ws://127.0.0.1:{port}") as connection:
                await connection.send("hello")
                assert await connection.receive() == b"hello"
                await connection.close()
                await connection.send("anyone?")

    with pytest.raises(ConnectionLostError):
        asyncio.run(play())


async def _echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)
