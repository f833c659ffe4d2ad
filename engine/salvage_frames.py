"""Read one file of the log past damage: every record that its own checksums vouch for.

Source: docs/format-wal.md. Where a frame's header is damaged its records are read all the same,
as long as their LSNs go on; where a record's header is, reading goes on at the next record whose
header is right and bears one of the LSNs that must follow. It only reads, and decides nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .._native.checksum import xxh64
from .._native.disk import Disk
from .._native.wal_types import ScannedRecord
from .wal_py import (
    FLAG_SIZES,
    FRAME_HEADER,
    FRAME_MAGIC,
    PAGE_SIZE,
    RECORD_HEADER,
    VERSION,
    FileHeader,
    FrameHeader,
    RecordHeader,
    WalError,
    padded,
    read_file_header,
    read_record,
)

_PIECE = 1 << 20
_TRIES = 64  # records with damaged headers one behind the other
_LINK, _RECOVERY = 1, 2


class Span(NamedTuple):
    """LSNs [first, last]."""

    first: int
    last: int


class FoundRecord(NamedTuple):
    """A record, as it would be replayed, and its bytes; damaged: its header alone is right."""

    scanned: ScannedRecord
    raw: memoryview
    file: str  # its name

    def data(self) -> tuple[bytes, tuple[int, ...]]:
        """Wire bytes, and the sizes of the messages that they are."""
        record = read_record(
            bytes(self.raw), RecordHeader._make(RECORD_HEADER.unpack_from(self.raw))
        )
        return record.data, record.message_sizes


@dataclass(slots=True)
class FileContent:
    """What stands in one file of the log."""

    name: str
    sequence: int
    header: FileHeader | None = None  # None: damaged
    foreign: str | None = None  # why it is not a file of this log at all
    is_incomplete: bool = False  # more may have stood in it than can be read
    records: list[FoundRecord] = field(default_factory=list)
    never_given: list[Span] = field(default_factory=list)
    successors: list[int] = field(default_factory=list)  # sequences that LINK frames name
    seen_lsn: int = 0
    proven_lsn: int = 0  # records up to it were durable


def read_file(disk: Disk, path: Path, sequence: int, store_id: bytes, floor: int) -> FileContent:
    """Read the file ``path``, which bears ``sequence`` as its name. Raises: OSError but EIO."""
    content, is_whole = read_all(disk, path)
    found = FileContent(path.name, sequence, is_incomplete=not is_whole)
    try:
        header = read_file_header(content[:PAGE_SIZE].ljust(PAGE_SIZE, b"\0"))
    except WalError:
        pass
    else:
        if header.store_id != store_id:
            found.foreign = "belongs to another store"
            return found
        found.header, found.sequence = header, header.sequence
        found.is_incomplete |= len(content) < header.size
        found.proven_lsn = max(header.base_lsn, header.kept_lsn)
        found.seen_lsn = max(found.proven_lsn, header.resume_lsn - 1, header.first_lsn - 1)
        found.never_given.append(Span(header.base_lsn + 1, header.first_lsn - 1))
        if header.kind == _RECOVERY:
            found.never_given.append(Span(header.kept_lsn + 1, header.resume_lsn - 1))
    _Reader(content, found, floor).read()
    if found.header is None and not found.records:
        found.is_incomplete = True  # nobody can tell what stood in it
    return found


def read_all(disk: Disk, path: Path) -> tuple[bytes, bool]:
    """The file; what the medium does not give is zero, and then it is not whole."""
    handle = disk.open(path, os.O_RDONLY)
    try:
        size, is_whole, pieces = disk.size(handle), True, []
        for position in range(0, size, _PIECE):
            wanted = min(_PIECE, size - position)
            for piece in _pieces(disk, handle, position, wanted):
                is_whole &= piece is not None
                pieces.append(piece if piece is not None else bytes(PAGE_SIZE))
        return b"".join(pieces)[:size], is_whole
    finally:
        disk.close(handle)


def _pieces(disk: Disk, handle: int, position: int, size: int) -> Iterator[bytes | None]:
    """One piece; or page by page, where None stands for a page that cannot be read."""
    try:
        yield disk.pread(handle, size, position)
        return
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    for at in range(position, position + size, PAGE_SIZE):
        try:
            yield disk.pread(handle, min(PAGE_SIZE, position + size - at), at)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            yield None


class _Reader:
    """Goes through one file, frame by frame, or record by record where a frame is damaged."""

    def __init__(self, content: bytes, found: FileContent, floor: int) -> None:
        self._content = content
        self._view = memoryview(content)
        self._found = found
        self._floor = floor
        header = found.header
        self._incarnation = header.incarnation if header is not None else None
        self._kept_end = header.kept_end if header is not None else 0
        self._expected = header.first_lsn if header is not None else None
        self._is_behind_damage = False

    def read(self) -> None:
        position = PAGE_SIZE
        while position < len(self._content):
            frame = self._frame(position)
            if frame is None:
                position = self._past_damage(position)
                continue
            self._take_frame(position, frame)
            position += -(-(FRAME_HEADER.size + frame.size) // PAGE_SIZE) * PAGE_SIZE

    def _frame(self, position: int) -> FrameHeader | None:
        """The header of a frame at ``position``, if it is right and of this use of the file."""
        content = self._content
        if not content.startswith(FRAME_MAGIC, position):
            return None
        if position + FRAME_HEADER.size > len(content):
            return None
        frame = FrameHeader._make(FRAME_HEADER.unpack_from(content, position))
        if frame.version != VERSION or frame.checksum != xxh64(
            self._view[position : position + FRAME_HEADER.size - 8], position
        ):
            return None
        if self._incarnation is not None and frame.incarnation != self._incarnation:
            return None
        if self._incarnation is None:
            if frame.first_lsn <= self._floor:
                return None  # the file's header is damaged: this may be of an earlier use
            self._incarnation = frame.incarnation
        return frame

    def _take_frame(self, position: int, frame: FrameHeader) -> None:
        found, last = self._found, frame.first_lsn + frame.record_count - 1
        found.proven_lsn = max(found.proven_lsn, frame.watermark)
        found.seen_lsn = max(found.seen_lsn, frame.watermark, last)
        if frame.flags & _LINK:
            found.successors.append(frame.successor_sequence)
        if position < self._kept_end and self._expected and not self._is_behind_damage:
            found.never_given.append(Span(self._expected, frame.first_lsn - 1))
        start = position + FRAME_HEADER.size
        self._take_records(start, start + frame.size, frame.first_lsn, last)
        self._expected, self._is_behind_damage = last + 1, False

    def _past_damage(self, position: int) -> int:
        """Take what records there are up to the next frame whose header is right."""
        following = position + PAGE_SIZE
        while following < len(self._content) and self._frame(following) is None:
            following += PAGE_SIZE
        frame = self._frame(following) if following < len(self._content) else None
        last = None if frame is None else frame.first_lsn - 1
        lsn = self._expected or self._lsn_at(position + FRAME_HEADER.size)
        if lsn > self._floor or self._expected:
            taken = self._take_records(position + FRAME_HEADER.size, following, lsn, last)
            self._expected = taken or self._expected
        self._is_behind_damage = True
        return following

    def _lsn_at(self, position: int) -> int:
        """What stands where a record has its LSN."""
        return int.from_bytes(self._content[position + 8 : position + 16], "little")

    def _take_records(self, at: int, stop: int, lsn: int, last: int | None) -> int:
        """Records from ``at`` on that bear the LSNs from ``lsn`` to ``last``; the next LSN."""
        stop = min(stop, len(self._content))
        while last is None or lsn <= last:
            header = self._record(at, stop, lsn)
            if header is None:
                place = self._following(at, stop, lsn, last)
                if place is None:
                    break
                at, lsn = place
                continue
            self._take(at, header)
            at, lsn = at + header.size, lsn + 1
        return lsn

    def _record(self, at: int, stop: int, lsn: int) -> RecordHeader | None:
        """The header of the record at ``at``, if it is right and bears ``lsn``."""
        if at + RECORD_HEADER.size > stop or self._lsn_at(at) != lsn:
            return None
        header = RecordHeader._make(RECORD_HEADER.unpack_from(self._content, at))
        if header.header_checksum != xxh64(self._view[at + 8 : at + 64]):
            return None
        sizes = padded(4 * header.message_count) if header.flags & FLAG_SIZES else 0
        parts = RECORD_HEADER.size + sizes + padded(header.meta_size) + padded(header.data_size)
        is_legal = header.kind and not header.flags & ~FLAG_SIZES and header.size == parts
        return header if is_legal and at + parts <= stop else None

    def _following(self, at: int, stop: int, lsn: int, last: int | None) -> tuple[int, int] | None:
        """Where the next whole record behind a damaged one starts, and its LSN."""
        if last is None:
            return None
        for later in range(lsn + 1, min(last, lsn + _TRIES) + 1):
            wanted, start = later.to_bytes(8, "little"), at + 8
            while (start := self._content.find(wanted, start + 8 - start % 8, stop)) >= 0:
                if start % 8 == 0 and self._is_whole(start - 8, stop, later):
                    return start - 8, later
                start -= start % 8
        return None

    def _is_whole(self, at: int, stop: int, lsn: int) -> bool:
        header = self._record(at, stop, lsn)
        return header is not None and self._has_body(at, header)

    def _has_body(self, at: int, header: RecordHeader) -> bool:
        return header.body_checksum == xxh64(self._view[at + 64 : at + header.size])

    def _take(self, at: int, header: RecordHeader) -> None:
        found, raw = self._found, self._view[at : at + header.size]
        found.seen_lsn = max(found.seen_lsn, header.lsn)
        is_whole = self._has_body(at, header)
        meta = b""
        if is_whole:
            sizes = padded(4 * header.message_count) if header.flags & FLAG_SIZES else 0
            start = RECORD_HEADER.size + sizes
            meta = bytes(raw[start : start + header.meta_size])
        scanned = ScannedRecord(
            header.lsn, header.kind, header.stream_id, header.base, header.data_size,
            header.message_count, meta, at, not is_whole,
        )  # fmt: skip
        found.records.append(FoundRecord(scanned, raw, found.name))
