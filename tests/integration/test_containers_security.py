"""Kafka over TLS with SCRAM, tables in an object store, and secrets that nobody else can read."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from k2_medallion import LakeHome, LakeReader, all_tables, ensure_tables, open_catalog
from k2_medallion.lake import Lake
from tests.containers.engine import MARKS, require_images
from tests.containers.pipeline import Pipeline, assert_exact
from tests.containers.services import open_minio, open_secure_kafka

pytestmark = MARKS

CANARY = "canary-7f3a91c4"


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    require_images("kafka")
    with open_secure_kafka(tmp_path_factory.mktemp("kafka"), f"{CANARY}-kafka") as kafka:
        yield kafka


def describe(kafka, *, ca_file=None, password_file=None):
    """Lines of the table `kafka`."""
    lines = [
        f'bootstrap_servers = "{kafka.bootstrap_servers}"',
        'security_protocol = "SASL_SSL"',
        f'username = "{kafka.username}"',
        f'ca_file = "{ca_file or kafka.ca_file}"',
    ]
    return lines + ([f'password_file = "{password_file}"'] if password_file else [])


def run(module, config, environment):
    """Run an app to its end; return its exit code and all that it says, but for its JSON log."""
    result = subprocess.run(
        [sys.executable, "-m", module, "--config", str(config)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = result.stderr.strip().splitlines()
    return result.returncode, "\n".join(line for line in lines if not line.startswith("{"))


def write_config(folder, lines):
    """Write a configuration of one exchange, which nobody gets as far as to ask."""
    path = folder / "k2.toml"
    exchange = ["[[exchanges]]", 'name = "binance"', 'symbols = ["BTC/USDT"]']
    home = ["[lake]", f'home = "{folder}/home"']
    path.write_text("\n".join(["[kafka]", *lines, *exchange, *home, ""]))
    return path


@pytest.mark.parametrize("module", ["k2_feed", "k2_lake"])
def test_a_broker_that_a_stranger_vouches_for_is_one_sentence(kafka, tmp_path, module):
    """Both sides of Kafka refuse it, and say that it is about certificates."""
    config = write_config(tmp_path, describe(kafka, ca_file=kafka.other_ca_file))
    code, said = run(module, config, {"K2_KAFKA__PASSWORD": kafka.password})

    assert code == 1
    assert_one_sentence(module, said)
    assert "ca_file" in said
    assert "certificate" in said.lower() or "CertPath" in said, said
    assert CANARY not in said


def assert_one_sentence(module, said):
    """Of what a user reads: Spark's greeting may be before it, no page of stack is."""
    *before, sentence = said.splitlines()
    assert sentence.startswith(f"{module.replace('_', '-')}: ")
    assert [line for line in before if line.startswith(("\tat ", "Caused by", "Traceback"))] == []
    assert len(before) <= 12, said


@pytest.mark.parametrize("module", ["k2_feed", "k2_lake"])
def test_a_wrong_password_is_one_sentence(kafka, tmp_path, module):
    """It says that the broker refused who we are, and where that is set."""
    code, said = run(module, write_config(tmp_path, describe(kafka)), {"K2_KAFKA__PASSWORD": "no"})

    assert code == 1
    assert_one_sentence(module, said)
    assert "uthentication failed" in said
    assert "password" in said


