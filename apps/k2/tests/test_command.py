"""The k2 command: one sentence for every mistake, an exit code that tells, and no process left."""

import csv
import io
import json
import signal
import subprocess
import sys
import warnings
from decimal import Decimal
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from typer.testing import CliRunner

import k2_cli.doctor
from k2_cli.__main__ import app, main
from k2_cli.plan import Plan
from k2_medallion import GOLD_TRADES, LakeHome, all_tables, ensure_tables, open_catalog

COMMANDS = (
    "demo",
    "query",
    "candles",
    "verify",
    "gaps",
    "replay",
    "maintain",
    "doctor",
    "exchange",
)


class Outcome:
    """How a command ended: exit code, stdout, stderr."""

    def __init__(self, code: int, captured: tuple[str, str]) -> None:
        self.code = code
        self.out, self.err = captured


@pytest.fixture
def k2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `k2 …` in this process, through main, as its script does."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["k2", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return Outcome(code if isinstance(code, int) else 0, capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with two Gold trades; no query can change it."""
    path = tmp_path_factory.mktemp("lake")
    catalog = open_catalog(LakeHome(path), create=True)
    ensure_tables(catalog, all_tables(["binance"]))
    table = catalog.load_table(GOLD_TRADES.identifier)
    rows = [
        {"symbol": "BTC/USDT", "price": Decimal("61837.63000001")},
        {"symbol": "ETH/USDT", "price": None},
    ]
    with warnings.catch_warnings():
        # PyIceberg says that it leaves a setting of Spark's writer alone.
        warnings.filterwarnings("ignore", "Parquet writer option", UserWarning)
        table.append(pa.Table.from_pylist(rows, table.schema().as_arrow()))
    catalog.close()
    return path


def assert_one_sentence(outcome: Outcome, part: str) -> None:
    """One line on stderr that names us, nothing on stdout, exit code 1."""
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (1, "", 1)
    assert outcome.err.startswith("k2: ")
    assert part in outcome.err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_shows_an_example(command: str):
    """The example names the command itself, ready to copy."""
    result = CliRunner().invoke(app, [command, "--help"])

    assert result.exit_code == 0
    assert f"Example: k2 {command}" in result.stdout


