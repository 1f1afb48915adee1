"""The in-process engines, each as a way in from Arrow and a way back."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import duckdb
import polars as pl
import pyarrow as pa
import pytest


class Engine(NamedTuple):
    """One engine: how a table becomes its frame, and a frame an Arrow table again."""

    load: Callable[[pa.Table], Any]
    collect: Callable[[Any], pa.Table]

    def rows(self, frame: Any) -> list[dict[str, object]]:
        """Return the rows as mappings, without times: Python cannot hold year 10000 in Berlin."""
        table = self.collect(frame)
        times = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
        return table.drop_columns(times).to_pylist()


@pytest.fixture(scope="session")
def engines() -> Iterator[Mapping[str, Engine]]:
    with duckdb.connect() as connection:
        # A zone with clock changes: verdicts must not depend on the session's zone.
        connection.execute("SET TimeZone = 'Europe/Berlin'")
        yield {
            "polars": Engine(pl.from_arrow, pl.DataFrame.to_arrow),
            "polars lazy": Engine(
                lambda table: pl.from_arrow(table).lazy(), lambda frame: frame.collect().to_arrow()
            ),
            "pyarrow": Engine(lambda table: table, lambda table: table),
            "duckdb": Engine(connection.from_arrow, duckdb.DuckDBPyRelation.to_arrow_table),
        }
