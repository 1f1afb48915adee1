"""Trade streams of crypto exchanges into Kafka, exact to the last digit."""

from .checkpoint import CheckpointFile, Position, Watermarks
from .errors import (
    CheckpointError,
    ConnectionLostError,
    ConnectorError,
    LedgerConflictError,
    PublishError,
    RecordingError,
    SubscriptionRejectedError,
    UnknownVenueError,
)
from .event import Gap, Status
from .feed import Feed
from .http import Rest, UrllibRest
from .publish import KafkaPublisher, Publisher, create_topics
from .record import RecordedFrame, read_frames
from .rest import DeadRow, Hole, RestLimit, RestPage, RestRequest, RestResponse
from .tail import read_positions
from .trade_feed import TradeFeed, VenueStats
from .transport import Connection, Transport, WebSocketTransport
from .venue import Decoded, Venue
from .venue_feed import DeadLetter
from .venues import VENUES, Binance, Kraken, open_venue

__all__ = [
    "VENUES",
    "Binance",
    "CheckpointError",
    "CheckpointFile",
    "Connection",
    "ConnectionLostError",
    "ConnectorError",
    "DeadLetter",
    "DeadRow",
    "Decoded",
    "Feed",
    "Gap",
    "Hole",
    "KafkaPublisher",
    "Kraken",
    "LedgerConflictError",
    "Position",
    "PublishError",
    "Publisher",
    "RecordedFrame",
    "RecordingError",
    "Rest",
    "RestLimit",
    "RestPage",
    "RestRequest",
    "RestResponse",
    "Status",
    "SubscriptionRejectedError",
    "TradeFeed",
    "Transport",
    "UnknownVenueError",
    "UrllibRest",
    "Venue",
    "VenueStats",
    "Watermarks",
    "WebSocketTransport",
    "create_topics",
    "open_venue",
    "read_frames",
    "read_positions",
]
