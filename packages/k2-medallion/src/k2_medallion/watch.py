"""Watch: the market monitor over Silver's batches. It reports incidents and touches no row."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path

import structlog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from pyspark.sql import SparkSession

from k2_validation import Incident, Monitor
from k2_validation.monitor import COLUMNS

from .added_rows import read_added_rows
from .catalog import require_table
from .polled_flow import PolledFlow
from .published import PublishedSnapshot, walk_published
from .tables import silver_trades

_log = structlog.get_logger()

_POLL_S = 0.5
_CLOSINGS = ("_ended", "_filled")


class Watch:
    """The monitor of one exchange (lower-case name); its state is a file beside the tables.

    `flows` are those that may publish into Silver; their batches are seen in the table's order.
    """

    def __init__(
        self, exchange: str, catalog: SqlCatalog, state_file: Path, flows: tuple[str, ...]
    ) -> None:
        self.exchange = exchange
        self._catalog = catalog
        self._file = state_file
        self._flows = flows
        self._last_seen, self._monitor = self._restore()

    def observe_new(self) -> list[Incident]:
        """Return the incidents of every batch since the last call, or since the stored state.

        A first start begins with the next batch: what was before has been judged by nobody.
        """
        table = require_table(self._catalog, silver_trades(self.exchange))
        batches = (
            found
            for found in walk_published(table)
            if found.publish_id.startswith(tuple(f"k2:{flow}:" for flow in self._flows))
        )
        if self._last_seen < 0:
            newest = next(batches, None)
            self._last_seen = newest.sequence_number if newest else 0
            return []
        fresh = takewhile(lambda found: found.sequence_number > self._last_seen, batches)
        return [incident for batch in [*fresh][::-1] for incident in self._observe(table, batch)]

    def tick(self) -> list[Incident]:
        """Return which symbols have fallen silent by now."""
        return self._monitor.tick(time.time_ns() // 1000)

    def _observe(self, table: Table, batch: PublishedSnapshot) -> list[Incident]:
        incidents = self._monitor.observe(read_added_rows(table, batch.snapshot_id, list(COLUMNS)))
        self._last_seen = batch.sequence_number
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_suffix(".new")
        state = {"last_seen": self._last_seen, "monitor": self._monitor.to_json()}
        temporary.write_text(json.dumps(state))
        os.replace(temporary, self._file)
        return incidents

    def _restore(self) -> tuple[int, Monitor]:
        """Return the stored state; one that cannot be read is none, and no reason to stop."""
        if not self._file.exists():
            return -1, Monitor()
        try:
            state = json.loads(self._file.read_text())
            return int(state["last_seen"]), Monitor.from_json(state["monitor"])
        except Exception as error:  # noqa: BLE001 - whatever is in the file
            _log.warning("watch_state_lost", exchange=self.exchange, error=str(error))
            return -1, Monitor()


class WatchFlow(PolledFlow):
    """Runs a watch: incidents are logged, and counted by whoever asks.

    A monitor that fails ends itself with an event in the log: no reason to stop taking trades.
    """

    def __init__(
        self, watch: Watch, *, on_incident: Callable[[Incident], None] | None = None
    ) -> None:
        super().__init__(f"watch-{watch.exchange}", _POLL_S)
        self._watch = watch
        self._on_incident = on_incident

    def take_turn(self, spark: SparkSession) -> bool:
        """Look at what is new; what has fallen silent is found at the next look."""
        try:
            self._report([*self._watch.observe_new(), *self._watch.tick()])
        except Exception:  # noqa: BLE001 - see the class
            _log.exception("watch_failed", exchange=self._watch.exchange)
            self.stopping.set()
        return False

    def _report(self, incidents: Sequence[Incident]) -> None:
        """Log the first incident of each kind and symbol, with how many there were of them."""
        alike: dict[tuple[str, str, str], list[Incident]] = {}
        for incident in incidents:
            key = (incident.kind, incident.exchange, incident.symbol)
            alike.setdefault(key, []).append(incident)
            if self._on_incident is not None:
                self._on_incident(incident)
        for (kind, _, _), found in alike.items():
            log = _log.info if kind.endswith(_CLOSINGS) else _log.warning
            log("incident", count=len(found), **found[0]._asdict())
