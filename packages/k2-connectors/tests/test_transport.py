"""Transports: bytes as they came, and one error for every way a socket ends, on either library."""

import asyncio
import socket as sockets
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from k2_connectors import (
    Binance,
    ConnectionLostError,
    Feed,
    MissingExtraError,
    Transport,
    TransportName,
    WebSocketTransport,
    open_transport,
)
from k2_connectors.picows_transport import PicowsTransport
from k2_connectors.testing import (
    Ledger,
    MarketModel,
    MemoryPublisher,
    ReplayExchange,
    play_model,
)
from k2_connectors.transport import MAX_FRAME_BYTES, MAX_UNREAD_BYTES

DEADLINE_S = 15.0
TEXT, CONTINUATION, FIN, COMPRESSED = 0x1, 0x0, 0x80, 0x40

Converse = Callable[[ServerConnection], Awaitable[None]]


@pytest.fixture(params=["websockets", "picows"])
def name(request: pytest.FixtureRequest) -> TransportName:
    return request.param


@pytest.fixture
def transport(name: TransportName) -> Transport:
    return open_transport(name)


def read_all(transport: Transport, converse: Converse) -> list[bytes | str]:
    """Connect to a server and read until the connection is lost; its reason comes last."""
    received: list[bytes | str] = []

    async def play() -> None:
        async with (
            asyncio.timeout(DEADLINE_S),
            serve(converse, "127.0.0.1", 0, compression=None) as server,
            transport.connect(url_of(server)) as connection,
        ):
            try:
                while True:
                    received.append(await connection.receive())
            except ConnectionLostError as error:
                received.append(error.reason)

    asyncio.run(play())
    return received


def url_of(server: object, scheme: str = "ws", host: str = "127.0.0.1") -> str:
    port = next(iter(server.sockets)).getsockname()[1]  # type: ignore[attr-defined]
    return f"{scheme}://{host}:{port}"


def frame(first_byte: int, payload: bytes) -> bytes:
    """A server's frame as RFC 6455 §5.2 draws it."""
    size = len(payload)
    if size < 126:
        return bytes([first_byte, size]) + payload
    if size < 65_536:
        return bytes([first_byte, 126]) + size.to_bytes(2, "big") + payload
    return bytes([first_byte, 127]) + size.to_bytes(8, "big") + payload


def send_raw(*frames: bytes) -> Converse:
    """A server that writes these bytes and waits for the end."""

    async def converse(socket: ServerConnection) -> None:
        socket.transport.write(b"".join(frames))
        await socket.wait_closed()

    return converse


def test_each_name_is_its_library(name: TransportName):
    """Both are opened by the name a configuration has for them."""
    kind = {"websockets": WebSocketTransport, "picows": PicowsTransport}[name]

    assert type(open_transport(name)) is kind


def test_a_library_that_is_not_installed_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
):
    """The extra is part of the sentence."""
    monkeypatch.setitem(__import__("sys").modules, "picows", None)
    monkeypatch.delitem(__import__("sys").modules, "k2_connectors.picows_transport")

    with pytest.raises(MissingExtraError, match=r"pip install 'k2-connectors\[fast\]'"):
        open_transport("picows")


def test_frames_arrive_as_the_bytes_they_are(transport: Transport):
    """Text, bytes, and text that is not UTF-8: each can become a dead letter byte for byte."""
    frames = [b'{"a":1}', b"\xff\xfe\x00", b"", b"\xc3"]

    async def converse(socket: ServerConnection) -> None:
        for content in frames:
            await socket.send(content, text=True)
        await socket.send(b"binary")

    assert read_all(transport, converse)[:-1] == [*frames, b"binary"]


