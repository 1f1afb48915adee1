"""How Kafka is reached: one definition for both clients, and no secret in a text."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from k2_schemas import SecretInTextError
from k2_schemas.settings import KafkaSettings, refuse_secrets

SASL = {"security_protocol": "SASL_SSL", "username": "k2", "password": 'p"w\\d'}
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----"


def test_without_more_it_is_this_machines_plain_broker():
    """What the local stack has."""
    settings = KafkaSettings()

    assert settings.librdkafka_settings() == {"security.protocol": "PLAINTEXT"}
    assert settings.java_settings() == {
        "bootstrap.servers": "127.0.0.1:9092",
        "security.protocol": "PLAINTEXT",
    }


def test_both_clients_are_told_the_same(tmp_path: Path):
    """User, password and authority; Java's line is quoted, its certificates are text."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(f"Autorité de test\n{CERTIFICATE}\n\nanother\n{CERTIFICATE}\n", "utf-8")
    settings = KafkaSettings(**SASL, ca_file=ca_file)

    assert settings.librdkafka_settings() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "k2",
        "sasl.password": 'p"w\\d',
        "ssl.ca.location": str(ca_file),
    }
    java = settings.java_settings()
    assert java["sasl.jaas.config"] == (
        "org.apache.kafka.common.security.scram.ScramLoginModule required "
        'username="k2" password="p\\"w\\\\d";'
    )
    assert java["ssl.truststore.certificates"] == f"{CERTIFICATE}\n{CERTIFICATE}"


def test_a_password_can_be_a_files_content(tmp_path: Path):
    """Without the end of its line."""
    path = tmp_path / "password"
    path.write_text("secret\n")
    settings = KafkaSettings(security_protocol="SASL_SSL", username="k2", password_file=path)

    assert settings.librdkafka_settings()["sasl.password"] == "secret"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"security_protocol": "SASL_SSL", "username": "k2"}, "K2_KAFKA__PASSWORD"),
        ({"username": "k2", "password": "x"}, "of no use to PLAINTEXT"),
        ({"ca_file": "/etc/k2/ca.pem"}, "of no use to PLAINTEXT"),
        ({"security_protocol": "SSL", "password": "x"}, "of no use to SSL"),
        ({"password_file": "/no/such/file"}, "/no/such/file"),
        ({"security_protocol": "SSL", "ca_file": "/no/such/file"}, "/no/such/file: No such file"),
        ({"user": "k2"}, "Extra inputs"),
    ],
)
def test_what_is_wrong_is_said_at_the_start(wrong: dict[str, str], said: str):
    """Before anything is connected to."""
    with pytest.raises(ValidationError, match=said):
        KafkaSettings(**wrong)


def test_an_authority_that_is_not_pem_is_said_at_the_start(tmp_path: Path):
    """A DER file is bytes that no client of Java takes as text."""
    path = tmp_path / "ca.der"
    path.write_bytes(b"0\x82\x03\xff")
    with pytest.raises(ValidationError, match="holds no certificate in PEM form"):
        KafkaSettings(security_protocol="SSL", ca_file=path)


def test_a_secret_is_in_no_text_of_the_settings(tmp_path: Path):
    """Not when they are printed, and not when something else in them is wrong."""
    with pytest.raises(ValidationError) as caught:
        KafkaSettings(**SASL, ca_file=tmp_path / "none")

    assert 'p"w' not in repr(KafkaSettings(**SASL)) + str(caught.value)


def test_a_secret_in_a_configurations_text_is_refused(tmp_path: Path):
    """The sentence names the variable and the key that take its place."""
    for table, key in (("kafka", "password"), ("store", "access_key"), ("store", "secret_key")):
        with pytest.raises(SecretInTextError, match=f"K2_{table}__{key}".upper()) as caught:
            refuse_secrets(tmp_path / "k2.toml", {table: {key: "x"}})

        assert f"{table}.{key}_file" in str(caught.value)
