"""Kafka to Bronze, Silver and Gold in Iceberg, each trade exactly once."""

from .catalog import CATALOG_NAME, LakeHome, ensure_tables, open_catalog
from .errors import (
    BrokerError,
    CatalogError,
    CheckpointError,
    ConservationError,
    FencedError,
    FlowStoppedError,
    HomeBusyError,
    JavaError,
    MedallionError,
    MissingExtraError,
    OffsetsLostError,
    QueryError,
    SchemaLackingError,
    TopicReplacedError,
)
from .read import LakeReader, open
from .result import Result
from .store import ObjectStore
from .tables import (
    DEAD_LETTERS,
    GOLD_CANDLES,
    GOLD_TRADES,
    TableSpec,
    all_tables,
    bronze_trades,
    silver_trades,
)

__all__ = [
    "CATALOG_NAME",
    "DEAD_LETTERS",
    "GOLD_CANDLES",
    "GOLD_TRADES",
    "BrokerError",
    "CatalogError",
    "CheckpointError",
    "ConservationError",
    "FencedError",
    "FlowStoppedError",
    "HomeBusyError",
    "JavaError",
    "LakeHome",
    "LakeReader",
    "MedallionError",
    "MissingExtraError",
    "ObjectStore",
    "OffsetsLostError",
    "QueryError",
    "Result",
    "SchemaLackingError",
    "TableSpec",
    "TopicReplacedError",
    "all_tables",
    "bronze_trades",
    "ensure_tables",
    "open",
    "open_catalog",
    "silver_trades",
]
