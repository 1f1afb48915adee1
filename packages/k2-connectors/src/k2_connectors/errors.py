"""Every error of k2-connectors.

ConnectorError
├── UnknownVenueError          no venue of that name is installed
├── VenueConflictError         two packages bring a venue of that name
├── ConformanceError           a venue does not do what every venue must
├── SubscriptionRejectedError  the exchange refused a symbol
├── SubscriptionChangeError    the symbols of a running feed cannot be changed so
├── IdsRestartedError          a pair's trade ids have fallen: nobody can tell old from new
├── VenueTwiceError            a feed is given two venues of one name
├── EndpointError              a venue does not answer where it is looked for
├── ConnectionLostError        the socket ended; the feed connects again
├── PublishError               Kafka did not take a record; nothing was dropped silently
├── BrokerSilentError          no Kafka broker answers
├── BrokerRefusalError         a Kafka broker answers, and does not trust us, or we not it
├── CheckpointError            the file of positions cannot be read or written
├── MissingExtraError          an optional package is not installed
├── RecordingError             a file of recorded frames cannot be read
├── RecorderError              a recording cannot be written
└── LedgerConflictError        a trade is in the ledger with another content
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class ConnectorError(Exception):
    """Base of every error this package raises."""


class UnknownVenueError(ConnectorError):
    """No venue of that name is installed."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = tuple(known)
        super().__init__(f"no venue {name!r}; choose one of: {', '.join(self.known)}")


class VenueConflictError(ConnectorError):
    """Two packages bring a venue of the same name: which one was meant cannot be known."""

    def __init__(self, name: str, sources: Iterable[str]) -> None:
        self.name = name
        self.sources = tuple(sources)
        super().__init__(
            f"venue {name!r} comes from more than one place ({', '.join(self.sources)}); "
            "uninstall all but one, or rename the entry point"
        )


class ConformanceError(ConnectorError):
    """A venue does not do what every venue must."""

    def __init__(self, behaviour: str, found: str) -> None:
        self.behaviour = behaviour
        self.found = found
        super().__init__(f"a venue {behaviour}; this one gave {found[:500]}")


class SubscriptionRejectedError(ConnectorError):
    """The exchange refused a subscription: waiting would bring nothing but silence.

    `pairs` are those it named, in the venue's own words; () when it named none.
    """

    def __init__(self, venue: str, reason: str, pairs: Iterable[str] = ()) -> None:
        self.venue = venue
        self.reason = reason
        self.pairs = tuple(pairs)
        super().__init__(
            f"{venue} refused {', '.join(self.pairs) or 'a subscription'}: {reason}; correct the "
            "symbols of this exchange in the configuration"
        )


class SubscriptionChangeError(ConnectorError):
    """The symbols of a running feed cannot be changed so."""

    def __init__(self, venue: str, symbols: Iterable[str], reason: str) -> None:
        self.venue = venue
        self.symbols = tuple(symbols)
        self.reason = reason
        super().__init__(
            f"the symbols of {venue} stay as they are ({', '.join(self.symbols)}): {reason}"
        )


class IdsRestartedError(ConnectorError):
    """A pair's trade ids have fallen: its new trades have ids that are known already."""

    def __init__(self, venue: str, pair: str, next_id: int, found_id: int) -> None:
        self.venue = venue
        self.pair = pair
        self.next_id = next_id
        self.found_id = found_id
        super().__init__(
            f"{venue} {pair}: new trades come with ids about {found_id}, and all below {next_id} "
            "are known: the venue numbers anew, or the checkpoint is of another environment; take "
            "the pair out of the checkpoint to begin anew (ids that repeat are one trade in Gold)"
        )


class VenueTwiceError(ConnectorError):
    """A feed is given two venues of one name."""

    def __init__(self, venue: str) -> None:
        self.venue = venue
        super().__init__(f"{venue} is there twice; put all its symbols into one venue")


class EndpointError(ConnectorError):
    """A venue does not answer, or not as this venue does, where it is looked for."""

    def __init__(self, venue: str, url: str, reason: str) -> None:
        self.venue = venue
        self.url = url
        self.reason = reason
        super().__init__(
            f"{venue} cannot be used at {url}: {reason}; check the network, and the url and "
            "rest_url of this exchange in the configuration"
        )


class ConnectionLostError(ConnectorError):
    """The socket ended, for whatever reason."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(f"connection to {url} ended: {reason}")


class PublishError(ConnectorError):
    """Kafka did not acknowledge a record in time."""

    def __init__(self, topic: str, reason: str) -> None:
        self.topic = topic
        self.reason = reason
        super().__init__(
            f"Kafka did not take a record for {topic}: {reason}; check that the brokers in "
            "kafka.bootstrap_servers can be reached, then start the feed again"
        )


class BrokerSilentError(ConnectorError):
    """No Kafka broker answers."""

    def __init__(self, bootstrap_servers: str, reason: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.reason = reason
        super().__init__(
            f"no Kafka broker answers at {bootstrap_servers}: {reason}; start it, or correct "
            "kafka.bootstrap_servers, or what it is told there: security_protocol, username, "
            "password, ca_file"
        )


class BrokerRefusalError(ConnectorError):
    """A Kafka broker answers, and does not trust us, or we not it."""

    def __init__(self, bootstrap_servers: str, reason: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.reason = reason
        super().__init__(
            f"the Kafka broker at {bootstrap_servers} and we do not trust each other: {reason}; "
            "correct the table kafka: security_protocol, ca_file, username, password"
        )


class CheckpointError(ConnectorError):
    """The file of positions cannot be read or written."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"checkpoint {path}: {reason}; repair or move the file: without one, positions are "
            "rebuilt from the end of the Kafka topics"
        )


class MissingExtraError(ConnectorError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"this needs {package}: pip install 'k2-connectors[{extra}]'")


class RecordingError(ConnectorError):
    """A file of recorded frames cannot be read."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"cannot play {path}: {reason}; expected one JSON object a line: "
            '{"recv_ns": int or null, "src": text, "raw": "the exact frame"}'
        )


class RecorderError(ConnectorError):
    """A recording cannot be written."""

    def __init__(self, folder: Path, reason: str) -> None:
        self.folder = folder
        self.reason = reason
        super().__init__(
            f"cannot record to {folder}: {reason}; make room or choose another folder, "
            "then start the feed again"
        )


class LedgerConflictError(ConnectorError):
    """The same trade was sent before with another price, quantity, side or time."""

    def __init__(self, exchange: str, pair: str, trade_id: str) -> None:
        self.exchange = exchange
        self.pair = pair
        self.trade_id = trade_id
        super().__init__(
            f"{exchange} {pair} trade {trade_id} is in the ledger with another content; "
            "play files that contradict each other in separate homes (--home)"
        )
