"""Log events: every event name this package logs (structlog), its level and its fields.

Alerts and dashboards may rely on them: a name or a field that changes is a breaking change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple


class LogEvent(NamedTuple):
    """What an event of one name means, and the fields it always has."""

    level: Literal["info", "warning", "error"]
    fields: tuple[str, ...]
    meaning: str


LOG_EVENTS: Mapping[str, LogEvent] = {
    "connected": LogEvent("info", ("venue", "line", "url"), "a socket is open"),
    "closing": LogEvent("info", ("venue", "line", "reason"), "we end a connection"),
    "connection_lost": LogEvent(
        "warning", ("venue", "line", "reason"), "a connection ended, or was never made"
    ),
    "rest_failed": LogEvent(
        "warning", ("venue", "url", "reason"), "REST gave no answer; it is asked again"
    ),
    "status": LogEvent("info", ("venue", "kind", "detail"), "an `event.Status`"),
    "gap": LogEvent(
        "error",
        ("venue", "pair", "first_id", "last_id", "reason"),
        "trades that nobody can give any more",
    ),
    "trade_refused": LogEvent(
        "warning", ("venue", "pair", "trade_id", "reason"), "a trade without bytes: a dead letter"
    ),
    "publish_failed": LogEvent(
        "error", ("topic", "reason"), "Kafka did not take a record; the feed ends"
    ),
    "stopped_waiting": LogEvent(
        "warning", ("pending_bytes",), "told to stop, and Kafka has no room: the next start goes on"
    ),
    "drained": LogEvent(
        "info",
        ("trades", "missing"),
        "all is published and acknowledged; per venue, and what the next start fetches",
    ),
}
