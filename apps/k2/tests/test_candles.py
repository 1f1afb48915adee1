"""Candles in the terminal: exact where it is text, as large as fits where it is a drawing."""

import csv
import io
import json
import re
import sys
import warnings
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from rich.text import Text

from k2_cli.__main__ import main
from k2_cli.candles import draw, draw_candles, tabulate
from k2_medallion import (
    GOLD_TRADES,
    LakeHome,
    LakeReader,
    all_tables,
    ensure_tables,
    open_catalog,
)

START = datetime(2026, 11, 23, 22, tzinfo=UTC)


def make_trade(minute, price, exchange="BINANCE", symbol="BTC/USDT"):
    """Return a Gold row."""
    return {
        "trade_id": str(minute),
        "symbol": symbol,
        "exchange": exchange,
        "timestamp": START + timedelta(minutes=minute),
        "price": Decimal(price),
        "quantity": Decimal("0.00000003"),
        "source_sequence": minute,
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A lake with 250 minutes on Binance and one on Kraken."""
    home = LakeHome(tmp_path_factory.mktemp("lake"))
    catalog = open_catalog(home, create=True)
    ensure_tables(catalog, all_tables(["binance", "kraken"]))
    table = catalog.load_table(GOLD_TRADES.identifier)
    rows = [make_trade(minute, f"{60000 + minute}.5") for minute in range(250)]
    rows.append(make_trade(0, "59999.25", "KRAKEN"))
    with warnings.catch_warnings():
        # PyIceberg says that it leaves a setting of Spark's writer alone.
        warnings.filterwarnings("ignore", "Parquet writer option", UserWarning)
        table.append(pa.Table.from_pylist(rows, table.schema().as_arrow()))
    catalog.close()
    return home


@pytest.fixture
def k2(home, monkeypatch, capsys):
    """Run `k2 candles …` on the lake; return exit code, stdout and stderr."""

    def run(*arguments):
        command = ["k2", "candles", *arguments, "--home", str(home.path)]
        monkeypatch.setattr(sys, "argv", command)
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setenv("LINES", "40")
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


def strip_colours(drawing):
    """Return what is left of a drawing without its escape sequences."""
    return Text.from_ansi(drawing).plain


def make_candle(minute, price, volume="1", trades=1, **others):
    """Return a candle, all of whose prices are one."""
    prices = dict.fromkeys(("open", "high", "low", "close", "vwap"), Decimal(price))
    place = {"exchange": "KRAKEN", "symbol": "BTC/USD", "start": START + timedelta(minutes=minute)}
    return place | prices | {"volume": Decimal(volume), "trade_count": trades} | others


def test_json_and_csv_are_exact_and_whole(k2):
    """Every candle, every digit; times say their zone."""
    code, out, _ = k2("BTC/USDT", "1h", "--exchange", "binance", "--csv")
    header, first, *rest = csv.reader(io.StringIO(out))
    as_json = [json.loads(line) for line in k2("BTC/USDT", "1h", "--json")[1].splitlines()]

    assert code == 0
    assert dict(zip(header, first, strict=True)) == {
        "exchange": "BINANCE",
        "symbol": "BTC/USDT",
        "start": "2026-11-23T22:00:00+00:00",
        "open": "60000.50000000",
        "high": "60059.50000000",
        "low": "60000.50000000",
        "close": "60059.50000000",
        "volume": "0.00000180",
        "quote_volume": "0.1080540000000000",
        "vwap": "60030.00000000",
        "trade_count": "60",
        "first_trade_id": "0",
        "last_trade_id": "59",
    }
    assert [row[2][:13] for row in rest] == [
        "2026-11-23T23",
        "2026-11-24T00",
        "2026-11-24T01",
        "2026-11-24T02",
    ]
    assert [row["exchange"] for row in as_json] == ["BINANCE"] * 5 + ["KRAKEN"]


@pytest.mark.parametrize(
    "first", ["2026-11-24T02:05", "2026-11-24T03:05+01:00", "2026-11-24 02:04:59.5Z"]
)
def test_bounds_are_utc_unless_they_say_otherwise(k2, first):
    """From is included, to is not."""
    code, out, _ = k2("BTC/USDT", "1m", "--from", first, "--to", "2026-11-24T02:07:00", "--csv")

    assert code == 0
    assert re.findall(r"T02:0\d", out) == ["T02:05", "T02:06"]


def test_the_table_shows_the_newest_of_each_exchange(k2):
    """A person wants the end of a long list, and to be told that there is more."""
    code, out, _ = k2("BTC/USDT", "1m")

    assert code == 0
    assert "BTC/USDT on BINANCE: 200 candles of 1m, 200 trades" in out
    assert "BTC/USDT on KRAKEN: 1 candle of 1m, 1 trade" in out
    assert "2026-11-24 02:09 60249.5 60249.5 60249.5 60249.5 0.00000003 60249.500" in out
    assert "2026-11-23 22:49" not in out
    assert "the newest of 250; --csv or --json print all" in out


def test_a_symbol_without_candles_is_one_sentence(k2):
    """On stderr, with the query that lists what there is; a script gets an empty answer."""
    code, out, err = k2("DOGE/USDT", "1m")

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith('k2: no candles of DOGE/USDT; what there is: k2 query "SELECT DISTINCT')
    assert k2("DOGE/USDT", "1m", "--json") == (0, "", "")


def test_an_unknown_interval_is_one_sentence(k2):
    """With those there are."""
    code, out, err = k2("BTC/USDT", "2h")

    assert (code, out) == (1, "")
    assert err == "k2: no candles of '2h'; choose one of: 1m, 5m, 15m, 30m, 1h, 1d\n"


def test_the_plot_fills_the_terminal_and_no_more(k2):
    """100 columns and 40 lines are shared by two exchanges, with a line left for the prompt."""
    code, out, _ = k2("BTC/USDT", "1m", "--plot")
    lines = out.splitlines()

    assert code == 0
    assert len(lines) == 38
    assert {len(line) <= 100 for line in lines} == {True}
    assert "BTC/USDT on BINANCE: 43 candles of 1m, 43 trades" in lines[0]
    assert "BTC/USDT on KRAKEN: 1 candle of 1m, 1 trade" in lines[19]


@pytest.mark.parametrize("interval", ["1m", "1h", "1d"])
@pytest.mark.parametrize(("width", "height"), [(40, 12), (80, 24), (211, 60)])
def test_a_drawing_has_the_size_that_was_asked_for(interval, width, height):
    """Whatever the terminal; one that is one price all along as well."""
    step = {"1m": 1, "1h": 60, "1d": 1440}[interval]
    candles = [make_candle(number * step, 100 + number % 7) for number in range(300)]
    for some in (candles, candles[:1], [make_candle(0, "0.00000001")]):
        lines = strip_colours(draw(some, interval, width, height)).splitlines()

        assert len(lines) == height
        assert max(map(len, lines)) <= width


def test_the_demo_draws_every_pair(home):
    """By the same reader as the command."""
    with LakeReader(home) as lake:
        drawings = draw_candles(lake, 80)

    titles = [strip_colours(drawing).splitlines()[0].strip() for drawing in drawings]
    assert titles == [
        "BTC/USDT on BINANCE: 33 candles of 1m, 33 trades",
        "BTC/USDT on KRAKEN: 1 candle of 1m, 1 trade",
    ]


def test_numbers_have_the_digits_that_the_longest_needs():
    """Points stand below each other, nothing is cut, an unknown VWAP says so."""
    table = tabulate(
        [make_candle(0, "1E+3", "0.5"), make_candle(1, "0.00000001", "20", vwap=None)], "1m"
    )
    columns = {column.header: list(column.cells) for column in table.columns}

    assert columns["open"] == ["1000.00000000", "0.00000001"]
    assert columns["volume"] == ["0.5", "20.0"]
    assert columns["vwap"] == ["1000.0000000000", "unknown"]
