"""Layer laws: an exchange's rows from Bronze to its candles, each accounted for, as SQL.

Retention makes some of them weaker: what left a table with its day cannot be missed there. Each
table says itself from which day on it is whole (`tables.RETIRED_BEFORE`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from .frozen import FrozenLake
from .law import MOST_EXAMPLES, Law
from .readback import open_codecs, sum_bronze, sum_silver_sql
from .rollup import CANDLE_COLUMNS, of_trades_sql, pick_versions_sql
from .scan import quote_day
from .tables import (
    DEAD_LETTERS,
    GOLD_CANDLES,
    GOLD_TRADES,
    TRADE_COLUMNS,
    bronze_trades,
    silver_trades,
)

_PLACE = "b.topic = d.kafka_topic AND b.partition = d.kafka_partition AND b.offset = d.kafka_offset"


def judge_verdicts(lake: FrozenLake, exchange: str) -> Iterator[Law]:
    """Judge that each Bronze row is in Silver as its bytes say or dead with them, and each dead one
    in Bronze.

    By batch, which Bronze's ingestion time names in both layers: a sum over all could hide one loss
    behind one repetition, and would be wrong once retention has passed.
    """
    bronze, silver = bronze_trades(exchange).name, silver_trades(exchange).name
    own = f"(SELECT * FROM {DEAD_LETTERS.name} WHERE bronze_source = '{bronze}')"
    horizon = lake.find_horizon(bronze_trades(exchange))
    # Silver has whole what came in since its own horizon: Bronze keeps days that are older.
    since = max(lake.find_horizon(spec) for spec in (silver_trades(exchange), DEAD_LETTERS))
    kept = f"""batch::DATE >= {quote_day(since)} AND (batch::DATE >= {quote_day(horizon)}
  OR batch::DATE IN (SELECT ingestion_date FROM {bronze}))"""
    yield _judge_counts(lake, bronze, silver, own, kept)
    yield _judge_bytes(lake, bronze, silver, own, kept)
    yield _judge_dead(lake, bronze, own, horizon)


def _judge_counts(lake: FrozenLake, bronze: str, silver: str, own: str, kept: str) -> Law:
    batches = f"""
SELECT batch, coalesce(read.n, 0) AS held, coalesce(accepted.n, 0) AS accepted,
  coalesce(dead.n, 0) AS dead
FROM (SELECT ingestion_timestamp AS batch, count(*) AS n FROM {bronze}_judged GROUP BY 1) read
FULL JOIN (
  SELECT bronze_ingestion_timestamp AS batch, count(*) AS n FROM {silver} GROUP BY 1
) accepted USING (batch)
FULL JOIN (
  SELECT b.ingestion_timestamp AS batch, count(*) AS n
  FROM {bronze}_judged b JOIN {own} d ON {_PLACE} GROUP BY 1
) dead USING (batch)
WHERE {kept}"""
    return _judge(
        lake,
        Law(silver, f"each batch of {bronze} is accepted or dead, row by row", 0, 0),
        batches,
        "held <> accepted + dead",
        "'batch ', batch, ': ', held, ' rows, ', accepted, ' in Silver, ', dead, ' dead'",
    )


def _judge_bytes(lake: FrozenLake, bronze: str, silver: str, own: str, kept: str) -> Law:
    accepted = f"""
SELECT raw_bytes, ingestion_timestamp AS batch
FROM {bronze}_judged b ANTI JOIN {own} d ON {_PLACE} WHERE {kept}"""
    codecs = open_codecs(lake, silver)
    lake.register(f"{bronze}_sums", sum_bronze(lake, accepted, codecs))
    made = f"SELECT *, bronze_ingestion_timestamp AS batch FROM {silver} WHERE {kept}"
    return _judge(
        lake,
        Law(silver, f"each batch is what its bytes in {bronze} say, field by field", 0, 0),
        f"""
SELECT batch, s.n IS NOT DISTINCT FROM b.n AND s.content IS NOT DISTINCT FROM b.content AS found
FROM ({sum_silver_sql(made)}) s FULL JOIN {bronze}_sums b USING (batch)""",
        "NOT found",
        "'batch ', batch",
    )


def _judge_dead(lake: FrozenLake, bronze: str, own: str, horizon: date) -> Law:
    # What was judged after midnight died on another day than it came in: its offset tells.
    homeless = f"""
SELECT d.*, b.topic IS NOT NULL AND b.raw_bytes IS NOT DISTINCT FROM d.raw_record AS found
FROM {own} d LEFT JOIN {bronze} b ON {_PLACE}
LEFT JOIN (
  SELECT topic, "partition", min("offset") AS first FROM {bronze}
  WHERE ingestion_date >= {quote_day(horizon)} GROUP BY ALL
) whole ON d.kafka_topic = whole.topic AND d.kafka_partition = whole.partition
WHERE b.topic IS NOT NULL OR d.kafka_offset >= whole.first OR {str(horizon == date.min).lower()}"""
    return _judge(
        lake,
        Law(DEAD_LETTERS.name, f"each dead letter of {bronze} is there, byte for byte", 0, 0),
        homeless,
        "NOT found",
        "kafka_topic, '/', kafka_partition, ' offset ', kafka_offset",
    )


def judge_dead_letters(lake: FrozenLake) -> Law:
    """Judge that no place in Kafka has died twice."""
    place = "kafka_topic, kafka_partition, kafka_offset"
    return _judge_once(lake, DEAD_LETTERS.name, "a record is dead once", place, "true")


def judge_gold(lake: FrozenLake, exchange: str) -> Iterator[Law]:
    """Judge that Gold is the distinct message_ids of Silver, in content, each once."""
    silver, gold = silver_trades(exchange).name, GOLD_TRADES.name
    own = f"exchange = '{exchange.upper()}'"
    trade = "symbol, ' ', trade_id, ' (', message_id, ')'"
    yield _judge(
        lake,
        Law(gold, f"each trade of {silver} is there", 0, 0),
        f"""