def test_what_is_here_is_read_at_once_and_never_waited_for(transport: Transport):
    """A busy socket's frames come many at a time; the half of a message delays none before it."""
    whole = [b"%d" % number for number in range(500)]
    halves = frame(TEXT, b"half"), frame(FIN | CONTINUATION, b" and half")
    reads: list[list[bytes]] = []

    async def converse(socket: ServerConnection) -> None:
        socket.transport.write(b"".join(frame(FIN | TEXT, one) for one in whole) + halves[0])
        await socket.recv()  # all of them have been read without the other half
        socket.transport.write(halves[1])
        await socket.wait_closed()

    async def play() -> None:
        async with (
            asyncio.timeout(DEADLINE_S),
            serve(converse, "127.0.0.1", 0, compression=None) as server,
            transport.connect(url_of(server)) as connection,
        ):
            while sum(map(len, reads)) < len(whole):
                reads.append(list(await connection.receive_all()))
            await connection.send("go on")
            reads.append(list(await connection.receive_all()))

    asyncio.run(play())
    assert [one for read in reads for one in read] == [*whole, b"half and half"]
    assert len(reads) < 50


def test_a_message_in_fragments_arrives_whole_and_once(transport: Transport):
    """Also with a ping between its parts, as RFC 6455 §5.4 allows."""
    parts = [frame(TEXT, b"one, "), frame(FIN | 0x9, b"?"), frame(CONTINUATION, b"two, ")]
    whole = [*parts, frame(FIN | CONTINUATION, b"three"), frame(FIN | TEXT, b"next")]

    received = read_all(transport, send_raw(*whole, frame(FIN | 0x8, b"\x03\xe8")))

    assert received[:-1] == [b"one, two, three", b"next"]


@pytest.mark.parametrize(
    ("code", "reason", "said"),
    [
        (1000, "", "received 1000 (OK); then sent 1000 (OK)"),
        (1001, "restarting", "received 1001 (going away) restarting; then sent 1001 (going away)"),
        (1011, "", "received 1011 (internal error); then sent 1011 (internal error)"),
        (4001, "banned", "received 4001 (private use) banned; then sent 4001 (private use)"),
    ],
)
def test_the_code_and_the_reason_of_a_close_are_told(
    transport: Transport, code: int, reason: str, said: str
):
    """In the same words on both, after everything that came before."""

    async def converse(socket: ServerConnection) -> None:
        await socket.send("last words")
        await socket.close(code, reason)

    frames = read_all(transport, converse)

    assert frames[:-1] == [b"last words"]
    assert str(frames[-1]).startswith(said)


def test_a_close_without_a_code_is_an_end_like_any_other(transport: Transport):
    """RFC 6455 §7.1.5 lets a peer give none."""
    received = read_all(transport, send_raw(frame(FIN | TEXT, b"a"), frame(FIN | 0x8, b"")))

    assert received[0] == b"a"
    assert "1005" in str(received[1])


def test_a_cut_is_an_end_that_nobody_announced(transport: Transport):
    """What came before is read first."""

    async def converse(socket: ServerConnection) -> None:
        await socket.send("last words")
        await (await socket.ping())
        socket.transport.abort()

    assert read_all(transport, converse) == [b"last words", "no close frame received or sent"]


def test_a_frame_that_fits_a_kafka_record_is_taken_and_a_larger_one_ends_the_connection(
    transport: Transport,
):
    """Nobody can fill our memory, and what we take can always become a dead letter."""
    largest = b"x" * MAX_FRAME_BYTES

    async def converse(socket: ServerConnection) -> None:
        await socket.send(largest)
        await socket.send(largest + b"x")
        await socket.wait_closed()

    received = read_all(transport, converse)
    assert received[:-1] == [largest]
    assert "sent 1009 (message too big)" in str(received[-1])


