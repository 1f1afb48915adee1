"""A lake of one exchange that rows are written to without Spark, and the command run on it."""

import sys
import warnings
from pathlib import Path

import pyarrow as pa
import pytest

from k2_cli.__main__ import main
from k2_medallion import LakeHome, all_tables, ensure_tables, open_catalog


@pytest.fixture
def append(tmp_path: Path):
    """Make a lake in `tmp_path` and return what appends rows to one of its tables."""
    catalog = open_catalog(LakeHome(tmp_path), create=True)
    ensure_tables(catalog, all_tables(["binance"]))

    def write(spec, *rows):
        table = catalog.load_table(spec.identifier)
        with warnings.catch_warnings():
            # PyIceberg says that it leaves a setting of Spark's writer alone.
            warnings.filterwarnings("ignore", "Parquet writer option", UserWarning)
            table.append(pa.Table.from_pylist(list(rows), schema=table.schema().as_arrow()))

    yield write
    catalog.close()


@pytest.fixture
def run_k2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Run `k2 …` on the lake, in this process, as its script does; (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["k2", *map(str, arguments), "--home", str(tmp_path)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return code if isinstance(code, int) else 0, *capsys.readouterr()

    return run
