"""What the lake can be told, and how it says that it was told something wrong."""

import io
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from pydantic import ValidationError
from typer.testing import CliRunner, Result

from k2_lake.__main__ import _configure_logging, app
from k2_lake.settings import SchemaSettings, StoreSettings, read_settings

SHARED = """
[kafka]
bootstrap_servers = "kafka.example:9092"

[[exchanges]]
name = "binance"
symbols = ["BTC/USDT", "ETH/USDT"]
url = "ws://127.0.0.1:1/binance"

[lake]
home = "/var/k2"
driver_memory = "2g"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "k2.toml"
    path.write_text(SHARED)
    return path


def problems(config: Path) -> list[str]:
    """Return the dotted names of what pydantic refuses in a file."""
    with pytest.raises(ValidationError) as caught:
        read_settings(config)
    return [".".join(map(str, problem["loc"])) for problem in caught.value.errors()]


def run(config: Path, environment: dict[str, str] | None = None) -> Result:
    """Run `k2-lake` in this process; every case here ends before Spark is even imported."""
    return CliRunner().invoke(app, ["--config", str(config)], env=environment)


def test_the_file_of_both_apps_is_read(config: Path):
    """The lake takes the exchanges' names and its own table; the rest is the feed's."""
    settings = read_settings(config)

    assert ("kafka.example:9092", ["binance"], Path("/var/k2"), "local[2]", "2g", 1.0) == (
        settings.kafka.bootstrap_servers,
        [exchange.name for exchange in settings.exchanges],
        settings.lake.home,
        settings.lake.master,
        settings.lake.driver_memory,
        settings.lake.trigger_s,
    )


def test_the_environment_overrides_one_key_and_keeps_its_neighbours(
    config: Path, monkeypatch: pytest.MonkeyPatch
):
    """K2_LAKE__HOME replaces the home; the memory is still the file's."""
    monkeypatch.setenv("K2_LAKE__HOME", "/srv/other")
    monkeypatch.setenv("K2_LAKE__TRIGGER_S", "0.5")
    settings = read_settings(config)

    assert (Path("/srv/other"), "2g", 0.5) == (
        settings.lake.home,
        settings.lake.driver_memory,
        settings.lake.trigger_s,
    )


def test_a_master_that_is_given_comes_before_file_and_environment(
    config: Path, monkeypatch: pytest.MonkeyPatch
):
    """And nothing else of their table is lost."""
    monkeypatch.setenv("K2_LAKE__MASTER", "local[7]")
    settings = read_settings(config, "spark://here:7077").lake

    assert (settings.master, settings.driver_memory) == ("spark://here:7077", "2g")
    assert read_settings(config).lake.master == "local[7]"


@pytest.mark.parametrize(
    "line",
    [
        '"spark.driver.extraJavaOptions" = "-Djavax.net.ssl.trustStorePassword=hunter2"',
        '"spark.hadoop.fs.s3a.secret.key" = "hunter2"',
        '"spark.executor.extraJavaOptions" = "-Xss4m -Dregistry.token=hunter2"',
    ],
)
def test_a_secret_among_sparks_settings_is_refused_wherever_it_hides(tmp_path: Path, line: str):
    """Spark shows them on its command line, also what a value has in it."""
    config = tmp_path / "k2.toml"
    config.write_text(f'[[exchanges]]\nname = "kraken"\n[lake.spark]\n{line}\n')
    result = run(config)

    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "is a secret, and Spark would show it" in result.stderr
    assert "hunter2" not in result.stderr


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"url": "https://k2:hunter2@registry/apis"}, "must not have a password in it"),
        ({"url": "https://registry", "username": "k2"}, "go together"),
        ({"url": "https://registry", "password": "hunter2"}, "go together"),
    ],
)
def test_the_login_of_a_registry_is_whole_and_not_in_its_url(
    told: dict[str, str], problem: str, monkeypatch: pytest.MonkeyPatch
):
    """Errors and logs show a URL whole."""
    with pytest.raises(ValidationError, match=problem) as refused:
        SchemaSettings.model_validate(told)

    assert "hunter2" not in str(refused.value)


def test_the_login_of_a_registry_reaches_its_client(tmp_path: Path):
    """From a file, as everywhere."""
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    environment = {
        "K2_SCHEMAS__URL": "http://127.0.0.1:9/apis",
        "K2_SCHEMAS__USERNAME": "k2",
        "K2_SCHEMAS__PASSWORD_FILE": str(secret),
    }
    settings = SchemaSettings.from_environment(environment)

    assert settings._client_settings() == {"basic.auth.user.info": "k2:hunter2"}
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("retries = 3", "retries"),
        ("[lake]\nhomes = 'x'", "lake.homes"),
        ("[kafka]\nbootstrap_server = 'typo'", "kafka.bootstrap_server"),
        ("[lake]\ntrigger_s = 0", "lake.trigger_s"),
        ("[lake]\ntrigger_s = 'soon'", "lake.trigger_s"),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_name(tmp_path: Path, line: str, key: str):
    """A misspelt key or an impossible value is an error that names it."""
    config = tmp_path / "k2.toml"
    config.write_text(line + '\n[[exchanges]]\nname = "kraken"\n')

    assert [key] == problems(config)


def test_a_lake_without_exchanges_is_refused(tmp_path: Path):
    """There would be nothing to read."""
    config = tmp_path / "k2.toml"
    config.touch()

    assert problems(config) == ["exchanges"]


