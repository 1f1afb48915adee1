"""The audit of a live demo: Gold against the exchanges' own trade numbers."""

import warnings
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from k2_cli.live import LIVE_SYMBOLS, LiveResult, SymbolAudit, audit_gold
from k2_connectors import list_venues, open_venue
from k2_medallion import GOLD_TRADES, LakeHome, all_tables, ensure_tables, open_catalog

IDS = {
    ("BINANCE", "BTC/USDT"): [7, 8, 12, 9, 13],
    ("KRAKEN", "BTC/USD"): [41],
    ("KRAKEN", "ETH/USD"): [5, 4, 3],
}


@pytest.fixture
def home(tmp_path: Path) -> LakeHome:
    """A lake whose Gold lacks two trades of one symbol."""
    home = LakeHome(tmp_path)
    catalog = open_catalog(home, create=True)
    ensure_tables(catalog, all_tables(["binance", "kraken"]))
    table = catalog.load_table(GOLD_TRADES.identifier)
    moment = datetime(2026, 9, 26, 18, tzinfo=UTC)
    rows = [
        {"exchange": exchange, "symbol": symbol, "source_sequence": number, "price": Decimal(1)}
        | {"timestamp": moment, "trade_id": str(number)}
        for (exchange, symbol), numbers in IDS.items()
        for number in numbers
    ]
    with warnings.catch_warnings():
        # PyIceberg says that it leaves a setting of Spark's writer alone.
        warnings.filterwarnings("ignore", "Parquet writer option", UserWarning)
        table.append(pa.Table.from_pylist(rows, table.schema().as_arrow()))
    catalog.close()
    return home


def test_what_lies_between_the_first_and_the_last_number_is_missing(home: LakeHome):
    """Per symbol of each exchange, in whatever order the trades came."""
    assert audit_gold(home) == [
        SymbolAudit("binance", "BTC/USDT", 5, 7, 13, 2),
        SymbolAudit("kraken", "BTC/USD", 1, 41, 41, 0),
        SymbolAudit("kraken", "ETH/USD", 3, 3, 5, 0),
    ]


def test_a_result_says_what_is_missing_and_what_never_came(home: LakeHome):
    """A symbol without a trade has no hole to see, so it is named."""
    result = LiveResult(audit_gold(home), [], kafka=9, seconds=1.0, peak_rss_mb=1.0)

    assert result.missing == 2
    assert result.absent == [
        "binance ETH/USDT",
        "coinbase BTC/USD",
        "coinbase ETH/USD",
    ]
    said = result.to_dict()
    assert (said["missing"], said["gold"], said["kafka"]) == (2, 9, 9)
    assert said["symbols"][0]["missing"] == 2


def test_every_exchange_that_is_fed_live_is_installed_and_knows_its_symbols():
    """Nothing but configuration names them."""
    assert set(LIVE_SYMBOLS) <= set(list_venues())
    for name, symbols in LIVE_SYMBOLS.items():
        assert [i.symbol for i in open_venue(name, symbols).instruments] == symbols
