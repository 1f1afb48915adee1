"""The `k2-lake` command."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tomllib
from pathlib import Path
from types import FrameType
from typing import Annotated

import structlog
import typer
from platformdirs import user_cache_path
from pydantic import ValidationError
from pydantic_settings import SettingsError

from k2_medallion import MedallionError
from k2_schemas import SchemaError

from .errors import LakeError
from .settings import read_settings
from .stop_signal import StopSignal

_log = structlog.get_logger()

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def lake(
    config: Annotated[
        Path,
        typer.Option(
            help="TOML file with the tables kafka, exchanges and lake.",
            exists=True,
            dir_okay=False,
        ),
    ],
    master: Annotated[
        str | None,
        typer.Option(help="Spark: local[2], or spark://host:7077 instead of the file's."),
    ] = None,
) -> None:
    """Write the configured exchanges' topics into Iceberg until SIGTERM or Ctrl-C.

    Example: k2-lake --config k2.toml --master local[2]
    """
    _configure_logging()
    try:
        settings = read_settings(config, master)
        # Late: starting Spark's Python side takes longer than reading a wrong configuration.
        from .driver import run

        stop = StopSignal()
        _stop_on_signals(stop)
        run(settings, user_cache_path("k2"), os.environ, stop)
    except ValidationError as error:
        _fail(f"{config}: {_name_problems(error)}")
    except SettingsError as error:
        _fail(f"a K2_ environment variable is not JSON: {error}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        _fail(f"{config}: not TOML: {error}")
    except (LakeError, MedallionError, SchemaError) as error:
        _fail(str(error))
    except Exception as error:  # noqa: BLE001 - Spark, Kafka and Java each bring a tree of their own
        _log.error("failed", exc_info=True)
        from k2_medallion.spark import name_cause

        _fail(f"{name_cause(error)}; the whole story is in the log above")


def _stop_on_signals(stop: StopSignal) -> None:
    def note(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)


def _configure_logging() -> None:
    """Log to stderr: for people on a terminal, JSON lines everywhere else."""
    for_people = [_render_for_people()]
    for_machines = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(for_people if sys.stderr.isatty() else for_machines),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # Looked up for each logger: whoever runs us may have put another stderr in place.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def _render_for_people() -> structlog.dev.ConsoleRenderer:
    """Tracebacks without variables: the environment, and the secrets in it, is among them."""
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _name_problems(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
    )


def _fail(sentence: str) -> None:
    typer.echo(f"k2-lake: {sentence}", err=True)
    raise typer.Exit(1)


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
