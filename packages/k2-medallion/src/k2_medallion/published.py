"""Published: the batches that a table's history knows, each by the id it was published under."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class PublishedSnapshot:
    """A published batch: its id, where it stands in the table's history, and its rows."""

    publish_id: str
    snapshot_id: int
    parent_id: int | None
    sequence_number: int
    row_count: int
    size_bytes: int


def written_key(flow: str) -> str:
    """Return the table property that names a flow's last finished batch once it is old."""
    return f"k2.finished.{flow}"


def walk_published(table: Table) -> Iterator[PublishedSnapshot]:
    """Yield every flow's batches that a table still knows, newest first.

    What has no id of ours is no batch: maintenance, or rows that somebody else has written.
    """
    for snapshot in _walk_ancestors(table):
        summary = snapshot.summary
        # A cherry-pick that was no fast-forward keeps the id under another key, and nothing else.
        publish_id = (summary["published-wap-id"] or summary["wap.id"]) if summary else None
        if summary is not None and publish_id:
            yield PublishedSnapshot(
                publish_id=publish_id,
                snapshot_id=snapshot.snapshot_id,
                parent_id=snapshot.parent_snapshot_id,
                sequence_number=snapshot.sequence_number or 0,
                row_count=int(summary["added-records"] or 0),
                size_bytes=int(summary["added-files-size"] or 0),
            )


def walk_flow(table: Table, flow: str) -> Iterator[PublishedSnapshot]:
    """Yield a flow's batches that a table still knows, newest first."""
    prefix = f"k2:{flow}:"
    return (found for found in walk_published(table) if found.publish_id.startswith(prefix))


def list_published(table: Table, flow: str) -> list[PublishedSnapshot]:
    """Return a flow's batches that a table still knows, oldest first."""
    return list(walk_flow(table, flow))[::-1]


def find_published(table: Table, publish_id: str) -> PublishedSnapshot:
    """Return what a table holds of a batch that has been published there."""
    return next(found for found in walk_published(table) if found.publish_id == publish_id)


def _walk_ancestors(table: Table) -> Iterator[Snapshot]:
    # By id at once: PyIceberg looks through all snapshots for one, and there may be thousands.
    snapshots = {snapshot.snapshot_id: snapshot for snapshot in table.metadata.snapshots}
    place = table.metadata.current_snapshot_id
    while place is not None and (snapshot := snapshots.get(place)) is not None:
        yield snapshot
        place = snapshot.parent_snapshot_id
