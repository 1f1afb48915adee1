"""The `k2` command."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from platformdirs import user_cache_path

from k2_connectors import ConnectorError
from k2_medallion import LakeHome, LakeReader, MedallionError
from k2_schemas import SchemaError

from . import schema
from .errors import CommandError
from .stack import DEFAULT_PORT

_INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="K2: trade streams of crypto exchanges in a lakehouse that can be trusted.",
)

app.add_typer(schema.app, name="schema")

Home = Annotated[Path, typer.Option(help="Folder of the lake: tables, Kafka's data, ledger, logs.")]
Port = Annotated[int, typer.Option(help="First of three ports on 127.0.0.1.", min=1024, max=65_533)]


@app.command()
def demo(
    trades: Annotated[int, typer.Option(help="Valid trades to send.", min=1)] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of the market model.", min=0)] = 7,
    frames: Annotated[
        list[Path] | None,
        typer.Option(help="Play this file of recorded frames instead of the model. Repeatable."),
    ] = None,
    symbol: Annotated[
        list[str] | None,
        typer.Option(help="A BASE/QUOTE that recorded frames hold, if K2 says so. Repeatable."),
    ] = None,
    home: Home = Path(".k2"),
    port: Port = DEFAULT_PORT,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")
    ] = False,
) -> None:
    """Run the whole pipeline on this machine and prove that nothing was lost or doubled.

    A replay exchange, k2-feed, a Kafka broker and k2-lake run as processes of their own. The exit
    code is 0 only if every trade sent is in Gold exactly once and every bad record in the DLQ.

    Example: k2 demo --trades 50000 --home /tmp/k2
    """
    from rich.console import Console

    from .demo import print_result, run_demo
    from .screen import Screen

    screen = Screen(Console(stderr=as_json))
    result = run_demo(
        home,
        trade_count=trades,
        seed=seed,
        frames=frames or (),
        symbols=symbol or (),
        port=port,
        cache=user_cache_path("k2"),
        screen=screen,
    )
    if as_json:
        figures = {"seconds": result.seconds, "peak_rss_mb": result.peak_rss_mb}
        typer.echo(json.dumps(result.reconciliation.to_dict() | figures))
    else:
        print_result(result, home, screen)
    if result.breaches:
        raise CommandError(f"rows are not conserved: {'; '.join(result.breaches)}")
    if not result.reconciliation.exact:
        raise CommandError("the tables and the ledger disagree: see missing and unexpected")


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help='One SELECT. Tables: see `k2 query "SHOW TABLES"`.')],
    home: Home = Path(".k2"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per row.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with a header.")] = False,
) -> None:
    """Query the Iceberg tables, read-only, with DuckDB.

    Example: k2 query "SELECT symbol, count(*) FROM gold_crypto_trades GROUP BY 1"
    """
    from .rows import print_csv, print_json, print_table

    if as_json and as_csv:
        raise typer.BadParameter("choose --json or --csv, not both")
    with LakeReader(LakeHome(home)) as lake:
        result = lake.sql(sql)
    printer = print_json if as_json else print_csv if as_csv else print_table
    printer(result)


@app.command()
def doctor(home: Home = Path(".k2"), port: Port = DEFAULT_PORT) -> None:
    """Look at what this machine has of what K2 needs; each lack comes with its cure.

    Example: k2 doctor
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from .doctor import examine

    table = Table("", "what", "found", "cure", box=None)
    ill = 0
    for finding in examine(home, port, user_cache_path("k2"), os.environ):
        ill += not finding.well
        mark = "[green]✓[/]" if finding.well else "[red]✗[/]"
        table.add_row(mark, finding.subject, Text(finding.found), Text(finding.cure))
    Console().print(table)
    if ill:
        raise typer.Exit(1)


@app.command()
def exchange(
    plan: Annotated[
        Path,
        typer.Option(
            help="What to play: a file that `k2 demo` wrote.", exists=True, dir_okay=False
        ),
    ],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = DEFAULT_PORT + 2,
) -> None:
    """Serve the replay exchange alone, for a client of your own, until Ctrl-C.

    Example: k2 exchange --plan .k2/run/plan.json
    """
    from .exchange import serve_plan
    from .plan import Plan

    serve_plan(Plan.load(plan), port)


def main() -> None:
    """Run the command; print our own errors as one sentence."""
    # A polite end is as orderly as Ctrl-C: every process is ended before we are.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except (CommandError, ConnectorError, MedallionError, SchemaError) as error:
        typer.echo(f"k2: {error}", err=True)
        sys.exit(1)
    except SystemExit as end:
        # What typer makes of Ctrl-C; it says nothing itself.
        if end.code == _INTERRUPTED:
            typer.echo("k2: interrupted; every process has been ended", err=True)
        raise


if __name__ == "__main__":
    main()