def test_the_whole_pipeline_over_tls_and_no_secret_left_anywhere(kafka, tmp_path):
    """Frame to Gold in the object store is exact; no file, table, log or command has a secret.

    What is searched is searched for something that is there, too: compressed, nothing would be.
    """
    require_images("minio")
    password_file = tmp_path / "kafka-password"
    password_file.write_text(kafka.password + "\n")
    password_file.chmod(0o600)
    home, events = tmp_path / "home", tmp_path / "events"
    events.mkdir()
    with open_minio(secret_key=f"{CANARY}-store") as minio:
        store = minio.store()
        secrets = {
            "K2_STORE__ACCESS_KEY": minio.access_key,
            "K2_STORE__SECRET_KEY": minio.secret_key,
        }
        spark = {
            "spark.eventLog.enabled": "true",
            "spark.eventLog.compress": "false",
            "spark.eventLog.dir": events.as_uri(),
        }
        lines = ["[lake.spark]", *(f'"{key}" = "{value}"' for key, value in spark.items())]
        kafka_lines = describe(kafka, password_file=password_file)
        with Pipeline(home, kafka_lines, store, secrets, lines, trades=3_000) as pipeline:
            commands = list_commands()
            gold = pipeline.wait_until_complete(600)
            commands += list_commands()
            assert_exact(gold, pipeline.read_ledger())
            code, said = verify(kafka, home, secrets | store_address(store), password_file)
            assert code == 0, said
        tables = list(read_metadata(LakeHome(home, store)))
        rows = count_rows_with(LakeHome(home, store), CANARY, "BTC/USD")
    logs = [path for path in [*home.rglob("*"), *events.rglob("*")] if path.is_file()]

    assert sum(map(len, gold.values())) > 1_000
    assert "k2_lake" in commands
    assert CANARY not in commands
    assert len(tables) > 5
    assert [text for text in tables if CANARY in text] == []
    assert sum("snapshot-id" in text for text in tables) >= 5
    told = [path for path in logs if events in path.parents and b"k2-lake" in path.read_bytes()]
    assert told, "an event log in plain text"
    assert [str(path) for path in logs if CANARY.encode() in path.read_bytes()] == []
    assert {name for name, (secret, _) in rows.items() if secret} == set()
    assert sum(plain for _, plain in rows.values()) > 1_000


def verify(kafka, home, environment, password_file):
    """Ask `k2 verify` as an operator would, the broker's settings in the environment."""
    told = {
        "SECURITY_PROTOCOL": "SASL_SSL",
        "USERNAME": kafka.username,
        "PASSWORD_FILE": str(password_file),
        "CA_FILE": str(kafka.ca_file),
    }
    result = subprocess.run(
        [
            *(sys.executable, "-m", "k2_cli", "verify"),
            *("--home", str(home), "--bootstrap", kafka.bootstrap_servers),
        ],
        env=os.environ | environment | {f"K2_KAFKA__{key}": value for key, value in told.items()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return result.returncode, result.stdout + result.stderr


def store_address(store):
    return {"K2_STORE__WAREHOUSE": store.warehouse, "K2_STORE__ENDPOINT": store.endpoint}


def test_verify_with_a_wrong_password_is_one_sentence(kafka, tmp_path):
    """Not a timeout: what the broker said."""
    wrong = tmp_path / "password"
    wrong.write_text("no")
    home = tmp_path / "home"
    ensure_tables(open_catalog(LakeHome(home), create=True), all_tables(["binance"]))
    code, said = verify(kafka, home, {}, wrong)

    assert code == 1
    assert "uthentication failed" in said
    assert "Traceback" not in said


def list_commands():
    """Return every command line of this machine, as anybody can see them."""
    words = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words += process.cmdline()
    return " ".join(words)


def count_rows_with(home, *texts):
    """Return, by table, in how many of its rows each text stands, bytes read as text."""
    found = {}
    with LakeReader(home) as lake:
        for name in lake.sql("SELECT name FROM (SHOW TABLES)").to_arrow()["name"].to_pylist():
            conditions = ", ".join(
                f"count(*) FILTER (WHERE contains(t::VARCHAR, '{text}'))" for text in texts
            )
            row = lake.sql(f"SELECT {conditions} FROM {name} t").to_arrow().to_pylist()[0]
            found[name] = tuple(row.values())
    return found


def read_metadata(home):
    """Yield each table's whole metadata, snapshot summaries and properties among it, as text."""
    lake = Lake(home)
    try:
        for table in lake.load_all().values():
            yield json.dumps(table.metadata.model_dump(mode="json"))
    finally:
        lake.close()


def test_a_secret_in_a_configuration_is_refused(tmp_path: Path):
    """Before anything is connected to; the sentence says where it belongs."""
    for module in ("k2_feed", "k2_lake"):
        code, said = run(module, write_config(tmp_path, [f'password = "{CANARY}"']), {})
        assert code == 1
        assert "K2_KAFKA__PASSWORD" in said
        assert CANARY not in said
