"""Trade streams of crypto exchanges into Kafka, exact to the last digit."""

from .errors import (
    ConnectionLostError,
    ConnectorError,
    LedgerConflictError,
    PublishError,
    RecordingError,
    SubscriptionRejectedError,
    UnknownVenueError,
)
from .feed import Feed, FeedStats
from .publish import KafkaPublisher, Publisher, create_topics
from .record import RecordedFrame, read_frames
from .transport import Connection, Transport, WebSocketTransport
from .venue import Decoded, Venue
from .venues import VENUES, Binance, Kraken, open_venue

__all__ = [
    "VENUES",
    "Binance",
    "Connection",
    "ConnectionLostError",
    "ConnectorError",
    "Decoded",
    "Feed",
    "FeedStats",
    "KafkaPublisher",
    "Kraken",
    "LedgerConflictError",
    "PublishError",
    "Publisher",
    "RecordedFrame",
    "RecordingError",
    "SubscriptionRejectedError",
    "Transport",
    "UnknownVenueError",
    "Venue",
    "WebSocketTransport",
    "create_topics",
    "open_venue",
    "read_frames",
]
