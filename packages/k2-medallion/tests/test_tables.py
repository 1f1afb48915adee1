"""Tables are data, and the data says what DESIGN says."""

from k2_medallion import GOLD_TRADES, all_tables, bronze_trades
from k2_medallion.tables import DEAD_LETTERS, TRADE_COLUMNS, find_exchanges, silver_trades


def test_a_lake_of_two_exchanges_has_seven_tables():
    """Bronze and Silver per exchange, one table of dead letters, one Gold, one of candles."""
    expected = {
        "bronze_binance_trades",
        "bronze_kraken_trades",
        "silver_binance_trades",
        "silver_kraken_trades",
        "silver_dlq_trades",
        "gold_crypto_trades",
        "gold_candles_1m",
    }

    assert expected == {spec.name for spec in all_tables(["binance", "kraken"])}


def test_an_exchange_is_one_that_has_both_of_its_tables():
    """Somebody else's table beside ours is no exchange, whatever it is called."""
    ours = [spec.name for spec in all_tables(["kraken", "binance"])]

    assert find_exchanges([*ours, "bronze_old", "bronze_old_trades", "trades"]) == [
        "binance",
        "kraken",
    ]


def test_the_layers_have_the_fields_of_the_contract():
    """8 fields in Bronze, 15 + 3 in Silver, 11 for dead letters, 15 + 2 in Gold."""
    specs = (bronze_trades("x"), silver_trades("x"), DEAD_LETTERS, GOLD_TRADES)

    assert tuple(len(spec.columns) for spec in specs) == (8, 18, 11, 17)
    assert TRADE_COLUMNS == GOLD_TRADES.columns[:15] == silver_trades("x").columns[:15]


def test_every_table_is_published_through_staging():
    """Without write.wap.enabled Spark would ignore the batch's id."""
    assert {"true"} == {spec.properties["write.wap.enabled"] for spec in all_tables(["binance"])}
