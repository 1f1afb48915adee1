"""HTTP: the seam for a backfill's GETs, and its default on the standard library."""

from __future__ import annotations

import asyncio
import ssl
import time
import urllib.error
import urllib.request
from concurrent.futures import Future
from functools import cached_property
from http.client import HTTPException, HTTPResponse, IncompleteRead
from threading import Thread
from typing import Protocol
from urllib.parse import urlsplit

from .errors import ConnectionLostError
from .rest import RestRequest, RestResponse

MAX_BODY_BYTES = 8_000_000
"""No page of a thousand trades is as large; an endless body would fill the memory."""

_TIMEOUT_S = 15.0


class Rest(Protocol):
    """Sends GET requests."""

    async def get(self, request: RestRequest) -> RestResponse:
        """Return the response, whatever its status; raise `ConnectionLostError` without one."""


class UrllibRest:
    """GETs by `urllib` in a thread: a few a second is all that venues allow. TLS is verified."""

    def __init__(self, timeout_s: float = _TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made when first asked for: reading the machine's certificates takes half a second."""
        return ssl.create_default_context()

    async def get(self, request: RestRequest) -> RestResponse:
        """Return the response; see `Rest.get`.

        In a thread that nobody waits for at the end: a server that says nothing, or a byte now and
        then, may neither hold up a feed that stops nor keep what is asked after it waiting.
        """
        answer: Future[RestResponse] = Future()
        thread = Thread(target=self._settle, args=(answer, request), name="k2-rest", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise ConnectionLostError(request.url, str(error)) from error
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                return await asyncio.wrap_future(answer)
        except TimeoutError:
            reason = f"no whole answer after {2 * self._timeout_s:g} s"
            raise ConnectionLostError(request.url, reason) from None

    def _settle(self, answer: Future[RestResponse], request: RestRequest) -> None:
        answer.set_running_or_notify_cancel()
        try:
            answer.set_result(self._get(request))
        except Exception as error:  # noqa: BLE001  # raised where it is waited for
            answer.set_exception(error)

    def _get(self, request: RestRequest) -> RestResponse:
        if urlsplit(request.url).scheme not in ("http", "https"):
            raise ConnectionLostError(request.url, "not an http(s) URL")
        headers = {"User-Agent": "k2-connectors", **request.headers}
        call = urllib.request.Request(request.url, headers=headers)  # noqa: S310  # checked above
        try:
            deadline_s = time.monotonic() + 2 * self._timeout_s
            with self._open(call) as answer:
                return _read_response(answer, deadline_s)
        except (OSError, ValueError, HTTPException) as error:
            raise ConnectionLostError(request.url, str(error) or type(error).__name__) from error

    def _open(self, call: urllib.request.Request) -> HTTPResponse | urllib.error.HTTPError:
        """Return what answers, whatever its status."""
        tls = self._tls if call.full_url.startswith("https") else None
        try:
            answer = urllib.request.urlopen(call, timeout=self._timeout_s, context=tls)  # noqa: S310
        except urllib.error.HTTPError as error:
            return error
        assert isinstance(answer, HTTPResponse)
        return answer


def _read_response(
    answer: HTTPResponse | urllib.error.HTTPError, deadline_s: float
) -> RestResponse:
    body = bytearray()
    while len(body) < MAX_BODY_BYTES and (part := answer.read1(MAX_BODY_BYTES - len(body))):
        body += part
        if time.monotonic() > deadline_s:
            # Nobody waits any more: a byte now and then would keep the thread and the socket.
            raise TimeoutError("no whole answer in time")
    headers = {name.lower(): value for name, value in answer.headers.items()}
    promised = headers.get("content-length", "")
    # Python says nothing when it was asked for so many bytes and the connection ends before.
    if promised.isdecimal() and len(body) < min(int(promised), MAX_BODY_BYTES):
        raise IncompleteRead(bytes(body), int(promised) - len(body))
    return RestResponse(answer.status or 0, headers, bytes(body))
