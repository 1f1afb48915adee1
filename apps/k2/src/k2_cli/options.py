"""Options that more than one command takes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from k2_medallion import LakeHome, ObjectStore

from .errors import SettingsError

if TYPE_CHECKING:
    from k2_lake.settings import SchemaSettings

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"

Home = Annotated[Path, typer.Option(help="Folder of the lake: tables, Kafka's data, ledger, logs.")]

Bootstrap = Annotated[
    str,
    typer.Option(help="Kafka's address, host:port.", envvar="K2_KAFKA__BOOTSTRAP_SERVERS"),
]


ClientSettings = Mapping[str, str | int | bool]
"""What confluent-kafka's clients are told beside the address."""

_KAFKA, _SCHEMAS = "K2_KAFKA__", "K2_SCHEMAS__"


def read_client_settings(environment: Mapping[str, str]) -> ClientSettings:
    """Return how Kafka is spoken to: `K2_KAFKA__SECURITY_PROTOCOL` and the others of k2-lake.

    Raises `SettingsError` for those that do not fit together.
    """
    # Half a second of pydantic, for those alone who ask Kafka.
    from k2_schemas.settings import KafkaSettings

    told = {
        name.removeprefix(_KAFKA).lower(): value
        for name, value in environment.items()
        if name.startswith(_KAFKA)
    }
    with _name_variables(_KAFKA):
        return KafkaSettings.model_validate(told).librdkafka_settings()


def read_schema_settings(environment: Mapping[str, str]) -> SchemaSettings:
    """Return where schemas are that do not ship with k2-schemas: `K2_SCHEMAS__URL` and others.

    Raises `SettingsError` for those that do not fit together.
    """
    from k2_lake.settings import SchemaSettings

    with _name_variables(_SCHEMAS):
        return SchemaSettings.from_environment(environment)


@contextmanager
def _name_variables(prefix: str) -> Iterator[None]:
    """Raise what is wrong with settings from the environment under the variable's name."""
    from pydantic import ValidationError

    try:
        yield
    except ValidationError as error:
        problem = error.errors()[0]
        place = "".join(f"{prefix}{part}".upper() for part in problem["loc"])
        raise SettingsError(place or f"{prefix}*", problem["msg"]) from None


def make_time_option(name: str, what: str) -> Any:
    """Return an option that is a date or a time in ISO 8601, in UTC unless it says otherwise."""
    return typer.Option(name, parser=_parse_time, metavar="TIME", help=what)


def _parse_time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no date or time, as 2026-11-23 or 2026-11-23T10:30+01:00"
        ) from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def open_home(path: Path) -> LakeHome:
    """Return a lake's home, with the object store that the environment names (`K2_STORE__…`)."""
    return LakeHome(path, ObjectStore.from_environment(os.environ))
