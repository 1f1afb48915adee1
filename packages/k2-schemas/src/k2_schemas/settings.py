"""Settings: how Kafka is reached, once for both sides of it (extra `settings`: pydantic).

A secret is given in the environment or in a file of its own, never in the configuration's text,
which is copied, mailed and committed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from .errors import MissingExtraError, SecretInTextError

try:
    from pydantic import BaseModel, ConfigDict, SecretStr, model_validator
except ImportError:
    raise MissingExtraError("pydantic", "settings") from None

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

SECRETS = ("kafka.password", "schemas.password", "store.access_key", "store.secret_key")
"""Refused in a configuration's text, whichever program reads it."""

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

_JAAS = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}


class KafkaSettings(BaseModel):
    """Where Kafka is, and who we are to it.

    `ca_file` (PEM) names who may vouch for the broker, if not those the machine trusts. The
    password is `password` in the environment (`K2_KAFKA__PASSWORD`), or the content of
    `password_file`.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    bootstrap_servers: str = "127.0.0.1:9092"
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: Mechanism = "SCRAM-SHA-512"
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> KafkaSettings:
        if not self.password and self.password_file is not None:
            self.password = read_secret(self.password_file)
        # Fail closed: who names an authority or a password does not mean to speak in the clear.
        if self.ca_file is not None and not self._has_tls:
            raise ValueError(
                f"ca_file is of no use to {self.security_protocol}: set security_protocol to SSL "
                "or SASL_SSL"
            )
        if (self.username or self.password) and not self._has_sasl:
            raise ValueError(
                f"username and password are of no use to {self.security_protocol}: set "
                "security_protocol to SASL_SSL"
            )
        if self._has_sasl and not (self.username and self.password):
            raise ValueError(
                f"{self.security_protocol} needs username, and a password: set "
                "K2_KAFKA__PASSWORD, or name a password_file"
            )
        if self.ca_file is not None:
            _read_certificates(self.ca_file)
        return self

    @property
    def _has_sasl(self) -> bool:
        return self.security_protocol.startswith("SASL")

    @property
    def _has_tls(self) -> bool:
        return self.security_protocol.endswith("SSL")

    def librdkafka_settings(self) -> dict[str, str | int | bool]:
        """Return what confluent-kafka's clients are told, but for the bootstrap servers."""
        told: dict[str, str | int | bool] = {"security.protocol": self.security_protocol}
        if self._has_sasl:
            assert self.username is not None, "checked when made"
            assert self.password is not None, "checked when made"
            told |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.username,
                "sasl.password": self.password.get_secret_value(),
            }
        if self._has_tls and self.ca_file is not None:
            told["ssl.ca.location"] = str(self.ca_file)
        return told

    def java_settings(self) -> dict[str, str]:
        """Return what Java's clients are told, the bootstrap servers among it.

        The certificates go as text: an executor on another machine does not have the file.
        """
        told = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol,
        }
        if self._has_sasl:
            assert self.username is not None, "checked when made"
            assert self.password is not None, "checked when made"
            user, password = _quote(self.username), _quote(self.password.get_secret_value())
            told |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.jaas.config": f"{_JAAS[self.sasl_mechanism]} required "
                f"username={user} password={password};",
            }
        if self._has_tls and self.ca_file is not None:
            told |= {
                "ssl.truststore.type": "PEM",
                "ssl.truststore.certificates": _read_certificates(self.ca_file),
            }
        return told


def read_secret(path: Path) -> SecretStr:
    """Return a secret that is a file's content, without the line's end; `ValueError` if none is."""
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from error
    if not secret:
        raise ValueError(f"{path} is empty")
    return SecretStr(secret)


def refuse_secrets(path: Path, document: Mapping[str, Any]) -> None:
    """Raise `SecretInTextError` if a configuration has one of `SECRETS` in its text."""
    for name in SECRETS:
        table, key = name.split(".")
        found = document.get(table)
        if isinstance(found, Mapping) and key in found:
            raise SecretInTextError(path, name)


def _read_certificates(path: Path) -> str:
    """Return a file's PEM certificates, without what is written between them."""
    try:
        found = _CERTIFICATE.findall(path.read_bytes())
    except OSError as error:
        raise ValueError(f"ca_file {path}: {error.strerror or error}") from error
    if not found:
        raise ValueError(f"ca_file {path} holds no certificate in PEM form")
    return b"\n".join(found).decode("ascii", "replace")


def _quote(text: str) -> str:
    """Quote a value of a JAAS line."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
