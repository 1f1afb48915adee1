"""Snapshots: which state of a table is meant by an id, a time or a tag."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from pyiceberg.table import Table

from .errors import QueryError

AsOf = int | str | datetime
"""A snapshot's id, a tag's name, or a time with its zone."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def find_snapshot(name: str, tables: Mapping[str, Table], as_of: AsOf | None) -> int | None:
    """Return the id of the snapshot of a table that is meant, or None: it had no rows then.

    Without `as_of` the newest is. An id or a tag of another of the `tables` means the time at which
    that snapshot became current. Raises `QueryError` for what is unknown or no longer kept; an id
    that was never current is unknown, because what is only staged has not been audited.
    """
    table = tables[name]
    if as_of is None:
        return table.metadata.current_snapshot_id
    if isinstance(as_of, datetime):
        return _find_current(name, table, _to_ms(as_of))
    own = _look_up(table, as_of)
    if own is not None:
        return own
    times = [_find_time_ms(other, as_of) for other in tables.values()]
    known = [time_ms for time_ms in times if time_ms is not None]
    if not known:
        raise QueryError(_describe_unknown(name, table, as_of))
    return _find_current(name, table, known[0])


def _look_up(table: Table, as_of: int | str) -> int | None:
    if isinstance(as_of, str):
        reference = table.refs().get(as_of)
        return None if reference is None else reference.snapshot_id
    current = {entry.snapshot_id for entry in table.history()}
    tagged = {reference.snapshot_id for reference in table.refs().values()}
    found = as_of in current | tagged and table.snapshot_by_id(as_of) is not None
    return as_of if found else None


def _find_time_ms(table: Table, as_of: int | str) -> int | None:
    """Return when a snapshot became current; of one that history forgot, when it was written."""
    snapshot_id = _look_up(table, as_of)
    if snapshot_id is None:
        return None
    for entry in table.history():
        if entry.snapshot_id == snapshot_id:
            return entry.timestamp_ms
    snapshot = table.snapshot_by_id(snapshot_id)
    return None if snapshot is None else snapshot.timestamp_ms


def _find_current(name: str, table: Table, time_ms: int) -> int | None:
    """Return the id of the snapshot that was current at a time."""
    history = table.history()
    before = [entry for entry in history if entry.timestamp_ms <= time_ms]
    if before and table.snapshot_by_id(before[-1].snapshot_id) is not None:
        return before[-1].snapshot_id
    if not before and not _had_rows(table):
        return None
    kept = [entry for entry in history if table.snapshot_by_id(entry.snapshot_id) is not None]
    raise QueryError(
        f"{name} no longer keeps its state of {_from_ms(time_ms)}; "
        + (f"the oldest it keeps is of {_from_ms(kept[0].timestamp_ms)}" if kept else "it has none")
    )


def _had_rows(table: Table) -> bool:
    """Return whether there were rows before the oldest state that is kept.

    By its row counts: PyIceberg's expiry takes the parent's id out of a snapshot.
    """
    history = table.history()
    first = table.snapshot_by_id(history[0].snapshot_id) if history else None
    if first is None or first.summary is None:
        return bool(history)
    total, added, deleted = (
        int(first.summary[f"{kind}-records"] or 0) for kind in ("total", "added", "deleted")
    )
    return total - added + deleted > 0


def _describe_unknown(name: str, table: Table, as_of: int | str) -> str:
    if isinstance(as_of, str):
        tags = sorted(set(table.refs()) - {"main"})
        return f"no table has a tag {as_of!r}; those of {name}: {', '.join(tags) or 'none'}"
    newest = [str(entry.snapshot_id) for entry in table.history()[-3:]]
    return f"no table keeps a snapshot {as_of}; {name}'s newest: {', '.join(newest) or 'none'}"


def _to_ms(time: datetime) -> int:
    if time.tzinfo is None:
        raise QueryError(f"as_of={time.isoformat()} has no time zone; say which: {time}+00:00")
    return (time - _EPOCH) // timedelta(milliseconds=1)


def _from_ms(time_ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=time_ms)).isoformat(timespec="milliseconds")
