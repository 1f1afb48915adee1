"""Settings of the lake: one TOML file plus `K2_…` environment variables, checked at start."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from k2_medallion import ObjectStore
from k2_medallion.spark import SECRET_NAMES
from k2_schemas import FileRegistry, ServerRegistry
from k2_schemas.address import is_loopback
from k2_schemas.registry import Registry
from k2_schemas.settings import KafkaSettings, read_secret, refuse_secrets

_SECRET = re.compile(SECRET_NAMES)


class ExchangeSettings(BaseModel):
    """One exchange. The lake needs its name; the rest of the entry is the feed's."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")


class DriverSettings(BaseModel):
    """Where the tables are, what Spark may use, and how the flows are cut.

    `spark` are settings of Spark's own, for a cluster: `"spark.executor.memory" = "2g"`; options of
    Java and what Spark redacts are added to ours.
    `driver_host` is the address at which its executors reach this process; on this machine alone
    nobody else can. `trigger_s` is the time between batches. `topology` is one flow per exchange
    for all tables (fused), or one each for Bronze, Silver and Gold (staged); changing it loses
    nothing. With `accept_lost_offsets` the lake goes on after records that Kafka deleted before
    they were read. Without `metrics_port` nothing listens.
    """

    model_config = ConfigDict(extra="forbid")

    home: Path = Path(".k2")
    master: str = "local[2]"
    driver_memory: str = "1g"
    driver_host: str = "127.0.0.1"
    spark: dict[str, str] = {}
    java_options: list[str] = []
    trigger_s: float = Field(default=1.0, gt=0)
    topology: Literal["fused", "staged"] = "fused"
    maintenance: bool = True
    monitor: bool = True
    accept_lost_offsets: bool = False
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(default=None, ge=1, le=65_535)

    @model_validator(mode="after")
    def _refuse_secrets(self) -> DriverSettings:
        words = [
            *self.java_options,
            *(word for text in self.spark.values() for word in text.split()),
        ]
        options = [word.partition("=")[0] for word in words if word.startswith("-")]
        for setting in [*self.spark, *options]:
            if _SECRET.search(setting):
                raise ValueError(
                    f"{setting} is a secret, and Spark would show it on its command line: take it "
                    "out, and give it to Spark by a file of its own (SPARK_CONF_DIR)"
                )
        return self


class StoreSettings(BaseModel):
    """An object store that holds the tables' files, instead of the home's folder.

    `warehouse` is an `s3://bucket/prefix`, `endpoint` the URL of a server that is not Amazon's. The
    keys are `access_key` and `secret_key` in the environment (`K2_STORE__SECRET_KEY`), or the
    contents of `access_key_file` and `secret_key_file`; without any, the AWS chain is asked.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    warehouse: str = Field(pattern=r"^s3://[^/]+/.+")
    endpoint: str | None = None
    region: str = "us-east-1"
    access_key: SecretStr | None = None
    access_key_file: Path | None = None
    secret_key: SecretStr | None = None
    secret_key_file: Path | None = None

    @model_validator(mode="after")
    def _read_files(self) -> StoreSettings:
        if not self.access_key and self.access_key_file is not None:
            self.access_key = read_secret(self.access_key_file)
        if not self.secret_key and self.secret_key_file is not None:
            self.secret_key = read_secret(self.secret_key_file)
        if bool(self.access_key) != bool(self.secret_key):
            # With one alone, whoever the AWS chain names would be asked for, and nobody would know.
            raise ValueError("access_key and secret_key go together")
        _refuse_login("endpoint", self.endpoint)
        return self

    def open(self) -> ObjectStore:
        """Return the store."""
        keys = [None if key is None else key.get_secret_value() for key in self._keys]
        return ObjectStore(self.warehouse, self.endpoint, self.region, *keys)

    @property
    def _keys(self) -> tuple[SecretStr | None, SecretStr | None]:
        return self.access_key, self.secret_key


class SchemaSettings(BaseModel):
    """Which schemas frames may carry.

    A folder with a lock file, instead of the one that ships with k2-schemas; a registry's URL, to
    be asked for ids that the lock file does not know. Both are looked at again when an unknown id
    turns up. Who the registry asks for a name gets `username` and the password, which is `password`
    in the environment (`K2_SCHEMAS__PASSWORD`) or the content of `password_file`; `ca_file` (PEM)
    names who may vouch for it.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    folder: Path | None = None
    url: str | None = None
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> SchemaSettings:
        _refuse_login("url", self.url)
        if not self.password and self.password_file is not None:
            self.password = read_secret(self.password_file)
        if bool(self.username) != bool(self.password):
            raise ValueError("username and password go together")
        # Fail closed: who names an authority or a password does not mean to speak in the clear.
        has_tls = self.url is not None and urlsplit(self.url).scheme == "https"
        if self.ca_file is not None and not has_tls:
            raise ValueError("ca_file is of no use without an https:// url")
        if self.username and not (has_tls or (self.url is not None and is_loopback(self.url))):
            raise ValueError("a password is for an https:// url: anybody in between could read it")
        return self

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> SchemaSettings:
        """Return what `K2_SCHEMAS__FOLDER`, `…URL` and the others say, without a file."""
        told = {name: environment.get(f"K2_SCHEMAS__{name.upper()}") for name in cls.model_fields}
        return cls.model_validate({name: value for name, value in told.items() if value})

    def open(self) -> Registry:
        """Return the registry."""
        folder = self.folder
        lock = FileRegistry.packaged() if folder is None else FileRegistry.from_folder(folder)
        if self.url is None:
            return lock
        return ServerRegistry(self.url, lock, client_settings=self._client_settings())

    def _client_settings(self) -> dict[str, str]:
        told = {}
        if self.username is not None and self.password is not None:
            told["basic.auth.user.info"] = f"{self.username}:{self.password.get_secret_value()}"
        if self.ca_file is not None:
            told["ssl.ca.location"] = str(self.ca_file)
        return told


def _refuse_login(name: str, url: str | None) -> None:
    if url is not None and "@" in urlsplit(url).netloc:
        raise ValueError(
            f"{name} must not have a password in it, which logs would show: name the user by its "
            "own setting, and the password in the environment or in a file"
        )


class LakeSettings(BaseSettings):
    """Everything the lake can be told. `feed` and `metrics` belong to k2-feed."""

    model_config = SettingsConfigDict(
        env_prefix="K2_", env_nested_delimiter="__", extra="forbid", toml_file=None
    )

    kafka: KafkaSettings = KafkaSettings()
    exchanges: list[ExchangeSettings] = Field(min_length=1)
    lake: DriverSettings = DriverSettings()
    schemas: SchemaSettings = SchemaSettings()
    store: StoreSettings | None = None
    feed: dict[str, Any] = {}
    metrics: dict[str, Any] = {}

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


def read_settings(path: Path, master: str | None = None) -> LakeSettings:
    """Read the settings from a TOML file and the environment; pydantic names what is wrong.

    `master`, if given, is taken for `[lake] master`. Raises `k2_schemas.SecretInTextError` for a
    secret in the file.
    """
    refuse_secrets(path, tomllib.loads(path.read_text(encoding="utf-8")))

    class FromFile(LakeSettings):
        model_config = SettingsConfigDict(toml_file=path)

    # What is given here comes before environment and file, key by key.
    given: dict[str, Any] = {} if master is None else {"lake": {"master": master}}
    return FromFile(**given)
