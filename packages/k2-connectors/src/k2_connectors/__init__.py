"""Trade streams of crypto exchanges into Kafka, exact to the last digit."""

from .backfill import MAX_BACKFILL_TRADES
from .checkpoint import CheckpointFile, Position, Watermarks
from .errors import (
    BrokerRefusalError,
    BrokerSilentError,
    CheckpointError,
    ConformanceError,
    ConnectionLostError,
    ConnectorError,
    EndpointError,
    IdsRestartedError,
    LedgerConflictError,
    MissingExtraError,
    PublishError,
    RecorderError,
    RecordingError,
    SubscriptionChangeError,
    SubscriptionRejectedError,
    UnknownVenueError,
    VenueConflictError,
    VenueTwiceError,
)
from .event import Gap, Status
from .feed import FLUSH_S, Feed
from .http import Rest, UrllibRest
from .log_events import LOG_EVENTS, LogEvent
from .preflight import check_endpoints
from .publish import KafkaPublisher, Publisher, check_brokers, create_topics
from .record import RecordedFrame, read_frames, read_recording
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
from .runner import DRAIN_S
from .tail import read_positions
from .trade_feed import TradeFeed, VenueStats
from .transport import Connection, Transport, TransportName, WebSocketTransport, open_transport
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
    "DRAIN_S",
    "FLUSH_S",
    "LOG_EVENTS",
    "MAX_BACKFILL_TRADES",
    "VENUES",
    "Binance",
    "BrokerRefusalError",
    "BrokerSilentError",
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
    "EndpointError",
    "Feed",
    "Gap",
    "Hole",
    "IdsRestartedError",
    "KafkaPublisher",
    "Kraken",
    "LedgerConflictError",
    "LogEvent",
    "MissingExtraError",
    "Position",
    "PublishError",
    "Publisher",
    "RecordedFrame",
    "RecorderError",
    "RecordingError",
    "Rest",
    "RestLimit",
    "RestPage",
    "RestRequest",
    "RestResponse",
    "Status",
    "SubscriptionChangeError",
    "SubscriptionRejectedError",
    "TradeFeed",
    "Transport",
    "TransportName",
    "UnknownVenueError",
    "UrllibRest",
    "Venue",
    "VenueConflictError",
    "VenueStats",
    "VenueTwiceError",
    "Watermarks",
    "WebSocketTransport",
    "check_brokers",
    "check_endpoints",
    "create_topics",
    "find_venue",
    "list_venues",
    "open_transport",
    "open_venue",
    "read_frames",
    "read_positions",
    "read_recording",
    "read_refusal",
    "rest_beside",
]
