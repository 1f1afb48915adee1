"""Every error of k2-medallion.

MedallionError
├── MissingExtraError        the [spark] extra is not installed
├── JavaError                no usable Java, or a jar that is not the locked one
├── CatalogError             no lake at this place, or a table that is not as its spec says
├── QueryError               SQL that is not a read-only query, or that DuckDB refuses
├── BrokerError              Kafka does not answer, or refuses us
├── SchemaLackingError       the tables hold rows of a schema that is not known here
├── CheckpointError          checkpoint and tables disagree about what was read
├── TopicReplacedError       the topic is not the one whose offsets the tables hold
├── OffsetsLostError         Kafka has deleted records that the lake has not read
├── ConservationError        rows in are not rows out; that table was not published
├── FencedError              another driver published this range
├── HomeBusyError            a driver or a repair is at work on the home
└── FlowStoppedError         a flow ended, or was told to, before a batch
"""

from __future__ import annotations

from pathlib import Path


class MedallionError(Exception):
    """Base of every error this package raises."""


class MissingExtraError(MedallionError):
    """A heavy part is not installed."""

    def __init__(self, module: str, extra: str) -> None:
        self.module = module
        self.extra = extra
        super().__init__(f"{module} is not installed: pip install 'k2-medallion[{extra}]'")


class JavaError(MedallionError):
    """No usable Java, or a jar that cannot be had as it is locked."""


class CatalogError(MedallionError):
    """No lake at this place, or a table that is not as its spec says."""


class QueryError(MedallionError):
    """SQL that is not a read-only query, or that DuckDB refuses."""


class BrokerError(MedallionError):
    """Kafka does not answer, or refuses us."""

    def __init__(self, bootstrap_servers: str, reason: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.reason = reason
        super().__init__(
            f"Kafka at {bootstrap_servers}: {reason}; start it, or correct the table kafka: "
            "bootstrap_servers, security_protocol, username, password, ca_file"
        )


class SchemaLackingError(MedallionError):
    """The tables hold rows of a schema that is not known here: a replay would make them dead."""

    def __init__(self, table: str, schema_id: int) -> None:
        self.table = table
        self.schema_id = schema_id
        super().__init__(
            f"{table} has rows of schema id {schema_id}, which is not known here; set "
            "K2_SCHEMAS__FOLDER or K2_SCHEMAS__URL as k2-lake's [schemas] says, then run it again"
        )


class CheckpointError(MedallionError):
    """Checkpoint and tables disagree about what was read; going on would lose records."""

    def __init__(self, flow: str, checkpoint: Path, problem: str) -> None:
        self.flow = flow
        self.checkpoint = checkpoint
        self.problem = problem
        super().__init__(
            f"flow {flow}: {problem}; the tables are right, so remove the checkpoint and start "
            f"again: rm -r '{checkpoint}'"
        )


class TopicReplacedError(MedallionError):
    """The topic is not the one whose offsets the tables hold."""

    def __init__(self, topic: str, problem: str) -> None:
        self.topic = topic
        self.problem = problem
        super().__init__(
            f"topic {topic} is not the one this lake has read: {problem}; offsets would mean other "
            "records, so use a new home, or bring the topic's data back"
        )


class OffsetsLostError(MedallionError):
    """Kafka has deleted records that the lake has not read: it was away for too long."""

    def __init__(self, topic: str, partition: int, first: int, end: int) -> None:
        self.topic = topic
        self.partition = partition
        self.first = first
        self.end = end
        super().__init__(
            f"topic {topic}, partition {partition}: offsets {first} to {end - 1} are gone from "
            "Kafka and were never read; bring them back, or set [lake] accept_lost_offsets = true "
            "to go on without them (k2 verify and k2 gaps will name what is missing)"
        )


class ConservationError(MedallionError):
    """Rows in are not rows out. The table in question was not published; those before it were."""

    def __init__(self, flow: str, law: str, expected: int, found: int) -> None:
        self.flow = flow
        self.law = law
        self.expected = expected
        self.found = found
        super().__init__(
            f"flow {flow}: {law}: expected {expected} rows, found {found}; the flow has stopped "
            "before that table. Start the lake again; if it happens twice, with the version and "
            "rules that began the batch, and keep the log"
        )


class FencedError(MedallionError):
    """Another driver has published from the same place, and not the same rows."""

    def __init__(self, flow: str, publish_id: str) -> None:
        self.flow = flow
        self.publish_id = publish_id
        super().__init__(
            f"flow {flow}: fenced: another driver published {publish_id}, or may have while this "
            "one slept; let only one k2-lake process write to this home"
        )


class HomeBusyError(MedallionError):
    """Someone is at work on the home who must not be disturbed."""

    def __init__(self, home: Path, who: str) -> None:
        self.home = home
        self.who = who
        super().__init__(f"{who} is at work on {home}; end it, or wait until it is done")


class FlowStoppedError(MedallionError):
    """A flow ended by itself, or a batch began after it was told to stop and wrote nothing."""
