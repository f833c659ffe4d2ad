"""The segments of a damaged directory: which of the files count, and what each still holds.

A file is known by its header, not by its name. One that is whole stays as it is; one that is
damaged is read as far as it goes; one of another store, or one whose LSNs a newer segment holds
as a whole, does not count. It only reads.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .._native.disk import Disk
from .._native.segment import Segment, SegmentDamaged
from .._native.segment_types import Extent
from .metadata import Checkpoint, SegmentEntry
from .records import decode_segment_row
from .salvage_segment import SalvagedExtent, SalvagedSegment, salvage_segment, segment_header
from .segment_py import HEADER

_NAME = re.compile(r"(\d{20})\.seg")
_VERIFY_STEP = 65536  # bytes that one step of ``Segment.verify`` reads, at most


class Lost(NamedTuple):
    """LSNs (after_lsn, upto_lsn] that a segment held which is not there any more."""

    after_lsn: int
    upto_lsn: int
    number: int | None  # None: only the gap between its neighbours shows that there was one


@dataclass(slots=True)
class Held:
    """Wire bytes of a stream in a segment, and its row there. Positions are the stream's."""

    stream_id: int
    base: int
    end: int  # as written
    append_end: int  # behind the last append that is whole; ``end`` if nothing is damaged
    file: str  # the segment's name
    salvaged: SalvagedExtent | None = None  # of a damaged segment
    used_end: int = 0  # up to where the bytes are kept

    def __post_init__(self) -> None:
        self.used_end = self.append_end


@dataclass(slots=True)
class SegmentFile:
    """One segment."""

    name: str  # of its file
    number: int
    level: int
    after_lsn: int
    upto_lsn: int
    size: int
    extents: list[Held] = field(default_factory=list)
    salvaged: SalvagedSegment | None = None  # None: whole
    is_range_known: bool = True  # False: its header is damaged, and no row describes it

    @property
    def is_damaged(self) -> bool:
        return self.salvaged is not None

    @property
    def right_name(self) -> str:
        return f"{self.number:020d}.seg"

    @property
    def entry(self) -> SegmentEntry:
        return SegmentEntry(self.number, self.level, self.after_lsn, self.upto_lsn, self.size)

    def covers(self, other: SegmentFile) -> bool:
        """Whether it was made of the other one, by a compaction."""
        return (
            self.level > other.level
            and self.after_lsn <= other.after_lsn
            and other.upto_lsn <= self.upto_lsn
        )


@dataclass(slots=True)
class Segments:
    """Those that count, the oldest first; names of files that do not, and why; what is gone."""

    files: list[SegmentFile] = field(default_factory=list)
    aside: list[tuple[str, str]] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)

    @property
    def upto_lsn(self) -> int:
        ends = [file.upto_lsn for file in self.files] + [lost.upto_lsn for lost in self.lost]
        return max(ends, default=0)

    @property
    def has_all_rows(self) -> bool:
        """Whether the newest row of each stream can be read: then nobody else is asked."""
        return not self.lost and not any(
            file.salvaged is not None and file.salvaged.lacks_rows for file in self.files
        )


class SegmentReader:
    """Reads all segments in small steps; then ``choose`` says which of them count."""

    def __init__(self, disk: Disk, folder: Path, store_id: bytes) -> None:
        self._disk = disk
        self._folder = folder
        self._store_id = store_id
        self._found: list[SegmentFile] = []
        self._aside: list[tuple[str, str]] = []

    def read(self) -> Iterator[int]:
        """Read every file; yields bytes done."""
        if not self._disk.exists(self._folder):
            return
        for name in self._disk.list_directory(self._folder):
            match = _NAME.fullmatch(name)
            if match is not None:
                yield from self._read(name, int(match[1]))

    def _read(self, name: str, number: int) -> Iterator[int]:
        header = segment_header(_first_page(self._disk, self._folder / name))
        if header is None:
            found = SegmentFile(name, number, 0, 0, 0, 0, is_range_known=False)
        elif header.store_id != self._store_id:
            self._aside.append((name, "belongs to another store"))
            return
        else:
            found = SegmentFile(
                name, header.number, header.level, header.after_lsn, header.upto_lsn, 0
            )
        self._found.append(found)
        yield from self._read_extents(found)

    def _read_extents(self, found: SegmentFile) -> Iterator[int]:
        """As they are, if every byte is right; else as far as they can be read."""
        done = 0
        with suppress(SegmentDamaged, OSError):
            segment = self.open(found)
            try:
                for size in _verified(segment):
                    yield size
                    done += size
                found.size = segment.size
                found.extents = [
                    _whole(found, segment.extent(i)) for i in range(segment.extent_count)
                ]
                return
            finally:
                segment.close()
        salvaged = salvage_segment(self._disk, self._folder / found.name)
        found.salvaged, found.size = salvaged, salvaged.size
        found.extents = [_salvaged(found, extent) for extent in salvaged.extents]
        yield max(0, salvaged.size - done)

    def open(self, found: SegmentFile) -> Segment:
        path = os.fspath(self._folder / found.name)
        return Segment(self._disk, path, store_id=self._store_id, number=found.number)

    def rows(self, found: SegmentFile) -> Iterator[tuple[Held, bytes | None]]:
        """The rows of a segment; None where one is damaged."""
        if found.salvaged is not None:
            for held in found.extents:
                if held.salvaged is not None and held.salvaged.has_row:
                    yield held, held.salvaged.row
            return
        segment = self.open(found)
        try:
            for index, held in enumerate(found.extents):
                if segment.extent(index).row_size:
                    yield held, segment.row(index)
        finally:
            segment.close()

    def headers(self) -> dict[int, SegmentEntry]:
        """The segments as they describe themselves, where their headers are right."""
        return {file.number: file.entry for file in self._found if file.is_range_known}

    def choose(self, listed: list[SegmentEntry], checkpoint: Checkpoint | None) -> Segments:
        """Which of the files count.

        Args:
            listed: what the rows say, if they are this store's.
            checkpoint: theirs.
        """
        entries = {entry.number: entry for entry in listed}
        found = Segments(aside=list(self._aside))
        files = self._one_of_each(found)
        for file in files:
            _describe(file, entries.get(file.number))
        for file in files:
            reason = _why_not(file, files, entries, checkpoint)
            if reason is None:
                found.files.append(file)
            else:
                found.aside.append((file.name, reason))
        _guess_ranges(found.files)
        found.files.sort(key=lambda file: (file.upto_lsn, file.number))
        present = {file.number for file in found.files}
        found.lost = [
            Lost(entry.after_lsn, entry.upto_lsn, entry.number)
            for entry in listed
            if entry.number not in present
        ]
        found.lost += _gaps(found)
        return found

    def _one_of_each(self, found: Segments) -> list[SegmentFile]:
        """Of several files with one number the whole one, the one with the right name."""
        chosen: dict[int, SegmentFile] = {}
        for file in sorted(self._found, key=lambda f: (f.is_damaged, f.name != f.right_name)):
            if chosen.setdefault(file.number, file) is not file:
                found.aside.append((file.name, f"is another segment {file.number}"))
        return list(chosen.values())


