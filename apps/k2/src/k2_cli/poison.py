"""Poison: records that no feed would write, produced straight to the trade topics."""

from __future__ import annotations

import random
from collections.abc import Iterable

from confluent_kafka import Producer

from k2_connectors.testing import Ledger
from k2_schemas import TradeCodec
from k2_schemas.testing import make_trade
from k2_schemas.topics import trades_topic

from .errors import CommandError

_UNKNOWN_SCHEMA_ID = 999
_FLUSH_TIMEOUT_S = 30.0


def make_poison(seed: int, exchange: str) -> list[tuple[bytes, str]]:
    """Return five records, each broken in its own way, with their labels; equal for equal seeds."""
    source = random.Random(f"{seed}:{exchange}")  # noqa: S311 - test data
    good = TradeCodec().encode(make_trade(source.randrange(10**12), exchange=exchange.upper()))
    return [
        (b"\x07" + good[1:], "bad magic"),
        (b"\x00" + _UNKNOWN_SCHEMA_ID.to_bytes(4, "big") + good[5:], "unknown schema id"),
        (good[: len(good) // 2], "truncated body"),
        (b"", "empty"),
        (b"\x00" * source.randrange(2) + source.randbytes(64), "random bytes"),
    ]


def produce_poison(
    bootstrap_servers: str, exchanges: Iterable[str], seed: int, ledger: Ledger
) -> int:
    """Write the poison of each exchange to ledger and topic; return how many records that is.

    Raises `CommandError` when Kafka does not take them all.
    """
    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all"})
    count = 0
    for exchange in exchanges:
        poison = make_poison(seed, exchange)
        ledger.write_bad_records(poison)
        for record, _ in poison:
            producer.produce(trades_topic(exchange), record, b"poison")
            count += 1
    left = producer.flush(_FLUSH_TIMEOUT_S)
    if left:
        raise CommandError(
            f"Kafka at {bootstrap_servers} has not taken {left} of {count} poison records in "
            f"{_FLUSH_TIMEOUT_S:.0f} s; look into its log, then run the same command again"
        )
    return count
