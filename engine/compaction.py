"""Merge neighbouring segments into one, without what nobody needs, and put it in their place.

A row of small steps, each of which reads or writes about a slice, so that a thread can pace them
and a simulator can put anything between two of them. Order (I2, I5): the number is reserved; the
new segment is written, synced and named; one LMDB commit lists it and drops the others; only
then are their files unlinked. Readers that still look at one keep it open. Whatever is cut short,
LMDB knows which files are part of the store.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress

import msgspec

from .._native.segment import Segment, SegmentDamaged
from .._native.segment_cursor import SegmentCursor
from .._native.segment_merge import SegmentMerge
from .._native.segment_types import Found, Piece
from .directory import sync_changed
from .errors import Damaged
from .file_engine import FileEngine
from .flush import remove_leftover
from .metadata import SegmentEdit, SegmentEntry
from .needs import WHOLE, Need, Needs
from .records import encode

logger = logging.getLogger("durastream.compaction")

_EXTENTS_PER_STEP = 250  # some ms of Python
_ROWS_SIZE_PER_STEP = 256 * 1024
_SLICE_SIZE = 128 * 1024  # bytes synced at once: a sync of the log waits for it
_DOUBTFUL_SIZE_MIN = 1024 * 1024  # bytes of a source that are worth looking for its forks

Joined = tuple[int, bytes, list[Piece]]

_split = msgspec.msgpack.Decoder(tuple[msgspec.Raw, dict[str, msgspec.Raw]]).decode
_REMOVED = b"\xc0"  # a state of None, encoded


class InputUnusable(Exception):
    """An input cannot be read whole: it stays as it is. The cause says what is wrong."""

    def __init__(self, number: int, cause: SegmentDamaged | OSError) -> None:
        super().__init__(str(cause))
        self.number = number
        self.cause = cause


class Compaction:
    """One merge of neighbours.

    Args:
        inputs: the segments, the oldest first.
        reserved: numbers of all merges under way; this one's is added, and taken out at its end.

    ``steps`` raises InputUnusable, OSError for the new file, lmdb.Error; then ``abandon`` it.
    """

    def __init__(self, engine: FileEngine, inputs: Sequence[Segment], reserved: set[int]) -> None:
        self._engine = engine
        self._inputs = list(inputs)
        self._reserved = reserved
        self._number = 0
        oldest = self._inputs[0].after_lsn
        self._older = [x for x in engine.segments if x.upto_lsn <= oldest]
        self._needs = Needs(engine.metadata)
        self._merge: SegmentMerge | None = None
        self._unneeded: list[str] = []  # files that LMDB certainly does not list
        self._dead_before = {x.number: engine.listed[x.number].dead_size for x in self._inputs}

    def steps(self) -> Iterator[None]:
        """Do it, step by step."""
        yield from self._reserve()
        yield from self._write()
        assert self._merge is not None
        number = self._number
        path = os.fspath(self._engine.directory.segment(number))
        self._merge.finish()
        self._unneeded = [path]
        yield
        store_id = self._engine.directory.store_id
        segment = Segment(self._engine.disk, path, store_id=store_id, number=number)
        yield
        yield from self._replace(segment)
        yield from self._unlink()

    def abandon(self) -> None:
        """Remove what was written, as far as it is not part of the store."""
        if self._merge is not None:
            self._merge.abandon()
        for path in self._unneeded:
            with suppress(OSError):  # LMDB knows it to be obsolete
                self._engine.disk.unlink(path)
        self._reserved.discard(self._number)

    # -- numbers -----------------------------------------------------------------------------

    def _reserve(self) -> Iterator[None]:
        """Take a number: from now on LMDB knows that its file may be there, and is not listed."""
        engine = self._engine
        yield from _locked(engine)
        try:
            remove_obsolete(engine, self._reserved)
            before = engine.checkpoint
            number = before.next_segment
            remove_leftover(engine, os.fspath(engine.directory.segment(number)), number)
            after = msgspec.structs.replace(before, next_segment=number + 1)
            edit = SegmentEdit(obsolete=[*self._reserved, number])
            engine.metadata.commit(after, [], None, edit)
            engine.checkpoint = after
            self._number = number
            self._reserved.add(number)
        finally:
            engine.commit_lock.release()

    # -- writing -----------------------------------------------------------------------------

    def _write(self) -> Iterator[None]:
        engine, number = self._engine, self._number
        cursor = SegmentCursor(self._inputs)
        self._merge = SegmentMerge(
            engine.disk,
            os.fspath(engine.directory.segment(number)),
            self._inputs,
            store_id=engine.directory.store_id,
            number=number,
            level=1 + max(segment.level for segment in self._inputs),
            after_lsn=self._inputs[0].after_lsn,
            upto_lsn=self._inputs[-1].upto_lsn,
            slice_size=_SLICE_SIZE,
            sync_slices=True,
        )
        while batch := cursor.next_batch(_EXTENTS_PER_STEP, _ROWS_SIZE_PER_STEP):
            if any(self._is_doubtful(stream_id, found) for stream_id, found in batch):
                yield from self._look_for_forks()
            self._merge.put(self._joined(batch))
            while self._step():
                yield
            yield

    def _step(self) -> bool:
        assert self._merge is not None
        try:
            return self._merge.step()
        except (SegmentDamaged, OSError) as error:
            source = self._merge.failed_source
            if source < 0:
                raise
            raise InputUnusable(self._inputs[source].number, error) from error

    def _is_doubtful(self, stream_id: int, found: list[Found]) -> bool:
        size = sum(end - base for _, _, base, end, _, _ in found)
        return size >= _DOUBTFUL_SIZE_MIN and self._needs.is_doubtful(stream_id)

    def _look_for_forks(self) -> Iterator[None]:
        try:
            yield from self._needs.look_for_forks(self._engine.checkpoint.lsn)
        except Damaged as damage:
            logger.warning("cannot tell what forks need, so all of it stays: %s", damage)

    # -- what becomes of a stream ------------------------------------------------------------

    def _joined(self, batch: list[tuple[int, list[Found]]]) -> list[Joined]:
        needs = self._needs.of([stream_id for stream_id, _ in batch])
        joined: list[Joined] = []
        for stream_id, found in batch:
            need = needs.get(stream_id)
            if need is not None:
                joined += self._stream(stream_id, found, need)
            elif is_removed(newest_row(found)):
                joined += self._tombstone(stream_id, found)
            elif not self._is_removed_later(stream_id):
                joined += self._stream(stream_id, found, WHOLE)  # no witness but a missing row
        return joined

    def _is_removed_later(self, stream_id: int) -> bool:
        """Whether a newer segment says that a stream was removed. LMDB's word is not enough."""
        for segment in self._engine.segments:
            if segment.upto_lsn <= self._inputs[-1].upto_lsn:
                break
            for _, _, index in segment.extents_of(stream_id):
                if segment.extent(index).row_size:
                    with suppress(SegmentDamaged, OSError):
                        return is_removed(segment.row(index))
        return False

    def _stream(self, stream_id: int, found: list[Found], need: Need) -> list[Joined]:
        runs: list[list[Piece]] = []
        for piece in self._pieces(found, need):
            if runs and runs[-1][-1][3] == piece[2]:
                runs[-1].append(piece)
            else:
                runs.append([piece])
        row = merged_row([self._row(extent) for extent in found if extent[5] is not None])
        rows = [row, *[b""] * len(runs)]
        extents = zip(rows, runs or [[]], strict=False)
        return [(stream_id, row, run) for row, run in extents if row or run]

    def _pieces(self, found: list[Found], need: Need) -> Iterator[Piece]:
        for source, index, base, end, count, _ in found:
            start, stop = max(base, need.start), min(end, need.end)
            if (start, stop) == (base, end) and base < end:
                yield source, index, base, end, 0, count
            elif start < stop:
                try:
                    cut = self._inputs[source].cut(index, start, stop)
                except (SegmentDamaged, OSError) as error:
                    raise InputUnusable(self._inputs[source].number, error) from error
                yield source, index, *cut

    def _row(self, extent: Found) -> bytes:
        source, row = extent[0], extent[5]
        if isinstance(row, bytes):
            return row
        assert row is not None
        raise InputUnusable(self._inputs[source].number, row) from row

    def _tombstone(self, stream_id: int, found: list[Found]) -> list[Joined]:
        """Of a removed stream: that it was, as long as an older segment holds of it."""
        if not any(segment.extents_of(stream_id) for segment in self._older):
            return []
        return [(stream_id, newest_row(found), [])]

    # -- taking their place --------------------------------------------------------------------

    def _replace(self, segment: Segment) -> Iterator[None]:
        """List the new segment and drop the others, in one commit; then readers find it."""
        engine, numbers = self._engine, [x.number for x in self._inputs]
        yield from _locked(engine)
        try:
            entry = SegmentEntry(
                segment.number,
                segment.level,
                segment.after_lsn,
                segment.upto_lsn,
                segment.size,
                min(segment.size, self._died_meanwhile()),
            )
            others = [n for n in engine.metadata.obsolete() if n != segment.number]
            edit = SegmentEdit(put=[entry], removed=numbers, obsolete=[*others, *numbers])
            self._unneeded = []  # from here on only a look at LMDB could tell
            engine.metadata.commit(engine.checkpoint, [], None, edit)
            self._unneeded = [x.path for x in self._inputs]
            engine.replace_segments(self._inputs, segment, entry)
            self._reserved.discard(segment.number)
        finally:
            engine.commit_lock.release()

    def _died_meanwhile(self) -> int:
        """Bytes that were needed when the merge began; some of them it may have left out."""
        listed = self._engine.listed
        return sum(listed[number].dead_size - size for number, size in self._dead_before.items())

    def _unlink(self) -> Iterator[None]:
        """Free the inputs' files. A failure is no harm: LMDB knows them to be obsolete."""
        engine = self._engine
        for segment in self._inputs:
            segment.retire(engine.reaper)
        yield
        while self._unneeded:
            if engine.disk.exists(self._unneeded[-1]):  # else another merge has tidied up
                engine.disk.unlink(self._unneeded[-1])
            self._unneeded.pop()
            yield
        engine.disk.sync_directory(engine.directory.segments)