def _verified(segment: Segment) -> Iterator[int]:
    """Read every byte; yields bytes done. Raises: what is not right."""
    left = segment.size
    for damage in segment.verify():
        if damage is not None:
            raise damage
        done = min(left, _VERIFY_STEP)
        left -= done
        yield done
    yield left


def _whole(found: SegmentFile, extent: Extent) -> Held:
    return Held(extent.stream_id, extent.base, extent.end, extent.end, found.right_name)


def _salvaged(found: SegmentFile, extent: SalvagedExtent) -> Held:
    append_end = extent.append_end if extent.data_end < extent.end else extent.end
    return Held(extent.stream_id, extent.base, extent.end, append_end, found.right_name, extent)


def _first_page(disk: Disk, path: Path) -> bytes:
    handle = disk.open(path, os.O_RDONLY)
    try:
        return disk.pread(handle, HEADER.size, 0)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""
    finally:
        disk.close(handle)


def _describe(file: SegmentFile, listed: SegmentEntry | None) -> None:
    """Take from the rows what a damaged header does not say."""
    if not file.is_range_known and listed is not None:
        file.level = listed.level
        file.after_lsn, file.upto_lsn = listed.after_lsn, listed.upto_lsn
        file.is_range_known = True


def _why_not(
    file: SegmentFile,
    files: list[SegmentFile],
    listed: dict[int, SegmentEntry],
    checkpoint: Checkpoint | None,
) -> str | None:
    """Why a segment does not count; None if it does."""
    entry = listed.get(file.number)
    if entry is not None:
        if (entry.after_lsn, entry.upto_lsn) != (file.after_lsn, file.upto_lsn):
            return "is not the segment that the rows describe"
        return None
    if file.is_damaged and checkpoint is not None and file.number >= checkpoint.next_segment:
        return "a flush that was cut short before its commit"
    if file.is_damaged and _has_inputs(file, files):
        return "the segments that it was made of are still there"
    if not file.is_range_known and not file.extents:
        return "nothing of it can be read"
    for other in files:
        is_whole = other.is_range_known and not other.is_damaged
        if other is not file and is_whole and other.covers(file):
            return f"segment {other.number} holds all of it"
    return None


def _has_inputs(file: SegmentFile, files: list[SegmentFile]) -> bool:
    """Whether whole segments hold all that a compaction joined in this one."""
    upto = file.after_lsn
    inputs = [f for f in files if file.is_range_known and file.covers(f) and not f.is_damaged]
    for found in sorted(inputs, key=lambda found: found.after_lsn):
        if found.after_lsn <= upto:
            upto = max(upto, found.upto_lsn)
    return bool(inputs) and upto >= file.upto_lsn


def _guess_ranges(files: list[SegmentFile]) -> None:
    """A segment whose header is damaged lies between its neighbours: they were written in turn."""
    for file in sorted(files, key=lambda file: file.number):
        if file.is_range_known:
            continue
        below = [f.upto_lsn for f in files if f.is_range_known and f.number < file.number]
        above = [f.after_lsn for f in files if f.is_range_known and f.number > file.number]
        file.after_lsn = max(below, default=0)
        file.upto_lsn = max(min(above, default=0), file.after_lsn, *_row_lsns(file))
        file.is_range_known = True


def _row_lsns(file: SegmentFile) -> list[int]:
    assert file.salvaged is not None
    rows = [extent.row for extent in file.salvaged.extents if extent.row is not None]
    return [0, *(decode_segment_row(row).row.lsn for row in rows)]


def _gaps(found: Segments) -> Iterator[Lost]:
    """Each flush begins where the one before it ended: else there was another between them."""
    ranges = [(file.after_lsn, file.upto_lsn) for file in found.files]
    ranges += [(lost.after_lsn, lost.upto_lsn) for lost in found.lost]
    upto = 0
    for after_lsn, upto_lsn in sorted(ranges):
        if after_lsn > upto:
            yield Lost(upto, after_lsn, None)
        upto = max(upto, upto_lsn)
