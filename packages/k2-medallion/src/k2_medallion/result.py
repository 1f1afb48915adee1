"""Result: what a question to the lake found, in the form that its asker works with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from .errors import MissingExtraError, QueryError

if TYPE_CHECKING:
    import polars


class Result:
    """Rows of one state of the lake; trades and candles are read when and as often as asked for.

    Decimals stay decimals and times are UTC in every form. Anything that takes Arrow streams
    (`polars.DataFrame`, `pyarrow.table`) takes a result itself.
    """

    def __init__(
        self, duck: duckdb.DuckDBPyConnection, found: pa.Table | str, order: str = ""
    ) -> None:
        self._duck = duck
        self._found = found
        self._order = order

    def to_arrow(self) -> pa.Table:
        """Return the rows as a pyarrow.Table; raise `QueryError` if they cannot be read."""
        if isinstance(self._found, pa.Table):
            return self._found
        with translate_errors():
            return self._duck.sql(f"{self._found} ORDER BY {self._order}").to_arrow_table()

    def to_polars(self) -> polars.DataFrame:
        """Return the rows as a polars.DataFrame."""
        try:
            import polars
        except ImportError:
            raise MissingExtraError("polars", "polars") from None
        return polars.DataFrame(self.to_arrow())

    def to_pandas(self) -> Any:
        """Return the rows as a pandas.DataFrame; decimals are `Decimal` objects."""
        if find_spec("pandas") is None:
            raise MissingExtraError("pandas", "pandas")
        return self.to_arrow().to_pandas()

    def to_duckdb(self) -> duckdb.DuckDBPyRelation:
        """Return the rows as a DuckDB relation, not read yet and in no order, to go on with."""
        with translate_errors():
            # A connection of its own: one that is read halfway takes no other question.
            duck = self._duck.cursor()
            return (
                duck.sql(self._found)
                if isinstance(self._found, str)
                else duck.from_arrow(self._found)
            )

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise DuckDB's errors as `QueryError`."""
    try:
        yield
    except duckdb.ConnectionException as error:
        raise QueryError("the reader is closed; open the lake again") from error
    except duckdb.IOException as error:
        raise QueryError(
            f"{str(error).strip()}; if maintenance has just replaced that file, ask again"
        ) from error
    except duckdb.Error as error:
        raise QueryError(str(error).strip()) from error
