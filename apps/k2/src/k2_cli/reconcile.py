"""Reconcile: the ledger of what was sent against what the tables hold. Sets, not counts."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from k2_connectors.testing import Ledger, SentTrade
from k2_medallion import GOLD_TRADES, LakeHome, LakeReader, open_catalog
from k2_medallion.catalog import list_exchanges
from k2_medallion.data_files import list_arrivals
from k2_schemas import SchemaError, Trade, TradeCodec
from k2_schemas.trade import MESSAGE_ID_NAMESPACE

_CHUNK_ROWS = 50_000
_LEDGER_SCHEMA = pa.schema(
    [
        ("message_id", pa.string()),
        ("exchange", pa.string()),
        ("pair", pa.string()),
        ("trade_id", pa.string()),
        ("symbol", pa.string()),
        ("side", pa.string()),
        ("timestamp_us", pa.int64()),
        ("price", pa.string()),
        ("quantity", pa.string()),
        ("first_sent_ns", pa.int64()),
    ]
)

_ARRIVALS_SCHEMA = pa.schema([("message_id", pa.string()), ("current_ms", pa.int64())])

_SAME_TRADE = """
  gold.message_id = ledger.message_id AND gold.exchange = ledger.exchange
  AND gold.pair = ledger.pair AND gold.trade_id = ledger.trade_id
  AND gold.symbol = ledger.symbol AND gold.side = ledger.side
  AND gold.timestamp_us = ledger.timestamp_us
  AND gold.price = CAST(ledger.price AS DECIMAL(38, 18))
  AND gold.quantity = CAST(ledger.quantity AS DECIMAL(38, 18))
"""

_GOLD_SQL = """
SELECT message_id, exchange, vendor_data['pair'] AS pair, trade_id, symbol, side,
  epoch_us("timestamp") AS timestamp_us, price, quantity
FROM gold_crypto_trades
"""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What was sent and what the home holds, in rows.

    `missing`: valid trades not in Gold with their exact content, plus bad inputs whose bytes are
    not among the dead letters. `unexpected`: Gold rows that no ledger entry explains or that are
    repeated, plus dead letters that are not labelled bad, lack a reason, or repeat a place.
    """

    sent: int
    kafka: int
    bronze: int
    silver: int
    dlq: int
    gold: int
    duplicates: int
    missing: int
    unexpected: int
    freshness_p50_s: float | None
    freshness_p99_s: float | None
    symbols: list[str]

    @property
    def exact(self) -> bool:
        """Nothing is missing and nothing is unexpected."""
        return self.missing == self.unexpected == 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def reconcile(
    home: LakeHome, ledger_path: Path, kafka_records: int, since_ms: int
) -> Reconciliation:
    """Compare ledger and tables; freshness is of the trades new in Gold since `since_ms`."""
    exchanges = list_exchanges(open_catalog(home))
    with Ledger(ledger_path) as ledger, LakeReader(home) as lake:
        rows = {
            layer: sum(_count_source(lake, f"{layer}_{name}_trades") for name in exchanges)
            for layer in ("bronze", "silver")
        }
        with duckdb.connect(":memory:") as judge:
            judge.register("gold", lake.sql(_GOLD_SQL).to_arrow())
            judge.register("ledger", _read_ledger(ledger))
            judge.register("arrivals", _read_arrivals(home, since_ms))
            sent = _single(judge, "SELECT count(*) FROM ledger")
            gold = _single(judge, "SELECT count(*) FROM gold")
            # Distinct: a repeated Gold row explains itself once, every further copy is unexpected.
            exact = _single(
                judge,
                f"SELECT count(DISTINCT ledger.message_id) FROM ledger JOIN gold ON {_SAME_TRADE}",
            )
            median, tail = _freshness(judge)
            symbols = [row[0] for row in judge.sql("SELECT DISTINCT symbol FROM ledger").fetchall()]
        dead = lake.sql("SELECT * FROM silver_dlq_trades").to_arrow()
        missing_bad, unexpected_dead = _judge_dead_letters(ledger, dead)
    return Reconciliation(
        sent=sent,
        kafka=kafka_records,
        bronze=rows["bronze"],
        silver=rows["silver"],
        dlq=dead.num_rows,
        gold=gold,
        duplicates=rows["silver"] - gold,
        missing=sent - exact + missing_bad,
        unexpected=gold - exact + unexpected_dead,
        freshness_p50_s=median,
        freshness_p99_s=tail,
        symbols=sorted(symbols),
    )


