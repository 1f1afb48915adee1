"""What a crypto trade is, and its bytes."""

from .avro import TradeCodec, parse_frame
from .errors import (
    FrameError,
    RecordDecodeError,
    SchemaError,
    SchemaLockError,
    TradeFieldError,
    UnknownSchemaError,
    UnknownSymbolError,
)
from .instrument import Instrument, InstrumentList, split_symbol
from .registry import FileRegistry, LockedSchema
from .trade import Side, Trade, derive_message_id, parse_units

__all__ = [
    "FileRegistry",
    "FrameError",
    "Instrument",
    "InstrumentList",
    "LockedSchema",
    "RecordDecodeError",
    "SchemaError",
    "SchemaLockError",
    "Side",
    "Trade",
    "TradeCodec",
    "TradeFieldError",
    "UnknownSchemaError",
    "UnknownSymbolError",
    "derive_message_id",
    "parse_frame",
    "parse_units",
    "split_symbol",
]
