"""Every error of k2-medallion.

MedallionError
├── MissingExtraError        the [spark] extra is not installed
├── JavaError                no usable Java, or a jar that is not the locked one
├── CatalogError             no lake at this place, or a table that is not as its spec says
├── QueryError               SQL that is not a read-only query, or that DuckDB refuses
├── CheckpointError          checkpoint and tables disagree about what was read
├── ConservationError        rows in are not rows out; nothing was published
├── FencedError              another driver published this range
└── FlowStoppedError         a batch began after its flow was told to stop
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


class CheckpointError(MedallionError):
    """The checkpoint has read further than the tables hold: starting would lose records."""

    def __init__(self, flow: str, checkpoint: Path, partition: int, held: int, read: int) -> None:
        self.flow = flow
        self.checkpoint = checkpoint
        self.partition = partition
        self.held_offset = held
        self.read_offset = read
        super().__init__(
            f"flow {flow}: partition {partition} is at offset {held} in the tables, but the "
            f"checkpoint goes on at {read}; the tables are right, so remove the checkpoint and "
            f"start again: rm -r '{checkpoint}'"
        )


class ConservationError(MedallionError):
    """Rows in are not rows out. The batch was not published."""

    def __init__(self, flow: str, law: str, expected: int, found: int) -> None:
        self.flow = flow
        self.law = law
        self.expected = expected
        self.found = found
        super().__init__(
            f"flow {flow}: {law}: expected {expected} rows, found {found}; nothing was published, "
            "start the lake again and keep its log if it happens twice"
        )


class FencedError(MedallionError):
    """Another driver has published from the same place, and not the same rows."""

    def __init__(self, flow: str, publish_id: str) -> None:
        self.flow = flow
        self.publish_id = publish_id
        super().__init__(
            f"flow {flow}: fenced: another driver published {publish_id}; stop one of the two "
            "k2-lake processes that write to this home"
        )


class FlowStoppedError(MedallionError):
    """A batch began after its flow was told to stop; it wrote nothing."""
