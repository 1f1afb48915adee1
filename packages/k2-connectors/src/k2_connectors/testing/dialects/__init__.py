"""The server's side of each venue's protocol, written apart from the client's decoder."""

from __future__ import annotations

from .binance import BinanceDialect
from .coinbase import CoinbaseDialect
from .dialect import Dialect, Number, Reading, RestAnswer
from .kraken import KrakenDialect

__all__ = [
    "DIALECTS",
    "BinanceDialect",
    "CoinbaseDialect",
    "Dialect",
    "KrakenDialect",
    "Number",
    "Reading",
    "RestAnswer",
]

_ALL: tuple[Dialect, ...] = (BinanceDialect(), CoinbaseDialect(), KrakenDialect())

DIALECTS = {dialect.name: dialect for dialect in _ALL}