SELECT s.*, g.message_id IS NOT NULL AS found
FROM (SELECT message_id, any_value(symbol) AS symbol, any_value(trade_id) AS trade_id
  FROM {silver}_promoted WHERE "timestamp" >= {quote_day(lake.since)} GROUP BY 1) s
LEFT JOIN (SELECT DISTINCT message_id FROM {gold} WHERE {own}) g USING (message_id)""",
        "NOT found",
        trade,
    )
    columns = ", ".join(f'"{name}"' for name, _ in TRADE_COLUMNS)
    content = f"message_id, hash({columns}) AS content"
    horizon = quote_day(lake.find_horizon(silver_trades(exchange)))
    yield _judge(
        lake,
        Law(gold, f"each trade of {exchange.upper()} is as {silver} has it, field by field", 0, 0),
        f"""
SELECT g.*, s.message_id IS NOT NULL AS found
FROM (SELECT symbol, trade_id, {content} FROM {gold} WHERE {own} AND
  ("timestamp" >= {horizon} OR message_id IN (SELECT message_id FROM {silver}))) g
LEFT JOIN (SELECT DISTINCT {content} FROM {silver}) s USING (message_id, content)""",
        "NOT found",
        trade,
    )
    name = f"a trade of {exchange.upper()} is there once"
    yield _judge_once(lake, gold, name, "message_id", own)


def judge_candles(lake: FrozenLake, exchange: str) -> Iterator[Law]:
    """Judge that the stored candles, if there are any, are those that Gold gives."""
    table, own = GOLD_CANDLES.name, f"exchange = '{exchange.upper()}'"
    if not lake.sees(table) or not lake.ask(f"SELECT 1 FROM {table} WHERE {own} LIMIT 1"):
        return
    law = _judge_minutes(lake, exchange, GOLD_TRADES.name)
    before = f"gold_{exchange}_before"
    if not law.holds and lake.sees(before):
        # The newest batch is in Gold, and its candles may be on their way.
        earlier = _judge_minutes(lake, exchange, before)
        law = earlier if earlier.holds else law
    yield law
    name = f"a candle of {exchange.upper()} has each version once"
    yield _judge_once(lake, table, name, "symbol, start, version", own)


def _judge_minutes(lake: FrozenLake, exchange: str, gold: str) -> Law:
    own = f"exchange = '{exchange.upper()}'"
    stored = f"SELECT * FROM {GOLD_CANDLES.name} WHERE {own}"
    newest = f"(SELECT max(start) + INTERVAL 1 MINUTE FROM {GOLD_CANDLES.name} WHERE {own})"
    computed = of_trades_sql(f'SELECT * FROM {gold} WHERE {own} AND "timestamp" < {newest}')
    key = ("exchange", "symbol", "start")
    values = [name for name in CANDLE_COLUMNS if name not in key]
    equal = " AND ".join(f"c.{name} IS NOT DISTINCT FROM g.{name}" for name in values)
    return _judge(
        lake,
        Law(
            GOLD_CANDLES.name,
            f"minutes of {exchange.upper()} are what {GOLD_TRADES.name} gives",
            0,
            0,
        ),
        f"""
SELECT symbol, start, c.open IS NOT NULL AND g.open IS NOT NULL AND {equal} AS found
FROM ({pick_versions_sql(stored)}) c FULL JOIN ({computed}) g USING (symbol, start)""",
        "NOT found",
        "symbol, ' ', start",
    )


def _judge(lake: FrozenLake, law: Law, cases: str, wrong: str, example: str) -> Law:
    """Return the law with how many cases there are, how many are right, and some that are not."""
    (counts,) = lake.ask(
        f"SELECT count(*) AS cases, count(*) FILTER (WHERE {wrong}) AS wrong FROM ({cases})"
    )
    found = counts["cases"] - counts["wrong"]
    examples = _list_examples(lake, cases, wrong, example) if counts["wrong"] else ()
    return Law(law.table, law.name, counts["cases"], found, examples)


def _judge_once(lake: FrozenLake, table: str, name: str, key: str, own: str) -> Law:
    """Return the law that of each key there is one row."""
    keys = f"SELECT {key}, count(*) AS n FROM {table} WHERE {own} GROUP BY ALL"
    (counts,) = lake.ask(f"SELECT count(*) AS keys, coalesce(sum(n), 0) AS n FROM ({keys})")
    found = int(counts["n"])
    parts = key.replace(",", ", ' ',")
    examples = _list_examples(lake, keys, "n > 1", parts) if found > counts["keys"] else ()
    return Law(table, name, counts["keys"], found, examples)


def _list_examples(lake: FrozenLake, cases: str, wrong: str, parts: str) -> tuple[str, ...]:
    # concat and not ||: a NULL in what is wrong must not hide the rest of it.
    query = f"SELECT concat({parts}) AS text FROM ({cases}) WHERE {wrong} ORDER BY 1"
    return tuple(row["text"] for row in lake.ask(f"{query} LIMIT {MOST_EXAMPLES}"))
