"""The `k2` command."""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from platformdirs import user_cache_path

from k2_connectors import ConnectorError
from k2_medallion import LakeReader, MedallionError
from k2_schemas import SchemaError

from . import dlq, schema
from .errors import CommandError
from .options import (
    DEFAULT_BOOTSTRAP,
    Bootstrap,
    Home,
    make_time_option,
    open_home,
    read_client_settings,
    read_schema_settings,
)
from .stack import DEFAULT_PORT

if TYPE_CHECKING:
    from .screen import Screen

_INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="K2: trade streams of crypto exchanges in a lakehouse that can be trusted.",
)

app.add_typer(schema.app, name="schema")
app.add_typer(dlq.app, name="dlq")

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
    live: Annotated[
        bool, typer.Option("--live", help="Feed Binance, Coinbase and Kraken themselves.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(help="How long to feed with --live; Ctrl-C ends it sooner.", min=1)
    ] = 60.0,
    exchange_url: Annotated[
        str | None,
        typer.Option(help="With --live: a replay exchange's ws://host:port for the real ones."),
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
    With --live there is no ledger: no trade number may be missing in Gold.

    Example: k2 demo --trades 50000 --home /tmp/k2
    """
    from rich.console import Console

    from .demo import print_result, run_demo
    from .screen import Screen

    screen = Screen(Console(stderr=as_json))
    if live:
        if frames or symbol:
            raise typer.BadParameter("--live takes no --frames and no --symbol")
        _demo_live(home, seconds, port, exchange_url, screen, as_json=as_json)
        return
    if exchange_url is not None:
        raise typer.BadParameter("--exchange-url is for --live")
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


def _demo_live(
    home: Path,
    seconds: float,
    port: int,
    exchange_url: str | None,
    screen: Screen,
    *,
    as_json: bool,
) -> None:
    """Run the demo on live exchanges; raise `CommandError` if anything is missing."""
    from .live import run_live, tabulate_live

    result = run_live(
        home,
        for_s=seconds,
        port=port,
        cache=user_cache_path("k2"),
        screen=screen,
        exchange_url=exchange_url,
    )
    if as_json:
        typer.echo(json.dumps(result.to_dict()))
    else:
        screen.console.print(tabulate_live(result))
    if result.breaches:
        raise CommandError(f"rows are not conserved: {'; '.join(result.breaches)}")
    if result.missing:
        raise CommandError(f"{result.missing:,} trades are missing in Gold: see k2 gaps")
    if result.absent:
        raise CommandError(f"no trade came of {', '.join(result.absent)}; let it run longer")


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
    with LakeReader(open_home(home)) as lake:
        result = lake.sql(sql).to_arrow()
    printer = print_json if as_json else print_csv if as_csv else print_table
    printer(result)


@app.command()
def candles(
    symbol: Annotated[str, typer.Argument(help="A BASE/QUOTE, as BTC/USDT.")],
    interval: Annotated[str, typer.Argument(help="1m, 5m, 15m, 30m, 1h or 1d.")],
    exchange: Annotated[str | None, typer.Option(help="Only the candles of this one.")] = None,
    start: Annotated[
        datetime | None, make_time_option("--from", "First start, UTC if bare.")
    ] = None,
    end: Annotated[datetime | None, make_time_option("--to", "First start left out.")] = None,
    plot: Annotated[bool, typer.Option(help="Draw the newest, as many as fit.")] = False,
    home: Home = Path(".k2"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per candle.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with a header.")] = False,
) -> None:
    """Print or draw a symbol's candles, exact, from whole minutes.

    Example: k2 candles BTC/USDT 5m --plot
    """
    from rich.console import Console

    from .candles import print_candles
    from .rows import print_csv, print_json

    if as_json + as_csv + plot > 1:
        raise typer.BadParameter("choose one of --plot, --json and --csv")
    with LakeReader(open_home(home)) as lake:
        found = lake.candles(symbol, interval, start, end, exchange=exchange)
        result = found.to_arrow()
    if as_json or as_csv:
        (print_json if as_json else print_csv)(result)
    elif result.num_rows:
        print_candles(result, interval, Console(), plot=plot)
    else:
        raise CommandError(
            f"no candles of {symbol}; what there is: k2 query "
            '"SELECT DISTINCT exchange, symbol FROM gold_crypto_trades"'
        )


@app.command()
def verify(
    home: Home = Path(".k2"),
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    offline: Annotated[
        bool, typer.Option("--offline", help="Compare the tables alone, without Kafka.")
    ] = False,
    since: Annotated[
        datetime | None,
        make_time_option("--since", "Read only what came in from this day on, UTC if bare."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="What is not read yet is a breach too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Compare Kafka, Bronze, Silver, dead letters, Gold and candles; name every row amiss.

    The exit code is 0 if every law holds, 1 if one is broken (or nothing could be compared), 3 if
    all hold but the exchanges' trade numbers have holes: trades that never reached Kafka.

    Example: k2 verify --bootstrap 127.0.0.1:19092
    """
    from k2_medallion.audit import audit_lake

    from .gaps import read_frame_ids
    from .verify import choose_exit_code, print_report
    from .watermarks import read_offset_ranges

    client = {} if offline else read_client_settings(os.environ)
    asked = None if offline else partial(read_offset_ranges, bootstrap, client=client)
    day = None if since is None else since.astimezone(UTC).date()
    report = audit_lake(
        open_home(home),
        asked,
        read_frame_ids=read_frame_ids,
        since=day,
        registry=read_schema_settings(os.environ).open(),
    )
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    else:
        print_report(report, strict=strict, offline=offline)
    raise typer.Exit(choose_exit_code(report, strict=strict))


@app.command()
def gaps(
    home: Home = Path(".k2"),
    exchange: Annotated[str | None, typer.Option(help="Only this exchange.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only this BASE/QUOTE.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a gap.")] = False,
) -> None:
    """List the trade numbers that never reached the lake, when they were traded, and the cure.

    The exit code is 0 if there are none and 3 if there are.

    Example: k2 gaps --exchange binance --symbol BTC/USDT
    """
    from k2_medallion.audit import list_holes

    from .gaps import print_json, print_lines, read_frame_ids
    from .verify import HOLES

    holes = list_holes(
        open_home(home),
        exchange=exchange,
        symbol=symbol,
        read_frame_ids=read_frame_ids,
        registry=read_schema_settings(os.environ).open(),
    )
    printer = print_json if as_json else print_lines
    printer(holes)
    raise typer.Exit(HOLES if holes else 0)


@app.command()
def replay(
    exchange: Annotated[
        list[str] | None, typer.Option(help="Replay this one only. Repeatable.")
    ] = None,
    start: Annotated[
        datetime | None,
        make_time_option("--from", "When Bronze took the first rows in, UTC if bare."),
    ] = None,
    end: Annotated[
        datetime | None,
        make_time_option("--to", "Before when Bronze took the last in."),
    ] = None,
    home: Home = Path(".k2"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per hour.")] = False,
) -> None:
    """Rebuild Silver, dead letters, Gold and candles of a time range from Bronze.

    Appends only what they lack: a second run adds nothing. k2-lake must not run meanwhile.

    Example: k2 replay --exchange binance --from 2026-11-23
    """
    from k2_lake.repair import replay as run_replay

    from .repair import print_replay

    reports = run_replay(
        open_home(home),
        exchange or (),
        start,
        end,
        schemas=read_schema_settings(os.environ),
        cache=user_cache_path("k2"),
        environment=os.environ,
    )
    print_replay(reports, as_json=as_json)


@app.command()
def maintain(
    home: Home = Path(".k2"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per action.")] = False,
) -> None:
    """Keep the tables small, now: what k2-lake does all the while, for a lake without one.

    Example: k2 maintain --home /var/k2
    """
    from k2_lake.repair import maintain as run_maintenance

    from .repair import print_actions

    actions = run_maintenance(
        open_home(home),
        schemas=read_schema_settings(os.environ),
        cache=user_cache_path("k2"),
        environment=os.environ,
    )
    print_actions(actions, as_json=as_json)


@app.command()
def doctor(
    home: Home = Path(".k2"),
    port: Port = DEFAULT_PORT,
    security: Annotated[
        bool, typer.Option("--security", help="Look at what is open to others instead.")
    ] = False,
    config: Annotated[
        list[Path] | None,
        typer.Option(
            help="With --security: this file, not those of home and folder. Repeatable.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Look at what this machine has of what K2 needs; each lack comes with its cure.

    Example: k2 doctor --security
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from .doctor import examine
    from .security import examine_security

    cache = user_cache_path("k2")
    findings = (
        examine_security(home, cache, os.environ, config or ())
        if security
        else examine(home, port, cache, os.environ)
    )
    table = Table("", "what", "found", "cure", box=None)
    ill = 0
    for finding in findings:
        ill += not finding.well
        mark = "[green]✓[/]" if finding.well else "[red]✗[/]"
        table.add_row(mark, finding.subject, Text(finding.found), Text(finding.cure))
    Console().print(table)
    if ill:
        raise typer.Exit(1)


@app.command()
def exchange(
    plan: Annotated[
        Path | None,
        typer.Option(
            help="What to play: a file that `k2 demo` wrote.", exists=True, dir_okay=False
        ),
    ] = None,
    recording: Annotated[
        Path | None,
        typer.Option(help="Or a folder that k2-feed recorded, as a live exchange.", exists=True),
    ] = None,
    speed: Annotated[
        float, typer.Option(help="How many times as fast as it was recorded.", min=0.001)
    ] = 1.0,
    symbol: Annotated[
        list[str] | None,
        typer.Option(help="A BASE/QUOTE that the recording holds, if K2 says so. Repeatable."),
    ] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = DEFAULT_PORT + 2,
) -> None:
    """Serve the replay exchange alone, for a client of your own, until Ctrl-C.

    Example: k2 exchange --recording frames --speed 10
    """
    from .exchange import serve_plan, serve_recording
    from .plan import Plan, list_known_symbols

    if (plan is None) == (recording is None):
        raise typer.BadParameter("give one of --plan and --recording")
    if plan is not None:
        serve_plan(Plan.load(plan), port)
    elif recording is not None:
        serve_recording(recording, list_known_symbols(symbol or ()), speed, port)


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
