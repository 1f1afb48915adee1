"""Refusal: a REST response that is no page, whichever venue it is from."""

from __future__ import annotations

from ..rest import RestPage, RestResponse

_DELAYS_S = {429: 10.0, 418: 120.0, 403: 60.0}
"""How long to stay away when the venue does not say: too many requests, banned, fenced off."""
_LONGEST_DELAY_S = 3 * 86_400.0
_SHOWN_BYTES = 200


def read_refusal(response: RestResponse) -> RestPage | None:
    """Return the empty page that a refusal makes, or None when the response may hold trades."""
    if response.status == 200:
        return None
    if response.status in _DELAYS_S:
        return RestPage(retry_after_s=_read_delay(response))
    text = response.body[:_SHOWN_BYTES].decode(errors="replace")
    return RestPage(problem=f"HTTP {response.status}: {text}")


def _read_delay(response: RestResponse) -> float:
    text = response.headers.get("retry-after", "").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return _DELAYS_S[response.status]
    # A server that says 0 still refused: without any pause we would ask in a loop.
    return min(max(float(text), 1.0), _LONGEST_DELAY_S)
