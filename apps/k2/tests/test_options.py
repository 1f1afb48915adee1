"""Options: what the environment says of Kafka reaches librdkafka, or is one sentence."""

import pytest

from k2_cli.errors import SettingsError
from k2_cli.options import read_client_settings, read_schema_settings


def test_the_variables_of_the_lake_are_those_of_the_command(tmp_path):
    """The same names, the same files; the address is an option of its own."""
    password, ca = tmp_path / "password", tmp_path / "ca.pem"
    password.write_text("secret\n")
    ca.write_text("-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n")
    environment = {
        "K2_KAFKA__BOOTSTRAP_SERVERS": "kafka:9093",
        "K2_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "K2_KAFKA__USERNAME": "k2",
        "K2_KAFKA__PASSWORD_FILE": str(password),
        "K2_KAFKA__CA_FILE": str(ca),
        "K2_STORE__ENDPOINT": "http://store",
    }

    assert read_client_settings(environment) == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "k2",
        "sasl.password": "secret",
        "ssl.ca.location": str(ca),
    }


def test_nothing_said_is_a_plain_listener():
    """As k2-lake has it."""
    assert read_client_settings({}) == {"security.protocol": "PLAINTEXT"}


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SECURITY_PROTOCOL", "TLS", "K2_KAFKA__SECURITY_PROTOCOL"),
        ("USER", "me", "K2_KAFKA__USER"),
        ("SECURITY_PROTOCOL", "SASL_SSL", "K2_KAFKA__PASSWORD"),
    ],
)
def test_what_does_not_fit_is_named(name: str, value: str, told: str):
    """The variable to mend is in the sentence."""
    with pytest.raises(SettingsError, match=told):
        read_client_settings({f"K2_KAFKA__{name}": value})


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"USERNAME": "me"}, r"K2_SCHEMAS__\*: username and password go together"),
        ({"URL": "http://me:secret@host"}, r"K2_SCHEMAS__\*: url must not have a password in it"),
    ],
)
def test_schemas_that_do_not_fit_are_one_sentence(told: dict[str, str], said: str):
    """Without the secret that stands in the URL."""
    environment = {f"K2_SCHEMAS__{name}": value for name, value in told.items()}
    with pytest.raises(SettingsError, match=said) as caught:
        read_schema_settings(environment)
    assert "secret" not in str(caught.value).replace("a secret", "")
