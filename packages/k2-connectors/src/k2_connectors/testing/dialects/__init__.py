"""The server's side of each venue's protocol, written apart from the client's decoder."""

from __future__ import annotations

from .binance import BinanceDialect
from .dialect import Dialect, Number, Reading
from .kraken import KrakenDialect

__all__ = ["DIALECTS", "BinanceDialect", "Dialect", "KrakenDialect", "Number", "Reading"]

_ALL: tuple[Dialect, ...] = (BinanceDialect(), KrakenDialect())

DIALECTS = {dialect.name: dialect for dialect in _ALL}