def test_fragments_that_are_too_much_together_end_the_connection(transport: Transport):
    """The bound is of the message, not of its parts."""
    half = b"x" * (MAX_FRAME_BYTES // 2 + 1)
    frames = [frame(TEXT, half), frame(FIN | CONTINUATION, half), frame(FIN | TEXT, b"later")]

    (reason,) = read_all(transport, send_raw(*frames))
    assert "sent 1009 (message too big)" in str(reason)


@pytest.mark.parametrize(
    "wrong",
    [
        frame(FIN | COMPRESSED | TEXT, b"\xaa\x56\x4a\x54"),
        frame(FIN | CONTINUATION, b"of nothing"),
        frame(TEXT, b"begun, ") + frame(FIN | TEXT, b"begun again"),
        frame(FIN | 0x3, b"no such kind"),
    ],
    ids=["compressed", "continues nothing", "begins twice", "unknown"],
)
def test_a_frame_against_the_protocol_ends_the_connection(transport: Transport, wrong: bytes):
    """What was not agreed is not guessed at; a compressed frame could be a bomb."""
    frames = [frame(FIN | TEXT, b"fine"), wrong, frame(FIN | TEXT, b"later")]

    *before, reason = read_all(transport, send_raw(*frames))
    assert before == [b"fine"]
    assert "sent 1002 (protocol error)" in str(reason)


def test_no_compression_is_offered(transport: Transport):
    """So a server that would compress cannot."""
    offered: list[str | None] = []

    async def converse(socket: ServerConnection) -> None:
        assert socket.request is not None
        offered.append(socket.request.headers.get("Sec-WebSocket-Extensions"))

    read_all(transport, converse)
    assert offered == [None]


def test_pings_are_answered_while_frames_are_read(transport: Transport):
    """An exchange cuts whoever does not answer, whether or not it sends trades."""

    async def converse(socket: ServerConnection) -> None:
        for number in range(3):
            await socket.send(str(number))
            async with asyncio.timeout(DEADLINE_S / 2):
                await (await socket.ping(b"are you there?"))

    assert read_all(transport, converse)[:-1] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("frame_bytes", [10_000, 500_000])
def test_a_reader_that_stops_holds_the_sender_and_loses_nothing(
    transport: Transport, frame_bytes: int
):
    """Memory is bounded by what waits unread, and everything is there once it is read."""
    content = b"x" * frame_bytes
    count = 20 * MAX_UNREAD_BYTES // len(content)
    sent = 0

    async def converse(socket: ServerConnection) -> None:
        nonlocal sent
        for _ in range(count):
            await socket.send(content)
            sent += 1

    async def play() -> int:
        async with (
            asyncio.timeout(DEADLINE_S),
            serve(converse, "127.0.0.1", 0, compression=None) as server,
            transport.connect(url_of(server)) as connection,
        ):
            held = -1
            while held != sent:
                held = sent
                await asyncio.sleep(0.3)
            for _ in range(count):
                assert await connection.receive() == content
            return held

    assert asyncio.run(play()) < count
    assert sent == count


def test_nobody_listening_is_a_lost_connection(transport: Transport):
    """A refused connection is reconnected to like any other loss."""
    with sockets.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ConnectionLostError) as caught:
            asyncio.run(connect(transport, url))

    assert caught.value.url == url
    assert caught.value.reason


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense"])
def test_an_address_that_is_no_websocket_is_a_lost_connection(transport: Transport, url: str):
    """The reason names the address."""
    with pytest.raises(ConnectionLostError, match=url):
        asyncio.run(connect(transport, url))


def test_a_server_that_is_no_websocket_is_a_lost_connection(transport: Transport):
    """An error page must not end the feed; the reason holds the status."""

    async def play() -> None:
        async with serve(echo, "127.0.0.1", 0, process_request=refuse) as server:
            await connect(transport, url_of(server))

    with pytest.raises(ConnectionLostError, match="503"):
        asyncio.run(play())


def refuse(socket: ServerConnection, request: object) -> object:
    return socket.respond(503, "maintenance\n")


@pytest.mark.parametrize("kind", [WebSocketTransport, PicowsTransport])
def test_a_server_that_never_answers_is_given_up(kind: type[WebSocketTransport | PicowsTransport]):
    """A half-open server must not hold the feed for ever, nor keep its socket."""
    with sockets.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectionLostError):
            asyncio.run(connect_late(kind(open_timeout_s=1), url))
        peer, _ = silent.accept()
        with peer:
            peer.settimeout(DEADLINE_S)
            while peer.recv(4096):
                pass


async def connect_late(transport: Transport, url: str) -> None:
    """Connect on a machine where finding the server takes a while."""
    loop = asyncio.get_running_loop()
    create_connection = loop.create_connection

    async def create_late(*args: object, **options: object) -> object:
        await asyncio.sleep(0.05)
        return await create_connection(*args, **options)  # type: ignore[call-overload]

    loop.create_connection = create_late  # type: ignore[method-assign, assignment]
    await connect(transport, url)


async def connect(transport: Transport, url: str) -> None:
    async with asyncio.timeout(DEADLINE_S), transport.connect(url):
        pass


