"""The judge of every demo: it must find each kind of fault, or its zeros mean nothing."""

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from k2_cli.reconcile import Reconciliation, reconcile
from k2_connectors.testing import Emission, Ledger, SentTrade
from k2_medallion import (
    DEAD_LETTERS,
    GOLD_TRADES,
    LakeHome,
    TableSpec,
    all_tables,
    bronze_trades,
    ensure_tables,
    open_catalog,
    silver_trades,
)
from k2_schemas import Trade, TradeCodec
from k2_schemas.testing import make_trade

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SENT_NS = 1_790_000_000_000_000_000
POISON = b"\x07 no magic"

Row = dict[str, object]


def gold_row(trade: Trade) -> Row:
    """The Gold row that a trade must become."""
    at = EPOCH + timedelta(microseconds=trade.timestamp_us)
    return {
        "message_id": trade.message_id,
        "trade_id": trade.trade_id,
        "symbol": trade.symbol,
        "exchange": trade.exchange,
        "asset_class": trade.asset_class,
        "timestamp": at,
        "price": trade.price,
        "quantity": trade.quantity,
        "currency": trade.currency,
        "side": trade.side,
        "source_sequence": trade.source_sequence,
        "vendor_data": dict(trade.vendor_data),
        "exchange_date": at.date(),
        "exchange_hour": at.hour,
    }


def dead_row(raw: bytes | None, offset: int, reason: str | None = "because") -> Row:
    """A dead letter from one place of Binance's topic."""
    return {
        "raw_record": raw,
        "error_reason": reason,
        "kafka_topic": "market.crypto.trades.binance",
        "kafka_partition": 0,
        "kafka_offset": offset,
    }


def sent(trade: Trade) -> SentTrade:
    """A trade as the exchange wrote it: its numbers in other texts than ours."""
    price, quantity = (f"{n.normalize():E}" for n in (trade.price, trade.quantity))
    return SentTrade(
        trade.exchange,
        trade.pair,
        trade.trade_id,
        trade.symbol,
        price,
        quantity,
        trade.side,
        trade.timestamp_us,
    )


TRADES = (
    make_trade(1, price="9876543210.12345678", quantity="1234567890.12345678"),
    make_trade(2, side="BUY", quantity="0.00000001"),
    make_trade(1, exchange="KRAKEN", symbol="BTC/USD", pair="BTC/USD", price="9999999999.99999999"),
)
WORTHLESS = make_trade(3, price="0")


@dataclass
class Home:
    """What was sent and what the tables hold. As made, all is exact; tests then damage it."""

    path: Path
    trades: list[SentTrade] = field(default_factory=lambda: [sent(trade) for trade in TRADES])
    bad_trades: list[SentTrade] = field(default_factory=lambda: [sent(WORTHLESS)])
    bad_records: list[bytes] = field(default_factory=lambda: [POISON, b""])
    gold: list[Row] = field(default_factory=lambda: [gold_row(trade) for trade in TRADES])
    dead: list[Row] = field(
        default_factory=lambda: [
            dead_row(raw, offset)
            for offset, raw in enumerate([POISON, b"", TradeCodec().encode(WORTHLESS)])
        ]
    )

    def judge(self, since_ms: int = 0) -> Reconciliation:
        """Write ledger and tables, and reconcile them."""
        ledger_path = self.path / "ledger.db"
        with Ledger(ledger_path) as ledger:
            bad = tuple((trade, "a rule refuses it") for trade in self.bad_trades)
            ledger.write([Emission(b"", trades=self.trades, bad_trades=bad)], SENT_NS)
            ledger.write_bad_records((raw, "bad") for raw in self.bad_records)
        catalog = open_lake(self.path)
        append(catalog, GOLD_TRADES, self.gold)
        append(catalog, DEAD_LETTERS, self.dead)
        catalog.close()
        return reconcile(LakeHome(self.path), ledger_path, 7, since_ms)

    def faults(self) -> tuple[int, int]:
        """Judge, and return (missing, unexpected)."""
        result = self.judge()
        assert result.exact == (result.missing == result.unexpected == 0)
        return result.missing, result.unexpected


def open_lake(path: Path, *exchanges: str) -> SqlCatalog:
    """Make an empty lake of these exchanges, or open it."""
    catalog = open_catalog(LakeHome(path), create=True)
    ensure_tables(catalog, all_tables(exchanges))
    return catalog


