"""Options that more than one command takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_BOOTSTRAP = "127.0.0.1:9092"

Home = Annotated[Path, typer.Option(help="Folder of the lake: tables, Kafka's data, ledger, logs.")]

Bootstrap = Annotated[
    str,
    typer.Option(help="Kafka's address, host:port.", envvar="K2_KAFKA__BOOTSTRAP_SERVERS"),
]
