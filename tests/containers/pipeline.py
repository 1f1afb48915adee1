"""Pipeline: a replay exchange, k2-feed and k2-lake as processes, on services from elsewhere.

The exchange's own ledger is the judge: from each symbol's first trade on, Gold must be what it
says, every trade once and to its last digit.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from k2_cli.child import Child
from k2_connectors.testing.market import EVERY_LISTING, exchanges
from k2_medallion import CatalogError, LakeHome, LakeReader, ObjectStore, QueryError

from .services import find_port

SYMBOLS = exchanges(EVERY_LISTING)

Trades = dict[tuple[str, str], list[tuple[int, Decimal, Decimal, str]]]
"""(id, price, quantity, side), ascending, per exchange and symbol."""


@dataclass
class Pipeline:
    """Everything of one run; as a context manager it leaves no process.

    `kafka` are lines of that table, `environment` the variables that only processes see.
    """

    home: Path
    kafka: Sequence[str]
    store: ObjectStore | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    lake_lines: Sequence[str] = ()
    trades: int = 6_000
    rate: float = 100.0
    venues: Sequence[str] = tuple(SYMBOLS)

    def __post_init__(self) -> None:
        self.port = find_port()
        self.exchange, self.feed, self.lake = (
            Child(name, self.home) for name in ("exchange", "feed", "lake")
        )

    def __enter__(self) -> Pipeline:
        for start in (self.start_exchange, self.start_feed, self.start_lake):
            start()
        return self

    def __exit__(self, *_: object) -> None:
        for child in (self.feed, self.lake, self.exchange):
            child.stop()

    def start_exchange(self) -> None:
        """Start the market; it goes on whether or not anybody listens."""
        options = {"port": self.port, "trades": self.trades, "rate": self.rate}
        venues = [word for name in self.venues for word in ("--venue", name)]
        told = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.home.mkdir(parents=True, exist_ok=True)
        self._run(self.exchange, "k2_connectors.testing", *told, *venues)
        wait_for(self._is_serving, 60)

    def _is_serving(self) -> bool:
        try:
            return bool(self._get("/status"))
        except OSError:
            self.exchange.check()
            return False

    def start_feed(self) -> None:
        """Start k2-feed; also again, after it was ended."""
        lines = ["[feed]", f'checkpoint = "{self.home}/positions.json"']
        self._run(self.feed, "k2_feed", "--config", self.write_config("feed", lines))

    def start_lake(self) -> None:
        """Start k2-lake; also again, after it was ended."""
        lines = ["[lake]", f'home = "{self.home}"', *self.lake_lines]
        if self.store is not None:
            lines += ["[store]", f'warehouse = "{self.store.warehouse}"']
            lines += [f'endpoint = "{self.store.endpoint}"']
        self._run(self.lake, "k2_lake", "--config", self.write_config("lake", lines))

    def write_config(self, name: str, lines: Sequence[str]) -> str:
        """Write a configuration with Kafka, the exchanges and these lines; return its path."""
        found = ["[kafka]", *self.kafka]
        for exchange in self.venues:
            symbols = SYMBOLS[exchange]
            found += ["[[exchanges]]", f'name = "{exchange}"', f"symbols = {json.dumps(symbols)}"]
            found.append(f'url = "ws://127.0.0.1:{self.port}/{exchange}"')
        path = self.home / f"{name}.toml"
        path.write_text("\n".join([*found, *lines, ""]))
        return str(path)

    def _run(self, child: Child, module: str, *arguments: str) -> None:
        child.start([sys.executable, "-m", module, *arguments], os.environ | self.environment)

    def check(self) -> None:
        """Raise for a process that ended by itself."""
        for child in (self.exchange, self.feed, self.lake):
            child.check()

    def read_ledger(self) -> Trades:
        """Return what the exchanges say they sent."""
        rows = [json.loads(line) for line in self._get("/ledger").decode().splitlines()]
        return group_trades(rows, "trade_id")

    def read_gold(self) -> Trades:
        """Return what Gold holds, without Spark; nothing while there is no Gold."""
        try:
            with LakeReader(LakeHome(self.home, self.store)) as lake:
                rows = lake.sql(
                    "SELECT exchange, symbol, source_sequence, price::VARCHAR AS price, "
                    "quantity::VARCHAR AS quantity, side FROM gold_crypto_trades"
                ).to_arrow()
        except (CatalogError, QueryError):
            return {}  # no table yet
        return group_trades(rows.to_pylist(), "source_sequence")

    def wait_until_complete(self, timeout_s: float) -> Trades:
        """Return Gold once it holds the whole of the market, which is then over."""
        wait_for(self._is_over, timeout_s, self.check)
        sent = self.read_ledger()
        wait_for(lambda: self._lacks(sent) == 0, timeout_s, self.check)
        return self.read_gold()

    def count_gold(self) -> int:
        """Count Gold's trades."""
        return sum(map(len, self.read_gold().values()))

    def _is_over(self) -> bool:
        status = json.loads(self._get("/status"))
        return bool(status["emitted_frames"] == status["planned_frames"])

    def _lacks(self, sent: Trades) -> int:
        gold = self.read_gold()
        if set(gold) != set(sent):
            return -1
        return sum(sent[key][-1][0] - rows[-1][0] for key, rows in gold.items())

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            found: bytes = answer.read()
            return found


def group_trades(rows: Sequence[Mapping[str, Any]], id_column: str) -> Trades:
    """Group rows of a ledger or of Gold."""
    found: Trades = defaultdict(list)
    for row in rows:
        numbers = (Decimal(row["price"]), Decimal(row["quantity"]))
        found[row["exchange"].upper(), row["symbol"]].append(
            (int(row[id_column]), *numbers, row["side"])
        )
    return {key: sorted(trades) for key, trades in found.items()}


def assert_exact(gold: Trades, sent: Trades) -> None:
    """Fail unless Gold is, from each symbol's first trade on, what was sent: each trade once."""
    assert set(gold) == set(sent)
    for key, rows in gold.items():
        first = rows[0][0]
        assert rows == [row for row in sent[key] if row[0] >= first], key


def wait_for(done: Any, timeout_s: float, check: Any = None, pause_s: float = 0.5) -> float:
    """Return the seconds it took until `done()`; fail if it takes too long."""
    began = time.monotonic()
    while not done():
        if check is not None:
            check()
        taken = time.monotonic() - began
        assert taken < timeout_s, f"not done after {timeout_s:.0f} s"
        time.sleep(pause_s)
    return time.monotonic() - began
