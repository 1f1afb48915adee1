"""Settings of the feed: one TOML file plus `K2_…` environment variables, checked at start."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from k2_connectors import DRAIN_S, FLUSH_S, MAX_BACKFILL_TRADES, TransportName
from k2_schemas.address import is_loopback
from k2_schemas.settings import KafkaSettings, refuse_secrets


class ExchangeSettings(BaseModel):
    """One exchange: its name and its canonical symbols.

    `url` and `rest_url` replace its own hosts. Without TLS they must be this machine's, unless
    `plaintext` says that it is meant: whoever is in between could make up trades.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    symbols: list[str] = Field(min_length=1)
    url: str | None = None
    rest_url: str | None = None
    plaintext: bool = False

    @model_validator(mode="after")
    def _require_tls(self) -> ExchangeSettings:
        for url in filter(None, (self.url, self.rest_url)):
            has_tls = urlsplit(url).scheme in ("wss", "https")
            if not (has_tls or self.plaintext or is_loopback(url)):
                raise ValueError(
                    f"{url} is not TLS: give a wss:// or https:// URL, or set plaintext = true "
                    "where nobody can be in between"
                )
        return self


class ContinuitySettings(BaseModel):
    """How the feed stays complete.

    `checkpoint` is the file of positions: without one a restart begins live. `connections` is the
    number of redundant sockets per exchange. `contiguity = false` passes trades as they come: for
    recordings, whose ids repeat and jump. Of a hole of more than `max_backfill_trades` the oldest
    are given up. `drain_s` is how long a feed that is told to stop may go on fetching what it
    misses, `flush_s` how long it then waits for Kafka. `transport` is the library of the sockets;
    `record` is the folder that every frame is written to, as it came.
    """

    model_config = ConfigDict(extra="forbid")

    checkpoint: Path | None = None
    contiguity: bool = True
    backfill: bool = True
    connections: int = Field(default=1, ge=1, le=4)
    max_backfill_trades: int = Field(default=MAX_BACKFILL_TRADES, ge=0)
    drain_s: float = Field(default=DRAIN_S, ge=0)
    flush_s: float = Field(default=FLUSH_S, ge=0)
    transport: TransportName = "websockets"
    record: Path | None = None


class MetricsSettings(BaseModel):
    """Where Prometheus may scrape; without a port nothing listens."""

    model_config = ConfigDict(extra="forbid")

    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=1, le=65_535)


class FeedSettings(BaseSettings):
    """Everything the feed can be told. The other tables are k2-lake's, which shares the file."""

    model_config = SettingsConfigDict(
        env_prefix="K2_", env_nested_delimiter="__", extra="forbid", toml_file=None
    )

    kafka: KafkaSettings = KafkaSettings()
    exchanges: list[ExchangeSettings] = Field(min_length=1)
    metrics: MetricsSettings = MetricsSettings()
    feed: ContinuitySettings = ContinuitySettings()
    lake: dict[str, Any] = Field(default_factory=dict)
    store: dict[str, SecretStr] = Field(default_factory=dict)
    schemas: dict[str, SecretStr] = Field(default_factory=dict)

    @field_validator("exchanges")
    @classmethod
    def _name_each_once(cls, exchanges: list[ExchangeSettings]) -> list[ExchangeSettings]:
        names = [exchange.name for exchange in exchanges]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} is listed twice; put all its symbols into one entry")
        return exchanges

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment first, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def read_settings(path: Path) -> FeedSettings:
    """Read the settings from a TOML file and the environment; pydantic names what is wrong.

    Raises `k2_schemas.SecretInTextError` for a secret in the file.
    """
    refuse_secrets(path, tomllib.loads(path.read_text(encoding="utf-8")))

    class FromFile(FeedSettings):
        model_config = SettingsConfigDict(toml_file=path)

    return FromFile()  # type: ignore[call-arg]
