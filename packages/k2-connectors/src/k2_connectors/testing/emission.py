"""Emission: one frame an exchange sends, and what a reader must make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class SentTrade(NamedTuple):
    """A trade as the exchange wrote it: texts untouched, the match time in microseconds UTC."""

    exchange: str
    pair: str
    trade_id: str
    symbol: str
    price: str
    quantity: str
    side: str
    timestamp_us: int


@dataclass(frozen=True, slots=True)
class Emission:
    """A frame with its labels.

    `trades` must arrive. `bad_trades` can be decoded but no rule set may accept them. `bad_frame`,
    when set, is why the frame itself belongs in the dead letters, byte for byte. `recv_ns` is when
    a recorded frame was received.
    """

    frame: bytes
    trades: Sequence[SentTrade] = ()
    bad_trades: Sequence[tuple[SentTrade, str]] = ()
    bad_frame: str | None = None
    recv_ns: int | None = None
