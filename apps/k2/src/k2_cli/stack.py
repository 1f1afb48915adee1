"""Stack: broker, replay exchange, feed and lake as processes of their own, on one home."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from k2_medallion.jvm import Java
from k2_medallion.spark import SHORT_RUN_OPTIONS
from k2_schemas.topics import DEADLETTER_TOPIC, trades_topic

from .broker import Broker
from .child import Child
from .errors import HomeInUseError, PortTakenError
from .plan import Plan

DEFAULT_PORT = 19092
"""Kafka; the next two are its controller's and the replay exchange's."""

_LIVE_DRAIN_S = 20
"""An audit without a hole is worth the wait; a child is killed after 30 s."""

_PURPOSES = ("Kafka", "Kafka's controller", "the replay exchange")


class Stack:
    """The local stack. As a context manager it holds the home's lock and leaves no process."""

    def __init__(
        self,
        home: Path,
        port: int,
        java: Java,
        kafka_jars: Sequence[Path],
        exchanges: Mapping[str, Sequence[str]],
        earlier_exchanges: Iterable[str] = (),
    ) -> None:
        self.home = home.resolve()
        self.exchanges = exchanges
        # The lake goes on with every exchange that this home has ever had.
        self.all_exchanges = sorted({*exchanges, *earlier_exchanges})
        self.broker = Broker(self.home, port, java, kafka_jars)
        self.exchange = Child("exchange", self.home)
        self.feed = Child("feed", self.home)
        self.lake = Child("lake", self.home)
        self._port = port
        self._exchange_url = f"127.0.0.1:{port + 2}"
        # Our children read the files we write: a K2_ variable meant for another Kafka must not
        # send a demo's trades there.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("K2_")}
        self._environment = inherited | {"JAVA_HOME": str(java.home)}
        self._lock: IO[str] | None = None

    @property
    def topics(self) -> list[str]:
        """The trade topics and the dead-letter topic."""
        return [*map(trades_topic, self.all_exchanges), DEADLETTER_TOPIC]

    @property
    def children(self) -> list[Child]:
        """Every process, in the order in which they are ended."""
        return [self.exchange, self.feed, self.lake, self.broker.child]

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        self._lock = (self.home / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for child in self.children:
                child.reap()
            check_ports(self._port)
        except BlockingIOError:
            self._lock.close()
            raise HomeInUseError(self.home) from None
        except PortTakenError:
            self._lock.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._lock is not None:
            self._lock.close()

    def stop(self) -> None:
        """End every process, in order."""
        for child in self.children:
            child.stop()

    def start_exchange(self, plan: Plan) -> None:
        """Start the replay exchange; it plays the plan to whoever subscribes."""
        path = self.home / "run" / "plan.json"
        plan.save(path)
        port = str(self._port + 2)
        self._run(self.exchange, "k2_cli", "exchange", "--plan", str(path), "--port", port)

    def start_feed(self) -> None:
        """Start k2-feed on every exchange."""
        url = f"ws://{self._exchange_url}"
        lines = [line for name in self.exchanges for line in self._describe_feed(name, url)]
        # The demo plays its market again and again: ids repeat, which is what Gold is there for.
        lines += ["[feed]", "contiguity = false"]
        self._run(self.feed, "k2_feed", "--config", self._write_config("feed", lines))

    def start_live_feed(self, exchange_url: str | None) -> None:
        """Start k2-feed on the exchanges themselves, or on a replay exchange's `ws://…` base.

        Complete, from its checkpoint on, with its metrics where a replay exchange would be.
        """
        lines = [
            line for name in self.exchanges for line in self._describe_feed(name, exchange_url)
        ]
        lines += ["[feed]", f"checkpoint = {_quote(str(self.home / 'positions.json'))}"]
        lines += [f"drain_s = {_LIVE_DRAIN_S}", "[metrics]", f"port = {self._port + 2}"]
        self._run(self.feed, "k2_feed", "--config", self._write_config("feed", lines))

    def read_feed_metrics(self) -> dict[str, float] | None:
        """Return each metric of a live feed, summed over its venues, or None if it is not up."""
        url = f"http://{self._exchange_url}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                lines = response.read().decode().splitlines()
        except (urllib.error.URLError, OSError):
            return None
        found: dict[str, float] = {}
        for line in lines:
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                key = name.partition("{")[0]
                found[key] = found.get(key, 0.0) + float(value)
        return found

    def start_lake(self) -> None:
        """Start k2-lake; it waits for the topics."""
        lines = [f"[[exchanges]]\nname = {_quote(name)}\n" for name in self.all_exchanges]
        options = ", ".join(map(_quote, SHORT_RUN_OPTIONS))
        lines += ["[lake]", f"home = {_quote(str(self.home))}", f"java_options = [{options}]"]
        self._run(self.lake, "k2_lake", "--config", self._write_config("lake", lines))

    def check(self) -> None:
        """Raise `ChildDiedError` for a process that ended by itself."""
        for child in self.children:
            child.check()

    def read_exchange_status(self) -> dict[str, int] | None:
        """Return how many records the exchange has sent and will send, or None if it is not up."""
        try:
            with urllib.request.urlopen(
                f"http://{self._exchange_url}/status", timeout=2
            ) as response:
                status: dict[str, int] = json.load(response)
                return status
        except (urllib.error.URLError, OSError, ValueError):
            return None

    def _run(self, child: Child, module: str, *arguments: str) -> None:
        child.start([sys.executable, "-m", module, *arguments], self._environment)

    def _describe_feed(self, name: str, exchange_url: str | None) -> list[str]:
        symbols = ", ".join(map(_quote, self.exchanges[name]))
        lines = ["[[exchanges]]", f"name = {_quote(name)}", f"symbols = [{symbols}]"]
        url = [] if exchange_url is None else [f"url = {_quote(f'{exchange_url}/{name}')}"]
        return lines + url

    def _write_config(self, name: str, lines: Sequence[str]) -> str:
        path = self.home / f"{name}.toml"
        kafka = f"[kafka]\nbootstrap_servers = {_quote(self.broker.address)}\n"
        path.write_text("\n".join([kafka, *lines, ""]))
        return str(path)


def _quote(text: str) -> str:
    """Write a TOML basic string; JSON's are the same."""
    return json.dumps(text)


def check_ports(port: int) -> None:
    """Raise `PortTakenError` if one of the stack's ports is in use."""
    for offset, purpose in enumerate(_PURPOSES):
        check_port(port + offset, purpose)


def check_port(port: int, purpose: str) -> None:
    """Raise `PortTakenError` if a port of 127.0.0.1 is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            suggestion = port + 1000 if port < 60_000 else DEFAULT_PORT
            raise PortTakenError(port, purpose, suggestion) from None
