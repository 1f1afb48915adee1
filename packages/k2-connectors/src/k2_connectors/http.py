"""HTTP: the seam for a backfill's GETs, and its default on the standard library."""

from __future__ import annotations

import asyncio
import ssl
import urllib.error
import urllib.request
from functools import cached_property
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
        """Return the response; see `Rest.get`."""
        return await asyncio.to_thread(self._get, request)

    def _get(self, request: RestRequest) -> RestResponse:
        if urlsplit(request.url).scheme not in ("http", "https"):
            raise ConnectionLostError(request.url, "not an http(s) URL")
        headers = {"User-Agent": "k2-connectors", **request.headers}
        call = urllib.request.Request(request.url, headers=headers)  # noqa: S310  # checked above
        try:
            with urllib.request.urlopen(  # noqa: S310
                call, timeout=self._timeout_s, context=self._tls_of(request.url)
            ) as answer:
                return _to_response(answer.status, answer.headers, answer.read(MAX_BODY_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                return _to_response(error.code, error.headers, error.read(MAX_BODY_BYTES))
        except (OSError, ValueError) as error:
            raise ConnectionLostError(request.url, str(error) or type(error).__name__) from error

    def _tls_of(self, url: str) -> ssl.SSLContext | None:
        return self._tls if url.startswith("https") else None


def _to_response(status: int, headers: object, body: bytes) -> RestResponse:
    items = headers.items() if hasattr(headers, "items") else ()
    return RestResponse(status, {name.lower(): value for name, value in items}, body)