def append(catalog: SqlCatalog, spec: TableSpec, rows: list[Row]) -> Table:
    """Append rows in one snapshot, columns not named being NULL."""
    table = catalog.load_table(spec.identifier)
    if rows:
        with warnings.catch_warnings():
            # PyIceberg says that it leaves a setting of Spark's writer alone.
            warnings.filterwarnings("ignore", "Parquet writer option", UserWarning)
            table.append(pa.Table.from_pylist(rows, table.schema().as_arrow()))
    return table


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_an_exact_home_has_no_fault(home: Home):
    """Every figure of a home in which all that was sent has arrived, from whatever exchange."""
    catalog = open_lake(home.path, "binance", "kraken")
    append(catalog, bronze_trades("binance"), [{"offset": n} for n in range(5)])
    append(catalog, bronze_trades("kraken"), [{"offset": 0}])
    silver = [{k: v for k, v in row.items() if "exchange_" not in k} for row in home.gold]
    append(catalog, silver_trades("binance"), [*silver[:2], silver[0]])
    append(catalog, silver_trades("kraken"), silver[2:])
    catalog.close()
    result = home.judge(since_ms=2**53)

    assert result == Reconciliation(
        sent=3,
        kafka=7,
        bronze=6,
        silver=4,
        dlq=3,
        gold=3,
        duplicates=1,
        missing=0,
        unexpected=0,
        freshness_p50_s=None,
        freshness_p99_s=None,
        symbols=["BTC/USD", "BTC/USDT"],
    )
    assert result.exact
    assert json.loads(json.dumps(result.to_dict())) == result.to_dict()


def test_a_home_in_which_nothing_was_sent_has_no_fault(home: Home):
    """No ledger entry, no row: nothing is missing, nothing is fresh."""
    home.trades, home.bad_trades, home.bad_records, home.gold, home.dead = [], [], [], [], []
    result = home.judge()

    assert (result.sent, result.gold, result.dlq, result.symbols) == (0, 0, 0, [])
    assert (result.exact, result.freshness_p50_s) == (True, None)


@pytest.mark.parametrize(
    "change",
    [
        {"price": Decimal("9876543210.12345679")},
        {"price": None},
        {"quantity": Decimal("1234567890.12345679")},
        {"side": "BUY"},
        {"symbol": "BTC/USDC"},
        {"timestamp": EPOCH + timedelta(microseconds=TRADES[0].timestamp_us + 1)},
        {"exchange": "KRAKEN"},
        {"trade_id": "01"},
        {"vendor_data": {"pair": "XBTUSDT"}},
        {"vendor_data": None},
        {"message_id": "00000000-0000-5000-8000-000000000000"},
        {"message_id": None},
    ],
    ids=lambda change: str(next(iter(change.items()))),
)
def test_a_changed_trade_is_missing_and_unexpected(home: Home, change: Mapping[str, object]):
    """A digit that no float holds, a microsecond, a name: what was sent is not what is there."""
    home.gold[0] |= change

    assert home.faults() == (1, 1)


def test_a_repeated_gold_row_is_unexpected(home: Home):
    """The first copy explains itself, every further one is a duplicate that dedup let through."""
    home.gold += [home.gold[0], home.gold[0]]

    assert home.faults() == (0, 2)


def test_a_gold_row_that_was_never_sent_is_unexpected(home: Home):
    """Gold invents nothing."""
    home.gold.append(gold_row(make_trade(99)))

    assert home.faults() == (0, 1)


def test_a_lost_trade_is_missing(home: Home):
    """A valid trade that is not in Gold."""
    home.gold.pop()

    assert home.faults() == (1, 0)


def test_a_lost_trade_is_not_made_up_for_by_a_repeated_one(home: Home):
    """Sets, not counts: as many rows as were sent, and still two faults."""
    home.gold[1] = home.gold[0]

    assert home.faults() == (1, 1)


def test_a_trade_that_no_rule_may_accept_is_unexpected_in_gold(home: Home):
    """It lies in the dead letters, as it should, but a copy of it got through."""
    home.gold.append(gold_row(WORTHLESS))

    assert home.faults() == (0, 1)


