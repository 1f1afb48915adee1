"""Screen: what the demo shows while it works and when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from .reconcile import Reconciliation

_LAYERS = ("kafka", "bronze", "silver", "dlq", "gold")


class Screen:
    """Steps with a spinner, live counts per table. On a file or pipe: one line per step."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._counts: Mapping[str, int] = {}
        self._step = ""
        self._began = time.monotonic()
        self._spinner = Spinner("dots")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show a step while it runs, and a line with its time when it is done."""
        self._step, self._began = name, time.monotonic()
        if not self.console.is_terminal:
            self.console.print(f"… {name}")
            yield
        else:
            with Live(get_renderable=self._render, console=self.console, transient=True):
                yield
        seconds = time.monotonic() - self._began
        self.console.print(Text.assemble(("✓ ", "green"), f"{name} ", (f"{seconds:.1f} s", "dim")))

    def show_counts(self, counts: Mapping[str, int]) -> None:
        """Show these rows per layer below the running step."""
        self._counts = counts

    @contextmanager
    def download(self, name: str) -> Iterator[Callable[[str, int, int], None]]:
        """Show a download's progress; yields what to call with (file, bytes done, bytes in all)."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(name, total=None)

            def report(_file: str, done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            yield report

    def _render(self) -> RenderableType:
        seconds = time.monotonic() - self._began
        self._spinner.update(text=f"{self._step} {seconds:.0f} s")
        if not self._counts:
            return self._spinner
        table = Table(box=None, pad_edge=False)
        for layer in _LAYERS:
            table.add_column(layer, justify="right")
        table.add_row(*(f"{self._counts.get(layer, 0):,}" for layer in _LAYERS))
        return Group(self._spinner, table)


def tabulate(result: Reconciliation, seconds: float, peak_rss_mb: float) -> Table:
    """Return the reconciliation as a table for people."""
    table = Table(title="Reconciliation: the ledger of everything sent against the tables")
    table.add_column("")
    table.add_column("rows", justify="right")
    table.add_column("what it means")
    rows = (
        ("sent", result.sent, "distinct valid trades the exchanges sent"),
        ("kafka", result.kafka, "records in the trade and dead-letter topics"),
        ("bronze", result.bronze, "records of the trade topics, byte for byte"),
        ("silver", result.silver, "accepted by contract and rules"),
        ("dlq", result.dlq, "dead letters, with bytes and reason"),
        ("gold", result.gold, "trades, each exactly once"),
        ("duplicates", result.duplicates, "sent again, kept out of Gold (silver - gold)"),
        ("missing", result.missing, "valid but not in Gold, or bad without its dead letter"),
        ("unexpected", result.unexpected, "in Gold or the dead letters without a cause"),
    )
    for name, count, meaning in rows:
        wrong = name in ("missing", "unexpected") and count
        style = "bold red" if wrong else ("bold green" if name == "gold" else "")
        table.add_row(name, f"{count:,}", meaning, style=style)
    freshness = "no new trade"
    if result.freshness_p50_s is not None:
        freshness = f"p50 {result.freshness_p50_s:.1f} s, p99 {result.freshness_p99_s:.1f} s"
    spent = f"{seconds:.0f} s in all · peak {peak_rss_mb:,.0f} MB"
    table.caption = f"frame to Gold: {freshness} · {spent}"
    return table
