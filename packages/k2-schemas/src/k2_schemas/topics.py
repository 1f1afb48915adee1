"""Topics, keys and headers: the contract between whoever writes trades and whoever reads them."""

from __future__ import annotations

SUBJECT = "market.crypto.trades-value"
"""One registry subject for every trade topic (not confluent's topic-name strategy)."""

DEADLETTER_TOPIC = "market.crypto.deadletter"
"""Frames that could not be decoded or encoded: value = the raw frame, headers = why."""

PARTITIONS = 2

TOPIC_SETTINGS = {
    "retention.ms": str(7 * 24 * 3600 * 1000),
    "segment.ms": str(3600 * 1000),
    "message.timestamp.type": "LogAppendTime",
}

HEADER_VENUE = "venue"
HEADER_REASON = "reason"
HEADER_RECV_NS = "recv_ns"


def trades_topic(exchange: str) -> str:
    """Name the topic of an exchange's trades; the record key is the canonical symbol.

    >>> trades_topic("BINANCE")
    'market.crypto.trades.binance'
    """
    return f"market.crypto.trades.{exchange.lower()}"
