"""The in-process engines, each as a way in from Arrow and a way back."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import duckdb
import polars as pl
import pyarrow as pa
import pytest


class Engine(NamedTuple):
    load: Callable[[pa.Table], Any]
    rows: Callable[[Any], list[dict[str, object]]]


@pytest.fixture(scope="session")
def engines() -> Iterator[Mapping[str, Engine]]:
    with duckdb.connect() as connection:
        # A zone with clock changes: verdicts must not depend on the session's zone.
        connection.execute("SET TimeZone = 'Europe/Berlin'")
        yield {
            "polars": Engine(pl.from_arrow, lambda frame: frame.to_dicts()),
            "polars lazy": Engine(
                lambda table: pl.from_arrow(table).lazy(),
                lambda frame: frame.collect().to_dicts(),
            ),
            "pyarrow": Engine(lambda table: table, lambda table: table.to_pylist()),
            "duckdb": Engine(
                connection.from_arrow, lambda relation: relation.to_arrow_table().to_pylist()
            ),
        }
