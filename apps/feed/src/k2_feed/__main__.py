"""The `k2-feed` command."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import tomllib
from pathlib import Path
from typing import Annotated

import structlog
import typer
from prometheus_client import CollectorRegistry, start_http_server
from pydantic import ValidationError
from pydantic_settings import SettingsError

from k2_connectors import (
    CheckpointFile,
    ConnectorError,
    Feed,
    KafkaPublisher,
    Transport,
    Venue,
    check_brokers,
    check_endpoints,
    create_topics,
    open_transport,
    open_venue,
    read_positions,
)
from k2_connectors.metrics import FeedCollector
from k2_schemas import SchemaError

from .settings import ContinuitySettings, FeedSettings, read_settings

_log = structlog.get_logger()

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def feed(
    config: Annotated[
        Path,
        typer.Option(
            help="TOML file with the tables kafka and exchanges.", exists=True, dir_okay=False
        ),
    ],
    check: Annotated[
        bool,
        typer.Option(help="Check the file, every exchange and symbol, and Kafka; then exit."),
    ] = False,
) -> None:
    """Read the trades of the configured exchanges into Kafka until SIGTERM or Ctrl-C.

    Example: k2-feed --config k2.toml
    """
    _configure_logging()
    try:
        settings = read_settings(config)
        venues = [open_venue(e.name, e.symbols, e.url, e.rest_url) for e in settings.exchanges]
        if check:
            asyncio.run(_check(settings, venues))
            typer.echo(f"{config} is fine: {', '.join(venue.name for venue in venues)}")
            return
        where, client = settings.kafka.bootstrap_servers, settings.kafka.librdkafka_settings()
        check_brokers(where, client)
        create_topics(where, [venue.name for venue in venues], client)
        publisher = KafkaPublisher(where, client_settings=client)
        feed = _open_feed(settings, venues, publisher)
        _serve_metrics(settings, feed)
        asyncio.run(_run(feed))
    except ValidationError as error:
        _fail(f"{config}: {_name_problems(error)}")
    except SettingsError as error:
        _fail(f"a K2_ environment variable is not JSON: {error}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        _fail(f"{config}: not TOML: {error}")
    except (ConnectorError, SchemaError) as error:
        _fail(str(error))


def _open_feed(settings: FeedSettings, venues: list[Venue], publisher: KafkaPublisher) -> Feed:
    path = settings.feed.checkpoint
    checkpoint = None if path is None else CheckpointFile(path)
    positions = None if checkpoint is None else checkpoint.read()
    if checkpoint is not None and positions is None:
        kafka = settings.kafka
        positions = read_positions(kafka.bootstrap_servers, venues, kafka.librdkafka_settings())
    return Feed(
        venues,
        publisher,
        checkpoint=checkpoint,
        positions=positions,
        contiguity=settings.feed.contiguity,
        backfill=settings.feed.backfill,
        connections=settings.feed.connections,
        max_backfill_trades=settings.feed.max_backfill_trades,
        drain_s=settings.feed.drain_s,
        flush_s=settings.feed.flush_s,
        transport=_open_transport(settings.feed),
    )


def _open_transport(settings: ContinuitySettings) -> Transport:
    transport = open_transport(settings.transport)
    if settings.record is None:
        return transport
    from k2_connectors.recording import FrameRecorder, RecordingTransport

    return RecordingTransport(transport, FrameRecorder(settings.record))


async def _check(settings: FeedSettings, venues: list[Venue]) -> None:
    """Raise for the first exchange that cannot be fed as it is configured, then for Kafka."""
    rest = settings.feed.contiguity and settings.feed.backfill
    await asyncio.gather(*(check_endpoints(venue, rest=rest) for venue in venues))
    check_brokers(settings.kafka.bootstrap_servers, settings.kafka.librdkafka_settings())


def _serve_metrics(settings: FeedSettings, feed: Feed) -> None:
    where = settings.metrics
    if where.port is None:
        return
    registry = CollectorRegistry()
    registry.register(FeedCollector(feed))
    try:
        start_http_server(where.port, where.host, registry)
    except OSError as error:
        _fail(f"metrics.port {where.port} on {where.host}: {error.strerror}; choose another")


async def _run(feed: Feed) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def begin_to_stop() -> None:
        stop.set()
        for number in signals:
            loop.remove_signal_handler(number)  # a second one ends us where we are

    for number in signals:
        loop.add_signal_handler(number, begin_to_stop)
    await feed.run(stop)
    _log.info("stopped")


def _configure_logging() -> None:
    """Log to stderr: for people on a terminal, JSON lines everywhere else."""
    on_terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _render_for_people() if on_terminal else structlog.processors.JSONRenderer(),
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
    typer.echo(f"k2-feed: {sentence}", err=True)
    raise typer.Exit(1)


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
