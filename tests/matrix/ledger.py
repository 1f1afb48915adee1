"""Ledger: what a case of the crash matrix puts into Kafka, and what must come out of it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from k2_schemas import Trade, TradeCodec
from k2_schemas.testing import make_trade

_CODEC = TradeCodec()
BATCH = 400
"""Offsets that a driver of the matrix reads at once."""
COUNT = 900
"""Trades of a ledger, or of a part of one: more than two batches."""
STEP_US = 40_000
"""From one trade to the next."""
_HOUR_US = 3_600_000_000
_EDGE = 8


@dataclass(slots=True)
class MatrixLedger:
    """Records in the order of their production, and the two truths about them.

    `trades` are what Gold must hold, by message_id; `bad` are the bytes that must be dead letters,
    as often as they were sent.
    """

    exchange: str
    records: list[tuple[bytes, bytes]] = field(default_factory=list)
    trades: dict[str, Trade] = field(default_factory=dict)
    bad: list[bytes] = field(default_factory=list)

    def send(self, trade: Trade) -> None:
        """Send a trade; again if it has been sent before."""
        self.trades.setdefault(trade.message_id, trade)
        self.records.append((trade.symbol.encode(), _CODEC.encode(trade)))

    def send_bad(self, value: bytes) -> None:
        """Send something that contract or rules refuse."""
        self.bad.append(value)
        self.records.append((b"BTC/USDT", value))


def write_ledger(
    exchange: str, count: int, begin_us: int, batch: int, seed: int = 7
) -> MatrixLedger:
    """Return `count` trades with everything that has ever gone wrong among them."""
    ledger = MatrixLedger(exchange)
    add_trades(ledger, count, begin_us, batch, seed)
    return ledger


def add_trades(ledger: MatrixLedger, count: int, begin_us: int, batch: int, seed: int) -> None:
    """Add `count` trades, their ids after those that are there.

    Duplicates near and far, trades hours late, copies over REST that differ by 1 or 999 µs on
    either side of where a batch of `batch` records ends, and bad records of every kind.
    """
    chance, exchange = random.Random(seed), ledger.exchange
    sent = list(ledger.trades.values())
    first, before = len(sent), len(ledger.records)
    for number in range(count):
        late_us = 5 * _HOUR_US if chance.random() < 0.02 else 0
        trade = _make(exchange, first + number, begin_us + number * STEP_US - late_us)
        ledger.send(trade)
        sent.append(trade)
        if chance.random() < 0.05:
            ledger.send(chance.choice(sent))
        if chance.random() < 0.03:
            ledger.send_bad(_spoil(exchange, chance, begin_us + number * STEP_US))
        place = (len(ledger.records) - before) % batch
        if min(place, batch - place) <= _EDGE:
            # Around the edge of a batch, which each partition has a little before or after it:
            # the socket's trade before it, the REST copy after it.
            for shift_us in (1, 999):
                ledger.send(_make(exchange, first + number, trade.timestamp_us + shift_us))


def _make(exchange: str, number: int, time_us: int) -> Trade:
    symbol = ("BTC/USDT", "ETH/USDT", "SOL/USDT")[number % 3]
    return make_trade(
        10_000 + number,
        exchange=exchange.upper(),
        symbol=symbol,
        pair=symbol.replace("/", ""),
        timestamp_us=time_us,
        price=f"{60_000 + number % 977}.{number % 100:02d}",
    )


def _spoil(exchange: str, chance: random.Random, time_us: int) -> bytes:
    good = _CODEC.encode(_make(exchange, 900_000 + chance.randrange(10**6), time_us))
    kind = chance.randrange(6)
    if kind == 0:
        return b"\x01" + good[1:]
    if kind == 1:
        return b"\0\0\0\x03\xe7" + good[5:]
    if kind == 2:
        return good[: chance.randrange(6, len(good))]
    if kind == 3:
        return good + b"trailing"
    if kind == 4:
        return chance.randbytes(chance.randrange(40))
    number = 900_000 + chance.randrange(10**6)
    return _CODEC.encode(
        make_trade(
            number,
            exchange=exchange.upper(),
            timestamp_us=time_us + 60_000_000,
            quantity="0.00000000",
        )
    )
