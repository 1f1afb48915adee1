"""Which library reads the sockets, and whether what they bring is recorded, is configuration."""

import asyncio
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from k2_connectors import (
    Connection,
    ConnectionLostError,
    MissingExtraError,
    WebSocketTransport,
    read_recording,
)
from k2_connectors.picows_transport import PicowsTransport
from k2_feed.__main__ import _open_transport
from k2_feed.settings import read_settings


def read_feed(folder: Path, *lines: str):
    """Read the table `feed` of a file that has these lines in it."""
    path = folder / "k2.toml"
    exchange = '[[exchanges]]\nname = "kraken"\nsymbols = ["BTC/USD"]\n'
    path.write_text("\n".join([exchange, "[feed]", *lines]))
    return read_settings(path).feed


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("", WebSocketTransport),
        ('transport = "websockets"', WebSocketTransport),
        ('transport = "picows"', PicowsTransport),
    ],
)
def test_the_file_names_the_library(tmp_path: Path, line: str, kind: type):
    """Without a word about it: the one that is always there."""
    assert type(_open_transport(read_feed(tmp_path, line))) is kind


def test_a_library_that_nobody_knows_is_refused(tmp_path: Path):
    """At the start, by name."""
    with pytest.raises(ValueError, match="picows"):
        read_feed(tmp_path, 'transport = "carrier pigeon"')


def test_a_library_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With the command that installs it."""
    monkeypatch.setitem(__import__("sys").modules, "k2_connectors.picows_transport", None)
    monkeypatch.setitem(__import__("sys").modules, "picows", None)
    monkeypatch.delitem(__import__("sys").modules, "k2_connectors.picows_transport")

    with pytest.raises(MissingExtraError, match=r"k2-connectors\[fast\]"):
        _open_transport(read_feed(tmp_path, 'transport = "picows"'))


async def read_to_the_end(connection: Connection) -> None:
    """Read until the exchange is gone."""
    try:
        while True:
            await connection.receive_all()
    except ConnectionLostError:
        return


@pytest.mark.parametrize("name", ["websockets", "picows"])
def test_what_comes_is_recorded_where_the_file_says(tmp_path: Path, name: str):
    """Each frame, whichever library reads it."""
    settings = read_feed(tmp_path, f'transport = "{name}"', f'record = "{tmp_path / "frames"}"')

    async def converse(socket: ServerConnection) -> None:
        await socket.send("one")
        await socket.send(b"\xff two", text=True)

    async def play() -> None:
        async with (
            asyncio.timeout(20),
            serve(converse, "127.0.0.1", 0) as server,
            _open_transport(settings).connect(
                f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            ) as connection,
        ):
            await read_to_the_end(connection)

    asyncio.run(play())
    assert [frame.frame for frame in read_recording(tmp_path / "frames")] == [b"one", b"\xff two"]