def _count_source(lake: LakeReader, source: str) -> int:
    """Count the rows of a table, a filtered table or a subquery."""
    return int(lake.sql(f"SELECT count(*) FROM {source}").to_arrow().column(0)[0].as_py())


def _single(judge: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(judge.sql(query).fetchall()[0][0])


def _read_ledger(ledger: Ledger) -> pa.Table:
    """Read the ledger's trades with the identity that the contract gives each (RFC 9562 UUIDv5)."""
    batches = []
    trades = iter(ledger.trades())
    while chunk := list(islice(trades, _CHUNK_ROWS)):
        rows = [
            {
                "message_id": str(uuid.uuid5(MESSAGE_ID_NAMESPACE, "|".join(trade[:3]))),
                "exchange": trade.exchange,
                "pair": trade.pair,
                "trade_id": trade.trade_id,
                "symbol": trade.symbol,
                "side": trade.side,
                "timestamp_us": trade.timestamp_us,
                "price": trade.price,
                "quantity": trade.quantity,
                "first_sent_ns": sent_ns,
            }
            for trade, sent_ns in chunk
        ]
        batches.append(pa.RecordBatch.from_pylist(rows, schema=_LEDGER_SCHEMA))
    return pa.Table.from_batches(batches, schema=_LEDGER_SCHEMA)


def _read_arrivals(home: LakeHome, since_ms: int) -> pa.Table:
    """Return (message_id, current_ms) of the trades that became visible in Gold since then."""
    table = open_catalog(home).load_table(GOLD_TRADES.identifier)
    recent = {path: ms for path, ms in list_arrivals(table).items() if ms >= since_ms}
    if not recent:
        return _ARRIVALS_SCHEMA.empty_table()
    with duckdb.connect(":memory:") as duck:
        duck.register("files", pa.table({"filename": list(recent), "ms": list(recent.values())}))
        return duck.sql(
            "SELECT message_id, ms AS current_ms FROM read_parquet($paths, filename = true)"
            " JOIN files USING (filename)",
            params={"paths": list(recent)},
        ).to_arrow_table()


def _freshness(judge: duckdb.DuckDBPyConnection) -> tuple[float | None, float | None]:
    (row,) = judge.sql(
        "SELECT quantile_disc(s, 0.5), quantile_disc(s, 0.99) FROM ("
        " SELECT current_ms / 1e3 - first_sent_ns / 1e9 AS s"
        " FROM arrivals JOIN ledger USING (message_id))"
    ).fetchall()
    median, tail = (None if value is None else round(float(value), 3) for value in row)
    return median, tail


def _judge_dead_letters(ledger: Ledger, dead: pa.Table) -> tuple[int, int]:
    """Return (bad inputs without their dead letter, dead letters that nothing explains)."""
    bad_records = {raw for raw, _ in ledger.bad_records()}
    bad_trades = {_identify(trade) for trade, _ in ledger.bad_trades()}
    codec = TradeCodec()
    found_records: set[bytes] = set()
    found_trades: set[tuple[object, ...]] = set()
    places: set[tuple[str, int, int]] = set()
    unexpected = 0
    for row in _iterate(dead):
        place = (row["kafka_topic"], row["kafka_partition"], row["kafka_offset"])
        raw = row["raw_record"]
        identity = _decode_identity(codec, raw) if raw else ()
        if raw in bad_records:
            found_records.add(raw)
        elif identity in bad_trades:
            found_trades.add(identity)
        else:
            unexpected += 1
        unexpected += (place in places) + (not row["error_reason"])
        places.add(place)
    return len(bad_records - found_records) + len(bad_trades - found_trades), unexpected


def _iterate(table: pa.Table) -> Iterator[dict[str, Any]]:
    wanted: Sequence[str] = (
        "raw_record",
        "error_reason",
        "kafka_topic",
        "kafka_partition",
        "kafka_offset",
    )
    for batch in table.select(wanted).to_batches(_CHUNK_ROWS):
        yield from batch.to_pylist()


def _identify(trade: SentTrade) -> tuple[object, ...]:
    return (
        trade.exchange,
        trade.pair,
        trade.trade_id,
        Decimal(trade.price),
        Decimal(trade.quantity),
        trade.side,
        trade.timestamp_us,
    )


def _decode_identity(codec: TradeCodec, raw: bytes) -> tuple[object, ...]:
    try:
        trade: Trade = codec.decode(raw)
    except SchemaError:
        return ()
    return (
        trade.exchange,
        trade.pair,
        trade.trade_id,
        trade.price,
        trade.quantity,
        trade.side,
        trade.timestamp_us,
    )
