"""Preflight: can a venue be fed as it is configured? One connection, one look over REST a symbol.

A feed that runs waits for a venue that is away, and Binance never says that a stream does not
exist. So before a start this asks what reconnecting would hide.
"""

from __future__ import annotations

import asyncio
import time

from .backfill import existence_of
from .continuity import refuse_unknown
from .errors import ConnectionLostError, EndpointError
from .http import Rest, UrllibRest
from .rest import RestRequest
from .transport import Transport, WebSocketTransport
from .venue import Venue

TIMEOUT_S = 10.0
_LONGEST_WAIT_S = 60.0


async def check_endpoints(
    venue: Venue,
    *,
    rest: bool = True,
    timeout_s: float = TIMEOUT_S,
    transport: Transport | None = None,
    rest_client: Rest | None = None,
) -> None:
    """Subscribe every symbol at the first endpoint that answers, and look each up over REST.

    Raises `EndpointError` if none answers as this venue does within `timeout_s`, or, unless `rest`
    is False, if its REST does not; `SubscriptionRejectedError` for a symbol it does not have. Looks
    are paced by the venue's own limit, beyond `timeout_s` if there are many.
    """
    await _check_sockets(venue, transport or WebSocketTransport(timeout_s), timeout_s)
    if rest:
        client, spent = rest_client or UrllibRest(timeout_s), 0
        for instrument in venue.instruments:
            request = venue.first_request(existence_of(instrument.pair))
            spent += request.weight
            if spent > venue.rest_limit.weight:
                await asyncio.sleep(venue.rest_limit.per_s)
                spent = request.weight
            await _look_up(venue, request, client)


async def _check_sockets(venue: Venue, transport: Transport, timeout_s: float) -> None:
    """Return once one endpoint has acknowledged every pair; all are tried at the same time."""
    tries = [asyncio.create_task(_try(venue, url, transport, timeout_s)) for url in venue.urls]
    problem: EndpointError | None = None
    try:
        for attempt in asyncio.as_completed(tries):
            try:
                return await attempt
            except EndpointError as error:
                problem = problem or error
    finally:
        for attempt in tries:
            attempt.cancel()
        await asyncio.gather(*tries, return_exceptions=True)
    assert problem is not None, "a venue has an endpoint"
    raise problem


async def _try(venue: Venue, url: str, transport: Transport, timeout_s: float) -> None:
    pairs = [instrument.pair for instrument in venue.instruments]
    missing = set(pairs)
    try:
        async with asyncio.timeout(timeout_s), transport.connect(url) as connection:
            for frame in venue.subscribe_frames(pairs):
                await connection.send(frame)
            while missing:
                decoded = venue.decode(await connection.receive(), time.time_ns() // 1000)
                missing.difference_update(decoded.acknowledged)
    except ConnectionLostError as error:
        raise EndpointError(venue.name, url, error.reason) from error
    except TimeoutError:
        named = ", ".join(sorted(missing))
        reason = f"no acknowledgement of {named} within {timeout_s:.0f} s"
        raise EndpointError(venue.name, url, reason) from None


async def _look_up(venue: Venue, request: RestRequest, client: Rest) -> None:
    """Ask for one pair; a venue that will not answer now may say so once, and not for long."""
    for is_last in (False, True):
        try:
            response = await client.get(request)
        except ConnectionLostError as error:
            raise EndpointError(venue.name, request.url, error.reason) from error
        page = venue.read_page(request, response, time.time_ns() // 1000)
        refuse_unknown(venue.name, request.hole.pair, page)
        if page.problem is not None:
            raise EndpointError(venue.name, request.url, page.problem)
        if page.retry_after_s is None:
            return
        if is_last or page.retry_after_s > _LONGEST_WAIT_S:
            reason = f"it refuses: HTTP status {response.status}, for {page.retry_after_s:g} s"
            raise EndpointError(venue.name, request.url, reason)
        await asyncio.sleep(page.retry_after_s)