@pytest.mark.parametrize("lost", [0, 1, 2], ids=["poison", "empty record", "refused trade"])
def test_bad_input_without_its_dead_letter_is_missing(home: Home, lost: int):
    """Neither bytes nor a decodable trade may vanish silently; not even zero bytes."""
    home.dead.pop(lost)

    assert home.faults() == (1, 0)


def test_a_dead_letter_with_other_bytes_is_missing_and_unexpected(home: Home):
    """Byte for byte, or it is another record."""
    home.dead[0]["raw_record"] = POISON + b"\x00"

    assert home.faults() == (1, 1)


def test_a_refused_trade_is_recognised_by_its_content(home: Home):
    """Who encoded it, and when it was received, changes its bytes but not the trade."""
    other = make_trade(3, price="0.00000000")
    raw = TradeCodec().encode(
        Trade(**{f: getattr(other, f) for f in other.__struct_fields__} | {"ingestion_us": 1})
    )
    assert raw != home.dead[2]["raw_record"]
    home.dead[2]["raw_record"] = raw

    assert home.faults() == (0, 0)


def test_a_refused_trade_with_another_quantity_is_another_trade(home: Home):
    """The dead letter must hold what was sent."""
    home.dead[2]["raw_record"] = TradeCodec().encode(make_trade(3, price="0", quantity="1"))

    assert home.faults() == (1, 1)


@pytest.mark.parametrize("raw", [b"unlabelled", None, TradeCodec().encode(TRADES[0])])
def test_a_dead_letter_that_nothing_explains_is_unexpected(home: Home, raw: bytes | None):
    """Least of all a valid trade may lie there; NULL is explained by an empty record only."""
    home.bad_records.remove(b"")
    home.dead[1]["raw_record"] = raw

    assert home.faults() == (0, 1)


@pytest.mark.parametrize("reason", [None, ""])
def test_a_dead_letter_without_reason_is_unexpected(home: Home, reason: str | None):
    """Its bytes are right, but it does not say why it is there."""
    home.dead[0]["error_reason"] = reason

    assert home.faults() == (0, 1)


def test_a_place_that_repeats_is_unexpected(home: Home):
    """One record of Kafka, two dead letters: the flow wrote it twice."""
    home.dead.append(home.dead[0])

    assert home.faults() == (0, 1)


@pytest.mark.parametrize(
    "change",
    [{"kafka_offset": 9}, {"kafka_partition": 1}, {"kafka_topic": "market.crypto.trades.kraken"}],
    ids=lambda change: next(iter(change)),
)
def test_the_same_bytes_at_another_place_are_another_record(home: Home, change: Row):
    """Poison comes again with every run; each record has its own dead letter."""
    home.dead.append(home.dead[0] | change)

    assert home.faults() == (0, 0)


def read_currency(table: Table) -> Callable[[int], float]:
    """Return how long after a time (ns) the newest snapshot became current, in seconds."""
    current_ms = table.history()[-1].timestamp_ms
    return lambda ns: round(current_ms / 1e3 - ns / 1e9, 3)


def test_freshness_is_of_the_trades_new_in_gold(home: Home):
    """From the frame to the snapshot that made the trade visible; older snapshots are left out."""
    catalog = open_lake(home.path)
    append(catalog, GOLD_TRADES, home.gold[:1])
    home.gold = home.gold[1:]
    old = catalog.load_table(GOLD_TRADES.identifier).history()[-1].timestamp_ms
    catalog.close()
    with Ledger(home.path / "ledger.db") as ledger:
        early = SENT_NS - 60_000_000_000
        ledger.write([Emission(b"", trades=home.trades[2:])], early)
    result = home.judge(since_ms=old + 1)
    catalog = open_lake(home.path)
    seconds_since = read_currency(catalog.load_table(GOLD_TRADES.identifier))
    catalog.close()

    assert (result.freshness_p50_s, result.freshness_p99_s) == (
        seconds_since(SENT_NS),
        seconds_since(early),
    )
    assert result.exact


def test_freshness_is_null_if_no_trade_is_new(home: Home):
    """A second run with the same trades made nothing visible."""
    result = home.judge(since_ms=2**53)

    assert (result.gold, result.freshness_p50_s, result.freshness_p99_s) == (3, None, None)