def test_a_wrong_key_is_one_sentence(config: Path):
    """As a real process: one sentence naming the key on stderr, exit code 1."""
    config.write_text(SHARED + "memory = '1g'\n")
    result = subprocess.run(
        [sys.executable, "-m", "k2_lake", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (f"k2-lake: {config}: lake.memory: Extra inputs are not permitted\n", "", 1) == (
        result.stderr,
        result.stdout,
        result.returncode,
    )


@pytest.mark.parametrize("content", [b"[lake\n", b'home = "\xff"\n'])
def test_a_file_that_is_not_toml_is_one_sentence(config: Path, content: bytes):
    """Neither broken TOML nor another encoding is a traceback."""
    config.write_bytes(content)
    result = run(config)

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith(f"k2-lake: {config}: not TOML: ")


def test_a_variable_that_is_not_json_is_one_sentence(config: Path):
    """The sentence names the setting."""
    result = run(config, {"K2_LAKE": "here"})

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "lake" in result.stderr.removeprefix("k2-lake")


def test_help_shows_an_example_and_the_tables_of_the_file():
    """--help names the tables that the file has, and a command to copy."""
    result = CliRunner().invoke(app, ["--help"])

    assert result.exit_code == 0
    assert "Example: k2-lake --config k2.toml" in result.stdout
    assert "kafka, exchanges and lake" in " ".join(result.stdout.replace("│", " ").split())


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ('[[exchanges]]\nname = "BINANCE"\n', "pattern"),
        ('[[exchanges]]\nname = "a"\n' * 2, "twice"),
    ],
)
def test_an_exchange_name_that_makes_no_table_is_refused(tmp_path, entries, complaint):
    """Names become table and topic names: lower case, each once."""
    path = tmp_path / "k2.toml"
    path.write_text(entries)

    with pytest.raises(ValidationError, match=complaint):
        read_settings(path)


@pytest.mark.parametrize(
    "lines",
    [
        '[lake.spark]\n"spark.authenticate.secret" = "canary"',
        '[lake.spark]\n"spark.ssl.keyPassword" = "canary"',
        '[lake.spark]\n"spark.sql.catalog.k2.s3.sse.key" = "canary"',
        '[lake.spark]\n"spark.hadoop.fs.azure.account.key.mine" = "canary"',
        '[lake.spark]\n"spark.my.passphrase" = "canary"',
    ],
)
def test_a_secret_of_sparks_own_is_refused(config: Path, lines: str):
    """It would be on the command line that starts the JVM; the sentence names it, not its value."""
    config.write_text(SHARED + lines)
    result = run(config)

    assert result.exit_code == 1
    assert "SPARK_CONF_DIR" in result.stderr
    assert "canary" not in result.stderr


def test_a_path_to_a_key_store_is_no_secret(config: Path):
    """Only what opens it is."""
    config.write_text(SHARED + '[lake.spark]\n"spark.ssl.keyStore" = "/etc/keys.p12"')

    assert read_settings(config).lake.spark == {"spark.ssl.keyStore": "/etc/keys.p12"}


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"username": "me", "password": "x", "url": "http://registry.example"}, "https:// url"),
        ({"username": "me", "password": "x"}, "https:// url"),
        ({"ca_file": "/ca.pem", "url": "http://127.0.0.1:8080"}, "ca_file is of no use"),
        ({"username": "me", "password": "", "url": "https://registry.example"}, "go together"),
    ],
)
def test_a_login_at_a_registry_is_not_sent_in_the_clear(told: dict[str, str], complaint: str):
    """Nor is an authority named for nothing."""
    with pytest.raises(ValidationError, match=complaint):
        SchemaSettings.model_validate(told)


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"access_key": "a"}, "go together"),
        ({"access_key": "a", "secret_key": ""}, "go together"),
        ({"endpoint": "http://me:secret@store:9000"}, "must not have a password"),
    ],
)
def test_half_a_key_is_nobody(told: dict[str, str], complaint: str):
    """The AWS chain would be asked for somebody else, in silence."""
    with pytest.raises(ValidationError, match=complaint) as caught:
        StoreSettings.model_validate({"warehouse": "s3://b/w"} | told)
    assert "me:secret" not in str(caught.value)


def test_metrics_that_cannot_be_served_are_one_sentence(config: Path):
    """Before Spark is started, and with the setting to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config.write_text(SHARED + f"metrics_port = {port}\n")
        result = run(config)

    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert f"127.0.0.1:{port}" in result.stderr
    assert "lake.metrics_port" in result.stderr


def test_a_secret_among_java_options_is_refused(config: Path):
    """As among Spark's settings."""
    config.write_text(SHARED + 'java_options = ["-Djavax.net.ssl.trustStorePassword=canary"]')
    result = run(config)

    assert result.exit_code == 1
    assert "trustStorePassword is a secret" in result.stderr
    assert "canary" not in result.stderr


def test_schemas_can_come_from_the_environment_alone():
    """For commands that have no file: the same names as everywhere."""
    told = {"K2_SCHEMAS__URL": "http://127.0.0.1:8080", "K2_SCHEMAS__FOLDER": ""}

    assert SchemaSettings.from_environment(told) == SchemaSettings(url="http://127.0.0.1:8080")


def test_a_traceback_on_a_terminal_shows_no_variables(monkeypatch: pytest.MonkeyPatch):
    """The environment is one of them."""
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    monkeypatch.setattr(written, "isatty", lambda: True, raising=False)
    _configure_logging()
    secret = "canary" + "-in-a-variable"
    try:
        int(secret[:0])
    except ValueError:
        structlog.get_logger().error("failed", exc_info=True)
    structlog.reset_defaults()

    assert "ValueError: invalid literal" in written.getvalue()
    assert "canary-in-a-variable" not in written.getvalue()
