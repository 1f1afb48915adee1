"""What a crypto trade is, and its bytes."""

from ._backend import backend
from .avro import Codec, WireCodec, compile
from .errors import (
    FieldError,
    FrameError,
    MissingExtraError,
    RecordDecodeError,
    RegistryError,
    SchemaError,
    SchemaLockError,
    SchemaParseError,
    SecretInTextError,
    UnknownSchemaError,
    UnknownSymbolError,
    UnsupportedSchemaError,
)
from .frame import parse_frame
from .instrument import Instrument, InstrumentList, Naming, split_symbol
from .registry import FileRegistry, LockedSchema, Registry, ServerRegistry
from .trade import Side, Trade, derive_message_id
from .trade_codec import TradeCodec
from .trade_factory import TradeFactory, open_trade_factory
from .units import format_units, parse_units

__all__ = [
    "Codec",
    "FieldError",
    "FileRegistry",
    "FrameError",
    "Instrument",
    "InstrumentList",
    "LockedSchema",
    "MissingExtraError",
    "Naming",
    "RecordDecodeError",
    "Registry",
    "RegistryError",
    "SchemaError",
    "SchemaLockError",
    "SchemaParseError",
    "SecretInTextError",
    "ServerRegistry",
    "Side",
    "Trade",
    "TradeCodec",
    "TradeFactory",
    "UnknownSchemaError",
    "UnknownSymbolError",
    "UnsupportedSchemaError",
    "WireCodec",
    "backend",
    "compile",
    "derive_message_id",
    "format_units",
    "open_trade_factory",
    "parse_frame",
    "parse_units",
    "split_symbol",
]