def test_sending_on_a_closed_connection_is_a_lost_connection(transport: Transport):
    """The feed reconnects, whichever side notices first."""

    async def play() -> None:
        async with (
            asyncio.timeout(DEADLINE_S),
            serve(echo, "127.0.0.1", 0) as server,
            transport.connect(url_of(server)) as connection,
        ):
            await connection.send("hello")
            assert await connection.receive() == b"hello"
            await connection.close()
            # Caught here: an error on its way out keeps both sockets, and the loop, in its frames.
            with pytest.raises(ConnectionLostError):
                await connection.send("anyone?")

    asyncio.run(play())


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)
    await socket.wait_closed()  # Python 3.11's servers do not wait for their sockets


def test_what_came_before_a_close_of_ours_can_still_be_read(transport: Transport):
    """A feed that stops passes on what it was given."""

    async def converse(socket: ServerConnection) -> None:
        await socket.send("one")
        await socket.send("two")
        await socket.wait_closed()

    async def play() -> list[bytes | str]:
        async with (
            asyncio.timeout(DEADLINE_S),
            serve(converse, "127.0.0.1", 0) as server,
            transport.connect(url_of(server)) as connection,
        ):
            read: list[bytes | str] = [await connection.receive()]
            await asyncio.sleep(0.1)
            await connection.close()
            read.append(await connection.receive())
            with pytest.raises(ConnectionLostError) as caught:
                await connection.receive()
            return [*read, caught.value.reason]

    said = "sent 1000 (OK); then received 1000 (OK)"
    assert asyncio.run(play()) == [b"one", b"two", said]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost that nobody has signed, with its key in the same file."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    options = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    return both


def test_a_certificate_is_always_verified(
    name: TransportName, certificate: Path, monkeypatch: pytest.MonkeyPatch
):
    """Refused unless the machine trusts it, and then only for the name that it is made out to."""

    async def play(host: str) -> bytes:
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_side.load_cert_chain(certificate)
        async with (
            asyncio.timeout(DEADLINE_S),
            serve(echo, "localhost", 0, family=sockets.AF_INET, ssl=server_side) as server,
            open_transport(name).connect(url_of(server, "wss", host)) as connection,
        ):
            await connection.send("secret")
            return await connection.receive()

    with pytest.raises(ConnectionLostError, match="CERTIFICATE_VERIFY_FAILED"):
        asyncio.run(play("localhost"))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert asyncio.run(play("localhost")) == b"secret"
    with pytest.raises(ConnectionLostError, match="IP address mismatch"):
        asyncio.run(play("127.0.0.1"))


def test_a_feed_over_it_publishes_what_the_exchange_sent(transport: Transport, tmp_path: Path):
    """Every trade and every bad frame of a replay exchange, its raw bytes and repetitions too."""
    model = MarketModel(seed=5, epoch_us=1_790_000_000_000_000)
    emissions = play_model(model, 3_000)["binance"]
    bad = [e.frame for e in emissions if e.bad_frame]
    trades = [t for e in emissions for t in (*e.trades, *(b for b, _ in e.bad_trades))]
    publisher = MemoryPublisher()

    async def play(ledger: Ledger) -> None:
        exchange = ReplayExchange(
            {"binance": emissions}, {"binance": ["BTCUSDT", "ETHUSDT"]}, ledger
        )
        stop = asyncio.Event()
        async with asyncio.timeout(DEADLINE_S), exchange.serve(0) as port:
            venue = Binance(["BTC/USDT", "ETH/USDT"], f"ws://127.0.0.1:{port}/binance")
            feed = Feed([venue], publisher, contiguity=False, transport=transport)
            running = asyncio.create_task(feed.run(stop))
            while len(publisher.trades) + len(publisher.dead_letters) < len(trades) + len(bad):
                await asyncio.sleep(0.01)
            stop.set()
            await running

    with Ledger(tmp_path / "ledger.db") as ledger:
        asyncio.run(play(ledger))

    assert [(t.pair, t.trade_id) for t in publisher.trades] == [
        (t.pair, t.trade_id) for t in trades
    ]
    assert [letter[0] for letter in publisher.dead_letters] == bad