def merged_row(rows: list[bytes]) -> bytes:
    """The newest of a stream's rows, which come oldest first, with the producers of all."""
    if len(rows) < 2:
        return rows[0] if rows else b""
    row, producers = _split(rows[-1])
    known = dict(producers)
    for older in reversed(rows[:-1]):
        for producer_id, producer in _split(older)[1].items():
            known.setdefault(producer_id, producer)
    return rows[-1] if len(known) == len(producers) else b"\x92" + bytes(row) + encode(known)


def newest_row(found: list[Found]) -> bytes:
    """Of a stream's extents, the oldest first; empty if there is none, or it is damaged."""
    newest = next((extent[5] for extent in reversed(found) if extent[5] is not None), b"")
    return newest if isinstance(newest, bytes) else b""


def is_removed(row: bytes) -> bool:
    """Whether a row of a segment says that its stream was removed."""
    return row[2:3] == _REMOVED  # an array of two, an array of two or three, its state


def remove_obsolete(engine: FileEngine, reserved: set[int]) -> None:
    """Remove the files that LMDB knows not to be part of the store. Locked for commits.

    Args:
        reserved: numbers of merges under way, which are to stay.

    Raises: OSError, lmdb.Error.
    """
    numbers = [number for number in engine.metadata.obsolete() if number not in reserved]
    for number in numbers:
        path = engine.directory.segment(number)
        if number not in engine.listed and engine.disk.exists(path):
            engine.disk.unlink(path)
    if numbers:  # what LMDB forgets must not come back, though a sync before this one failed
        sync_changed(engine.disk, engine.directory.segments, "changed.tmp")


def _locked(engine: FileEngine) -> Iterator[None]:
    """Take the lock of commits, without waiting in a step: a flush may hold it for long."""
    while not engine.commit_lock.acquire(blocking=False):
        yield
