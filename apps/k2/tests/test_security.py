"""What is open to others is found, with the command that closes it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from k2_cli.doctor import Finding
from k2_cli.security import examine_security
from k2_medallion.jvm import spark_jars

SUBJECTS = [
    "Home",
    "Configurations",
    "Secret files",
    "Listeners",
    "Kafka",
    "URLs",
    "Java libraries",
]


def find(subject: str, home: Path, **environment: str) -> Finding:
    """Examine a home and return one finding."""
    findings = {f.subject: f for f in examine_security(home, home / "cache", environment)}
    assert list(findings) == SUBJECTS
    return findings[subject]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_home_that_is_not_there_has_nothing_open(tmp_path: Path, subject: str):
    """All is well, and the command's exit code is 0."""
    assert find(subject, tmp_path / "home").well


def test_a_home_that_anybody_may_write_is_found(tmp_path: Path):
    """The cure is a chmod of it."""
    tmp_path.chmod(0o777)
    assert find("Home", tmp_path).cure == f"chmod -R o-w '{tmp_path}'"


def test_a_secret_in_a_configuration_is_found(tmp_path: Path):
    """The file and the setting are named, the secret is not."""
    (tmp_path / "k2.toml").write_text('[kafka]\npassword = "canary"\n')
    finding = find("Configurations", tmp_path)
    assert finding.found == "k2.toml holds kafka.password"
    assert "K2_KAFKA__PASSWORD" in finding.cure
    assert "canary" not in finding.found + finding.cure


def test_a_secret_file_that_others_can_read_is_found(tmp_path: Path):
    """Only what the environment names is looked at."""
    path = tmp_path / "password"
    path.write_text("x")
    path.chmod(0o644)
    assert find("Secret files", tmp_path, K2_KAFKA__PASSWORD_FILE=str(path)).cure == (
        f"chmod 600 '{path}'"
    )
    path.chmod(0o600)
    assert find("Secret files", tmp_path, K2_KAFKA__PASSWORD_FILE=str(path)).well


def test_a_home_at_work_is_looked_at_while_its_files_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Kafka's segments and the tables' files vanish between being listed and being looked at."""
    gone = tmp_path / "segment"
    gone.write_text("x")
    gone.chmod(0o666)
    monkeypatch.setattr(Path, "rglob", lambda path, _: iter([path / "vanished", gone]))

    assert find("Home", tmp_path).found.endswith("1 of its places can be written by anybody")


def test_a_table_that_is_none_is_no_traceback(tmp_path: Path):
    """Some other program's file, in the folder where we are asked."""
    (tmp_path / "k2.toml").write_text("kafka = 5\nlake = [1]\nexchanges = 'none'\n")

    assert all(finding.well for finding in examine_security(tmp_path, tmp_path / "cache", {}))


def test_only_the_files_that_are_named_are_looked_at(tmp_path: Path):
    """In an image the configuration is elsewhere."""
    (tmp_path / "k2.toml").write_text('[kafka]\npassword = "canary"\n')
    other = tmp_path / "elsewhere" / "mine.toml"
    other.parent.mkdir()
    other.write_text('[lake]\nmetrics_host = "0.0.0.0"\n')
    findings = {f.subject: f for f in examine_security(tmp_path, tmp_path / "cache", {}, [other])}

    assert findings["Configurations"].well
    assert findings["Listeners"].cure.endswith(f"lake.metrics_host of {other}")


def test_files_of_one_name_are_all_looked_at(tmp_path: Path):
    """Each exchange has a k2.toml in a folder of its own."""
    paths = [tmp_path / folder / "k2.toml" for folder in ("one", "two")]
    for path, host in zip(paths, ("0.0.0.0", "127.0.0.1"), strict=True):
        path.parent.mkdir()
        path.write_text(f'[lake]\nmetrics_host = "{host}"\n')
    findings = {f.subject: f for f in examine_security(tmp_path, tmp_path / "cache", {}, paths)}

    assert str(paths[0]) in findings["Listeners"].cure


@pytest.mark.parametrize(
    "text",
    [
        "[lake\npassword = 'x'",
        '[lake.spark]\n"spark.hadoop.fs.s3a.secret.key" = "canary"',
        '[lake.spark]\n"spark.hadoop.fs.azure.account.key.mine" = "canary"',
        '[schemas]\nurl = "https://me:canary@registry.example"',
        '[store]\nendpoint = "https://me:canary@store.example"',
    ],
)
def test_what_may_hold_a_secret_is_not_well(tmp_path: Path, text: str):
    """A file that cannot be read is not one without secrets."""
    (tmp_path / "k2.toml").write_text(text)
    finding = find("Configurations", tmp_path)

    assert not finding.well
    assert "k2.toml" in finding.found
    assert "canary" not in finding.found + finding.cure


@pytest.mark.parametrize(
    ("text", "open_one"),
    [
        ('[store]\nendpoint = "http://minio.example:9000"', "http://minio.example:9000"),
        ('[schemas]\nurl = "http://registry.example"', "http://registry.example"),
        ('[[exchanges]]\nname = "kraken"\nurl = "ws://kraken.example"', "ws://kraken.example"),
        ('[[exchanges]]\nrest_url = "http://kraken.example"', "http://kraken.example"),
        ('[store]\nendpoint = "http://127.0.0.1:9000"', None),
        ('[schemas]\nurl = "https://registry.example"', None),
    ],
)
def test_what_is_spoken_to_in_the_clear_is_found(tmp_path: Path, text: str, open_one: str | None):
    """Beyond this machine, and whatever its protocol."""
    (tmp_path / "k2.toml").write_text(text)
    finding = find("URLs", tmp_path)

    assert finding.well is (open_one is None)
    assert open_one is None or finding.cure.endswith(open_one)


