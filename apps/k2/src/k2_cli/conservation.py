"""Conservation: what must hold between Kafka and the layers, whatever was sent."""

from __future__ import annotations

from collections.abc import Iterator

from k2_medallion import LakeHome, LakeReader, open_catalog
from k2_medallion.catalog import list_exchanges
from k2_schemas.topics import DEADLETTER_TOPIC


def find_breaches(home: LakeHome, offsets_written: int) -> list[str]:
    """Return every law that the tables break, as a sentence; none is the only good answer.

    `offsets_written` is the sum of the end offsets of all topics of this home.
    """
    exchanges = list_exchanges(open_catalog(home))
    with LakeReader(home) as lake:
        held = count_source(
            lake, f"silver_dlq_trades WHERE kafka_topic = '{DEADLETTER_TOPIC}'"
        ) + sum(count_source(lake, f"bronze_{name}_trades") for name in exchanges)
        breaches = [line for name in exchanges for line in _check_exchange(lake, name)]
    if held != offsets_written:
        breaches.append(
            f"Kafka has written {offsets_written} offsets, Bronze and the feed's dead letters hold "
            f"{held} rows"
        )
    return breaches


def _check_exchange(lake: LakeReader, name: str) -> Iterator[str]:
    table = f"bronze_{name}_trades"
    bronze, silver = count_source(lake, table), count_source(lake, f"silver_{name}_trades")
    dead = count_source(lake, f"silver_dlq_trades WHERE bronze_source = '{table}'")
    places = count_source(lake, f'(SELECT DISTINCT topic, "partition", "offset" FROM {table})')
    if bronze != silver + dead:
        yield f"{table} has {bronze} rows, Silver {silver} and dead letters {dead}"
    if bronze != places:
        yield f"{table} has {bronze} rows of {places} places in Kafka"


def count_source(lake: LakeReader, source: str) -> int:
    """Count the rows of a table, a filtered table or a subquery."""
    return int(lake.sql(f"SELECT count(*) FROM {source}").column(0)[0].as_py())
