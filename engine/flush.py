"""Move what is durable from the log into a segment and rows, then recycle the log (I2).

A flush fixes C, a durable frame boundary, and writes every dirty row exactly as of C: the set
of dirty rows is taken in one step under the lock, later changes start a new one. Order: segment
synced, then one LMDB commit that names it and moves the checkpoint, and only then files of the
log are recycled. A failed write abandons the segment, gives the dirty rows back and is tried
again; the log still has everything.
"""

from __future__ import annotations

import logging
import os
import time
from typing import NamedTuple

from .._native.flush import Flush
from .._native.segment import Segment
from .._native.wal_types import Checkpoint as LogPosition
from .dead import dead_on_arrival, with_dead
from .entry import Dirty
from .file_engine import FileEngine
from .metadata import Checkpoint, SegmentEdit, SegmentEntry, StreamChange
from .records import Row, encode, segment_row

logger = logging.getLogger("durastream.flush")

_PAUSE_MAX = 0.02  # seconds
_TAILS_PER_STEP = 500  # tails cut under the lock at a time, so that no request waits long


class Written(NamedTuple):
    """What a flush committed."""

    checkpoint: Checkpoint
    segment: Segment | None
    entries: list[SegmentEntry]  # rows of segments that are new or changed


def flush(engine: FileEngine, *, clean: bool = False) -> bool:
    """Flush everything durable; False if there was nothing to do.

    Args:
        clean: the last flush of an orderly close.

    Raises: OSError, lmdb.Error, StoreFailed; all is as before then, but for unreferenced files.
    """
    with engine.lock:
        if not engine.is_whole:
            engine.require_usable()
        position = engine.log.durable_point()
        engine.projection.advance(position.lsn)
        dirty = engine.projection.take_dirty()
        next_stream_id = engine.projection.next_stream_id
    before = engine.checkpoint
    if not dirty and position.lsn == before.lsn and before.clean == clean:
        return False
    try:
        written = _write(engine, position, dirty, next_stream_id, clean)
    except BaseException:
        with engine.lock:
            engine.projection.give_back(dirty)
        raise
    _finish(engine, position, written, dirty)
    return True


def _write(
    engine: FileEngine,
    position: LogPosition,
    dirty: dict[int, Dirty],
    next_stream_id: int,
    clean: bool,
) -> Written:
    before = engine.checkpoint
    changes = [_change(dirty[stream_id]) for stream_id in sorted(dirty)]
    segment = None
    entry = None
    if changes:
        number = before.next_segment
        cuts = _holes(engine, dirty)
        segment = _write_segment(engine, position, changes, cuts, number)
        dead = dead_on_arrival(segment, dirty.values())
        entry = SegmentEntry(number, 0, before.lsn, position.lsn, segment.size, dead)
    checkpoint = Checkpoint(
        position.lsn,
        position.file_sequence,
        position.position,
        next_stream_id,
        before.next_segment + bool(changes),
        clean,
    )
    edit = SegmentEdit(put=with_dead(engine.segments, engine.listed, dirty.values()))
    try:
        engine.metadata.commit(checkpoint, changes, entry, edit)
    except BaseException:
        if segment is not None:
            segment.close()
        raise
    return Written(checkpoint, segment, [*edit.put, *([entry] if entry is not None else [])])


def _holes(engine: FileEngine, dirty: dict[int, Dirty]) -> dict[int, int]:
    """Where the log has a hole, by stream: what follows one cannot be part of an extent."""
    with engine.lock:
        entries = engine.catalog.entries
        return {
            stream_id: entries[stream_id].tail.end
            for stream_id, row in dirty.items()
            if row.quarantine is not None and stream_id in entries
        }


def _change(row: Dirty) -> StreamChange:
    encoded = encode(Row(row.state, row.lsn, row.quarantine))
    return StreamChange(row.stream_id, row.path, row.state, encoded, row.producers)


def _write_segment(
    engine: FileEngine,
    position: LogPosition,
    changes: list[StreamChange],
    cuts: dict[int, int],
    number: int,
) -> Segment:
    path = os.fspath(engine.directory.segment(number))
    remove_leftover(engine, path, number)
    batch = engine.log.collect(engine.checkpoint.lsn, position.lsn)
    for stream_id, position_of_hole in cuts.items():
        batch.drop(stream_id, position_of_hole)
    writing = Flush(
        engine.disk,
        path,
        batch,
        [(change.stream_id, segment_row(change.row, change.producers)) for change in changes],
        {change.stream_id for change in changes if change.state is None},
        store_id=engine.directory.store_id,
        number=number,
        after_lsn=engine.checkpoint.lsn,
        upto_lsn=position.lsn,
        sync_slices=True,
    )
    try:
        _write_paced(engine, writing)
    except BaseException:
        writing.abandon()
        raise
    return Segment(engine.disk, path, store_id=engine.directory.store_id, number=number)


def _write_paced(engine: FileEngine, writing: Flush) -> None:
    """Slice by slice, each synced, with pauses as long: the log's syncs come first."""
    while True:
        started = engine.monotonic()
        more = writing.step()
        if not more:
            break
        if engine.has_threads and engine.is_usable:
            time.sleep(min(engine.monotonic() - started, _PAUSE_MAX))
    writing.finish()


def remove_leftover(engine: FileEngine, path: str, number: int) -> None:
    """Free a name from a flush that failed between its segment and its commit.

    Locked for commits. Raises: OSError, lmdb.Error.
    """
    if not engine.disk.exists(path):
        return
    if all(entry.number != number for entry in engine.metadata.segments()):
        engine.disk.unlink(path)


def _finish(
    engine: FileEngine,
    position: LogPosition,
    written: Written,
    dirty: dict[int, Dirty],
) -> None:
    """Let readers find the bytes in the segment, then forget them in memory and in the log."""
    engine.add_segment(written.segment, written.entries)
    engine.checkpoint = written.checkpoint
    flushed = list(dirty.values())
    for first in range(0, len(flushed), _TAILS_PER_STEP):
        with engine.lock:
            for row in flushed[first : first + _TAILS_PER_STEP]:
                _forget(engine, row)
    _forget_deadlines(engine, position.lsn)
    engine.log.release(position)


def _forget(engine: FileEngine, row: Dirty) -> None:
    entry = engine.catalog.entries.get(row.stream_id)
    if entry is None:
        return
    if row.state is None:
        del engine.catalog.entries[row.stream_id]
        return
    entry.flushed(row)
    entry.tail.drop_below(min(row.state.tail, entry.tail.end))
    engine.catalog.forget_producers(entry, row.producers)


def _forget_deadlines(engine: FileEngine, lsn: int) -> None:
    """The sweeper finds what was flushed in its table: only newer streams need memory."""
    watchlist, entries = engine.operations.watchlist, engine.catalog.entries
    with engine.lock:
        deadlines = watchlist.take_deadlines()
    # Without the lock, so that evictions go on meanwhile.
    kept = [item for item in deadlines if (entry := entries.get(item[1])) and entry.lsn > lsn]
    with engine.lock:
        watchlist.put_back(kept)