@pytest.mark.parametrize(
    "told",
    [
        {"K2_LAKE": '{"metrics_host": "0.0.0.0"}'},
        {"K2_LAKE__SPARK": '{"spark.driver.bindAddress": "0.0.0.0"}'},
        {"k2_lake__metrics_host": "0.0.0.0"},
    ],
)
def test_the_environment_is_read_as_programs_read_it(tmp_path: Path, told: dict[str, str]):
    """Tables as JSON, and names in either case."""
    assert not find("Listeners", tmp_path, **told).well


@pytest.mark.parametrize(
    "setting",
    [
        "K2_METRICS__HOST",
        "K2_LAKE__METRICS_HOST",
        "K2_LAKE__DRIVER_HOST",
    ],
)
def test_what_the_environment_lets_listen_is_found(tmp_path: Path, setting: str):
    """Without a file, and before one."""
    assert not find("Listeners", tmp_path, **{setting: "0.0.0.0"}).well
    table = "metrics" if "METRICS__" in setting else "lake"
    key = setting.rpartition("__")[2].lower()
    (tmp_path / "k2.toml").write_text(f'[{table}]\n{key} = "0.0.0.0"\n')
    assert find("Listeners", tmp_path, **{setting: "127.0.0.1"}).well


@pytest.mark.parametrize(
    "line", ['"spark.ui.enabled" = "true"', '"spark.driver.bindAddress" = "0.0.0.0"']
)
def test_what_spark_is_told_to_open_is_found(tmp_path: Path, line: str):
    """Its page shows what is running to whoever asks."""
    (tmp_path / "k2.toml").write_text(f"[lake.spark]\n{line}\n")

    assert not find("Listeners", tmp_path).well


def note(pid: int, age_s: float = 0) -> str:
    """Return what the stack notes of a process of its own."""
    return json.dumps({"pid": pid, "born": psutil.Process(pid).create_time() - age_s})


@pytest.mark.parametrize(
    ("address", "is_well"),
    [("127.0.0.1", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False), ("::", False)],
)
def test_a_process_that_listens_beyond_this_machine_is_found(
    tmp_path: Path, address: str, is_well: bool
):
    """Of the processes that this home's stack has noted; a JVM's sockets are of version six."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as server:
        server.bind((address, 0))
        server.listen()
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "lake.json").write_text(note(os.getpid()))
        finding = find("Listeners", tmp_path)
        assert finding.well == is_well
        assert is_well or f"{address}:{server.getsockname()[1]}" in finding.cure


def test_another_process_of_the_same_number_is_not_ours(tmp_path: Path):
    """Numbers are used again."""
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "lake.json").write_text(note(os.getpid(), age_s=100))
        assert find("Listeners", tmp_path).well


@pytest.mark.parametrize("setting", ["[metrics]\nhost", "[lake]\nmetrics_host"])
def test_a_configuration_that_asks_for_more_than_this_machine_is_found(
    tmp_path: Path, setting: str
):
    """Also of a program that is not running."""
    (tmp_path / "k2.toml").write_text(f'{setting} = "0.0.0.0"\n')
    assert "k2.toml" in find("Listeners", tmp_path).cure
    (tmp_path / "k2.toml").write_text(f'{setting} = "127.0.0.1"\n')
    assert find("Listeners", tmp_path).well


def test_a_secret_file_that_a_configuration_names_is_looked_at(tmp_path: Path):
    """The authority's certificate beside it is for everybody."""
    path, authority = tmp_path / "password", tmp_path / "ca.pem"
    for file in (path, authority):
        file.write_text("x")
        file.chmod(0o644)
    text = f'[kafka]\npassword_file = "{path}"\nca_file = "{authority}"\n'
    (tmp_path / "k2.toml").write_text(text)
    finding = find("Secret files", tmp_path, K2_KAFKA__CA_FILE=str(authority))
    assert finding.cure == f"chmod 600 '{path}'"


def test_a_far_kafka_of_a_configuration_is_found(tmp_path: Path):
    """What the environment says comes before it."""
    (tmp_path / "k2.toml").write_text('[kafka]\nbootstrap_servers = "kafka.example:9092"\n')
    assert "kafka.example" in find("Kafka", tmp_path).cure
    assert find("Kafka", tmp_path, K2_KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:9092").well


def test_a_far_kafka_without_tls_is_found(tmp_path: Path):
    """On this machine nobody else can listen in."""
    far = {"K2_KAFKA__BOOTSTRAP_SERVERS": "kafka.example:9092"}
    assert not find("Kafka", tmp_path, **far).well
    assert find("Kafka", tmp_path, **far, K2_KAFKA__SECURITY_PROTOCOL="SASL_SSL").well


def test_a_jar_that_somebody_changed_is_found(tmp_path: Path):
    """By its whole content, not by its size."""
    jar = spark_jars()[0]
    path = tmp_path / "cache" / "jars" / jar.file_name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * jar.size_bytes)
    assert find("Java libraries", tmp_path).cure == f"rm '{path}'"


def test_the_command_says_it(tmp_path: Path):
    """`k2 doctor --security` ends with 1 when something is open."""
    tmp_path.chmod(0o777)
    command = [sys.executable, "-m", "k2_cli", "doctor", "--security", "--home", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "chmod" in result.stdout
