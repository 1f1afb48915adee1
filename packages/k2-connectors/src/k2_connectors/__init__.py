"""Trade streams of crypto exchanges into Kafka, exact to the last digit."""

from .checkpoint import CheckpointFile, Position, Watermarks
from .errors import (
    CheckpointError,
    ConformanceError,
    ConnectionLostError,
    ConnectorError,
    LedgerConflictError,
    MissingExtraError,
    PublishError,
    RecordingError,
    SubscriptionRejectedError,
    UnknownVenueError,
    VenueConflictError,
)
from .event import Gap, Status
from .feed import Feed
from .http import Rest, UrllibRest
from .publish import KafkaPublisher, Publisher, create_topics
from .record import RecordedFrame, read_frames
from .rest import (
    DeadRow,
    Hole,
    RestLimit,
    RestPage,
    RestRequest,
    RestResponse,
    read_refusal,
    rest_beside,
)
from .tail import read_positions
from .trade_feed import TradeFeed, VenueStats
from .transport import Connection, Transport, WebSocketTransport
from .venue import Decoded, Venue
from .venue_feed import DeadLetter
from .venues import (
    VENUES,
    Binance,
    Coinbase,
    Kraken,
    find_venue,
    list_venues,
    open_venue,
)

__all__ = [
    "VENUES",
    "Binance",
    "CheckpointError",
    "CheckpointFile",
    "Coinbase",
    "ConformanceError",
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
    "MissingExtraError",
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
    "VenueConflictError",
    "VenueStats",
    "Watermarks",
    "WebSocketTransport",
    "create_topics",
    "find_venue",
    "list_venues",
    "open_venue",
    "read_frames",
    "read_positions",
    "read_refusal",
    "rest_beside",
]
