"""Preflight: what is wrong with a venue is one error, and in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from k2_connectors import Binance, EndpointError, RestRequest, RestResponse, check_endpoints
from k2_connectors.transport import Connection


class ReadySocket:
    """A socket of Binance's that acknowledges."""

    async def receive(self) -> bytes:
        """Say yes."""
        return b'{"result":null,"id":1}'

    async def receive_all(self) -> list[bytes]:
        """Say yes."""
        return [await self.receive()]

    async def send(self, frame: str) -> None:
        """Hear."""

    async def close(self) -> None:
        """End."""


class ReadyTransport:
    """A venue whose sockets are well."""

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Connection]:
        """Open."""
        yield ReadySocket()


class RefusingRest:
    """A REST that refuses to answer so many times."""

    def __init__(self, status: int, wait_s: str, times: int) -> None:
        self.refusal = RestResponse(status, {"retry-after": wait_s}, b"")
        self.times = times

    async def get(self, request: RestRequest) -> RestResponse:
        """Refuse, or answer that there are no trades."""
        self.times -= 1
        return self.refusal if self.times >= 0 else RestResponse(200, {}, b"[]")


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (RefusingRest(418, "86400", 1), "HTTP status 418, for 86400 s"),
        (RefusingRest(403, "1", 100), "HTTP status 403, for 1 s"),
    ],
)
def test_a_ban_is_said_and_not_waited_for(rest: RefusingRest, said: str):
    """A check that sleeps for a day, or for ever, says nothing."""
    with pytest.raises(EndpointError, match=said):
        asyncio.run(check(rest))


def test_a_refusal_that_passes_is_waited_for():
    """A look more than the minute had room for."""
    rest = RefusingRest(429, "1", 1)
    asyncio.run(check(rest))

    assert rest.times == -1


async def check(rest: RefusingRest) -> None:
    """Check Binance."""
    async with asyncio.timeout(10):
        await check_endpoints(Binance(["BTC/USDT"]), transport=ReadyTransport(), rest_client=rest)