def test_help_lists_every_command():
    """None is hidden, none is listed here that does not exist."""
    listed = {command.name or command.callback.__name__ for command in app.registered_commands}

    assert listed == set(COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo", "--speed", "9"),
        ("demo", "--trades", "0"),
        ("demo", "--port", "65534"),
        ("demo", "--exchange-url", "ws://127.0.0.1:1"),
        ("demo", "--live", "--seconds", "0"),
        ("demo", "--live", "--symbol", "BTC/USD"),
        ("query",),
        ("query", "SELECT 1", "--xml"),
        ("candles", "BTC/USDT"),
        ("candles", "BTC/USDT", "1m", "--from", "yesterday"),
        ("candles", "BTC/USDT", "1m", "--plot", "--csv"),
        ("replay", "--to", "2026-13-01"),
        ("verify", "--bootstrap"),
        ("gaps", "BTC/USDT"),
        ("dlq", "list", "--since", "yesterday"),
        ("dlq", "show", "topic"),
        ("dlq", "requeue"),
        ("dlq", "requeue", "topic", "0"),
        ("dlq", "requeue", "topic", "0", "1", "--where", "true"),
        ("doctor", "--port", "many"),
        ("exchange", "--plan", "/does/not/exist"),
        ("exchange", "--plan", "/"),
        ("destroy",),
    ],
)
def test_a_wrong_option_ends_with_2_before_anything_is_done(k2, arguments, tmp_path, monkeypatch):
    """Usage errors say what is wrong on stderr and touch no file."""
    monkeypatch.chdir(tmp_path)
    outcome = k2(*arguments)

    assert (outcome.code, outcome.out) == (2, "")
    assert "Error" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_query_on_an_empty_home_is_one_sentence(tmp_path: Path):
    """As a real process: no lake yet, and the command that makes one."""
    result = subprocess.run(
        [sys.executable, "-m", "k2_cli", "query", "SELECT 1", "--home", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    home = tmp_path / "none"

    assert (result.stderr, result.stdout, result.returncode) == (
        f"k2: no lake in {home}; make one with: k2 demo --home {home}\n",
        "",
        1,
    )
    assert not home.exists()


@pytest.mark.parametrize(
    "sql",
    [
        "DROP VIEW gold_crypto_trades",
        "CREATE TABLE mine AS SELECT 1",
        "INSERT INTO gold_crypto_trades SELECT * FROM gold_crypto_trades",
        "DELETE FROM gold_crypto_trades",
        "COPY (SELECT 1) TO '{stolen}'",
        "EXPORT DATABASE '{stolen}'",
        "ATTACH '{stolen}'",
        "SELECT 1; SELECT 2",
        "SET enable_external_access = true",
        "PRAGMA enable_profiling",
        "",
    ],
)
def test_query_runs_a_single_select_and_nothing_else(k2, home: Path, sql: str):
    """Whatever writes, configures or comes second is refused, and nothing is written."""
    stolen = home / "stolen"
    outcome = k2("query", sql.format(stolen=stolen), "--home", home)

    assert_one_sentence(outcome, "only a single SELECT can be run here: the lake is read-only")
    assert not stolen.exists()


@pytest.mark.parametrize(
    "source",
    [
        "read_text('/etc/passwd')",
        "read_csv('/etc/passwd')",
        "'/etc/passwd'",
        "glob('/etc/*')",
        "read_blob('{home}/catalog.db')",
    ],
)
def test_query_reads_no_file_but_the_tables_own(k2, home: Path, source: str):
    """Neither the machine's files nor the home's own bookkeeping can be read."""
    outcome = k2("query", f"SELECT * FROM {source.format(home=home)}", "--home", home)

    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("k2: ")
    assert "root:" not in outcome.err


def test_query_prints_json_csv_or_a_table(k2, home: Path):
    """The same rows in three forms, exact in each."""
    arguments = ("query", "SELECT symbol, price FROM gold_crypto_trades ORDER BY 1", "--home", home)
    as_json, as_csv, table = k2(*arguments, "--json"), k2(*arguments, "--csv"), k2(*arguments)

    assert [json.loads(line) for line in as_json.out.splitlines()] == [
        {"symbol": "BTC/USDT", "price": "61837.63000001"},
        {"symbol": "ETH/USDT", "price": None},
    ]
    assert list(csv.reader(io.StringIO(as_csv.out))) == [
        ["symbol", "price"],
        ["BTC/USDT", "61837.63000001"],
        ["ETH/USDT", ""],
    ]
    assert "│ BTC/USDT │ 61837.63000001 │" in table.out
    assert [o.code for o in (as_json, as_csv, table)] == [0, 0, 0]


def test_query_lists_the_tables(k2, home: Path):
    """The query that the help names works."""
    outcome = k2("query", "SHOW TABLES", "--home", home, "--csv")

    assert outcome.out.splitlines() == [
        "name",
        "bronze_binance_trades",
        "gold_candles_1m",
        "gold_crypto_trades",
        "silver_binance_trades",
        "silver_dlq_trades",
    ]


def test_json_and_csv_exclude_each_other(k2, home: Path):
    """Asking for both is a usage error, not a choice made silently."""
    outcome = k2("query", "SELECT 1", "--home", home, "--json", "--csv")

    assert (outcome.code, outcome.out) == (2, "")
    assert "choose --json or --csv, not both" in outcome.err


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "No such file or directory"),
        ("folder", "Is a directory"),
        (b"not JSON\n", "line 1: "),
        (b'{"raw": "{}"}\n[]\n', "line 2: "),
        (b'{"raw": "\xff"}\n', "line 1: "),
        (b"", "no frame of a known venue"),
        (b'{"raw": "{\\"channel\\":\\"heartbeat\\"}"}\n', "no kraken trade in it"),
    ],
)
def test_frames_that_cannot_be_played_are_one_sentence(k2, tmp_path: Path, content, complaint):
    """Found before Java, Kafka or any other process is started."""
    frames, home = tmp_path / "frames.jsonl", tmp_path / "home"
    if content == "folder":
        frames.mkdir()
    elif content is not None:
        frames.write_bytes(content)
    before = psutil.Process().children()
    outcome = k2("demo", "--frames", frames, "--home", home, "--json")

    assert_one_sentence(outcome, f"cannot play {frames}: {complaint}")
    assert not (home / "run").exists()
    assert psutil.Process().children() == before


