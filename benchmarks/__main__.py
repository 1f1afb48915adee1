"""`hatch run bench NAME`: run one benchmark; with --json the last thing on stdout is one object."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

NAMES = ("cluster", "codec", "feed", "lake", "query", "validation")
"""Every benchmark is a module beside this one with `run(arguments) -> dict of figures`."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(NAMES)}.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    save: Annotated[
        Path | None, typer.Option(help="Write the tables as Markdown to this file too.")
    ] = None,
) -> None:
    """Run a benchmark. Tables go to stderr; options it does not know go to the benchmark.

    Example: hatch run bench codec --json
    """
    if name not in NAMES:
        raise typer.BadParameter(f"no benchmark {name!r}; choose one of: {', '.join(NAMES)}")
    from .report import Report

    report = Report(name)
    figures = importlib.import_module(f"{__package__}.{name}").run(report, context.args)
    if save is not None:
        report.save(save)
    sys.stderr.flush()
    if as_json:
        print(json.dumps(figures))


if __name__ == "__main__":
    app()