def test_frames_are_refused_by_a_real_process_too(tmp_path: Path):
    """With --json stdout stays empty, so that no script takes the error for a result."""
    command = [sys.executable, "-m", "k2_cli", "demo", "--json", "--frames", "/no/such/file"]
    result = subprocess.run(
        [*command, "--home", str(tmp_path)], capture_output=True, text=True, timeout=60
    )

    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "cannot play /no/such/file" in result.stderr


def test_a_plan_that_is_none_is_one_sentence(k2, tmp_path: Path):
    """`k2 exchange` says what it wants to play."""
    plan = tmp_path / "plan.json"
    plan.write_text("{}")

    assert_one_sentence(k2("exchange", "--plan", plan), "is not a plan that `k2 demo` wrote")


def test_doctor_ends_with_1_if_something_is_missing(k2, tmp_path: Path, monkeypatch):
    """The exit code is for scripts; the cure stands beside the finding, brackets and all."""
    ill = k2_cli.doctor.Finding("Java", "none in [red]", "pip install 'k2-medallion[spark]'")
    monkeypatch.setattr(k2_cli.doctor, "examine", lambda *_: iter([ill]))
    monkeypatch.setenv("COLUMNS", "120")
    outcome = k2("doctor", "--home", tmp_path)

    assert outcome.code == 1
    assert "✗" in outcome.out
    assert "none in [red]" in outcome.out
    assert "pip install 'k2-medallion[spark]'" in outcome.out


def test_doctor_ends_with_0_if_all_is_well(k2, tmp_path: Path, monkeypatch):
    """No cure, no complaint."""
    well = k2_cli.doctor.Finding("Python", "3.11")
    monkeypatch.setattr(k2_cli.doctor, "examine", lambda *_: iter([well]))
    outcome = k2("doctor", "--home", tmp_path)

    assert (outcome.code, outcome.err) == (0, "")
    assert "✓  Python  3.11" in outcome.out


def test_ctrl_c_is_one_sentence_and_130(k2, tmp_path: Path, monkeypatch):
    """A real SIGINT in the middle of a command is no traceback."""

    def interrupt(*_: object) -> object:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("SIGINT was not heard")

    monkeypatch.setattr(k2_cli.doctor, "examine", interrupt)
    outcome = k2("doctor", "--home", tmp_path)

    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err == "k2: interrupted; every process has been ended\n"


def test_exchange_serves_a_plan_until_sigterm(tmp_path: Path):
    """As a real process: it can be stopped at any time and then ends with 0."""
    plan = tmp_path / "plan.json"
    Plan(str(tmp_path / "ledger.db"), trade_count=10, seed=1).save(plan)
    command = [sys.executable, "-m", "k2_cli", "exchange", "--plan", str(plan), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        serving = psutil.Process(process.pid)
        while not any(c.status == psutil.CONN_LISTEN for c in serving.net_connections()):
            assert process.poll() is None, process.stderr.read()
        process.terminate()
        output, errors = process.communicate(timeout=30)

    assert (process.returncode, output, errors) == (0, b"", b"")
