"""The part of the log that a backup needs: from a checkpoint to the newest whole frame.

The log may be in use: files grow, and are recycled once a later checkpoint made them
superfluous. So it is walked, copied, and the copy walked again; a copy that is not whole, or
whose files were recycled meanwhile, is given up (``LogMoved``). A frame that was acknowledged
before the walk began is always in it (I1): it was written whole by then.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Generator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from .._native.checksum import xxh64
from .._native.delegated_disk import DelegatedDisk
from .._native.disk import Disk
from .._native.wal_reader import WalFile
from .._native.wal_scan import WalScan
from .._native.wal_types import Checkpoint as LogPosition
from .backup_copy import Written, opened, read_chunks, write_chunks
from .metadata import Checkpoint

PAGE_SIZE = 4096  # the header's, and where a frame may start
_FRAME = struct.Struct("<4s 4x Q 16x I 20x Q")  # magic, incarnation, size of records, checksum
_FRAME_MAGIC = b"DSFM"


class LogMoved(Exception):
    """What was found is not whole: damaged, or it changed meanwhile.

    Args:
        what: as for people; equal for equal damage.
        where: file and position below the data directory.
    """

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} at {where}")
        self.what = what
        self.where = where


class LogPart(NamedTuple):
    """One file of the log, and what of it is needed: its first page, and [start, end).

    Positions and sizes are bytes.
    """

    name: str
    sequence: int
    incarnation: int
    size: int
    start: int
    end: int

    @property
    def hole(self) -> int:
        """Bytes behind the first page that nobody needs."""
        return self.start - PAGE_SIZE


class LogExtent(NamedTuple):
    """All that lies behind a checkpoint."""

    parts: list[LogPart]
    last_lsn: int


def walk_log(disk: Disk, folder: Path, store_id: bytes, checkpoint: Checkpoint) -> LogExtent:
    """Walk the log behind a checkpoint. Raises: LogMoved, OSError."""
    try:
        return _walk(disk, folder, store_id, checkpoint)
    except FileNotFoundError as error:  # recycled between the list of files and a look at one
        where = os.path.relpath(error.filename, folder.parent)
        raise LogMoved("the file is gone", where) from error


def _walk(disk: Disk, folder: Path, store_id: bytes, checkpoint: Checkpoint) -> LogExtent:
    start = LogPosition(checkpoint.lsn, checkpoint.file_seq, checkpoint.position)
    try:
        scan = WalScan(disk, os.fspath(folder), store_id, start)
    except ValueError as error:
        raise LogMoved(str(error), "meta.lmdb/data.mdb") from error
    for frame in scan:
        for record in frame.records:
            if record.damaged:
                what = f"the body of record {record.lsn}, of stream {record.stream_id},"
                raise LogMoved(what, _place(frame.file, record.position))
    if scan.walk.damage:
        damage = scan.walk.damage[0]
        raise LogMoved(damage.what, _place(damage.file, damage.position))
    walked = [(scan.walk.files[sequence], end) for sequence, end, _ in scan.walk.chain]
    parts = [_part(disk, file, end, checkpoint) for file, end in walked]
    return LogExtent(parts, scan.walk.last_lsn)


def _part(disk: Disk, file: WalFile, end: int, checkpoint: Checkpoint) -> LogPart:
    start = PAGE_SIZE
    if file.sequence == checkpoint.file_seq:
        start = _frame_before(disk, file, checkpoint.position)
    name = os.path.basename(file.path)
    return LogPart(name, file.sequence, file.incarnation, file.size, start, end)


def _frame_before(disk: Disk, file: WalFile, position: int) -> int:
    """Where the frame starts that ends at the checkpoint: it proves that the file reaches there.

    The first frame's place if that cannot be told.
    """
    at = start = end = PAGE_SIZE
    with opened(disk, Path(file.path)) as handle:
        while at < position:
            head = disk.pread(handle, _FRAME.size, at)
            size = _frame_size(head, at, file.incarnation)
            if size:
                start, end = at, at + size
            at += size or PAGE_SIZE
    return start if end == position else PAGE_SIZE


def _frame_size(head: bytes, position: int, incarnation: int) -> int:
    """Bytes of a whole frame, padding included; 0 if its header is not valid here."""
    if len(head) < _FRAME.size:
        return 0
    magic, found, records_size, checksum = _FRAME.unpack(head)
    if (magic, found) != (_FRAME_MAGIC, incarnation):
        return 0
    if checksum != xxh64(head[: _FRAME.size - 8], position):
        return 0
    page_count: int = -(-(_FRAME.size + records_size) // PAGE_SIZE)
    return page_count * PAGE_SIZE


def _place(file: str, position: int) -> str:
    return f"wal/{os.path.basename(file)}, byte {position}"


def copy_part(
    disk: Disk, source: Path, target: Path, part: LogPart
) -> Generator[int, None, Written]:
    """Copy what is needed of one file. Raises: LogMoved, OSError."""
    try:
        with opened(disk, source / part.name) as handle:
            head = read_chunks(disk, handle, PAGE_SIZE, part.name)
            rest = read_chunks(disk, handle, part.end, part.name, part.start)
            chunks = chain(head, rest)
            return (yield from write_chunks(disk, target / part.name, chunks))
    except FileNotFoundError as error:
        raise LogMoved("the file is gone", f"wal/{part.name}") from error


def require_unmoved(disk: Disk, folder: Path, store_id: bytes, parts: list[LogPart]) -> None:
    """Whether the files are still what they were when they were walked: then so was the copy.

    Raises: LogMoved, OSError.
    """
    for part in parts:
        where = f"wal/{part.name}"
        try:
            path = os.fspath(folder / part.name)
            found = WalFile.examine(disk, path, part.sequence, store_id)
        except FileNotFoundError as error:
            raise LogMoved("the file is gone", where) from error
        if found.problem is not None or found.incarnation != part.incarnation:
            raise LogMoved(found.problem or "the file was recycled", where)


def require_whole(
    disk: Disk, folder: Path, store_id: bytes, checkpoint: Checkpoint, extent: LogExtent
) -> None:
    """Walk a copy, whose files were cut off behind what is needed. Raises: LogMoved, OSError."""
    padded = DelegatedDisk(PaddedFiles(disk, extent.parts))
    found = walk_log(padded, folder, store_id, checkpoint)
    if found.last_lsn != extent.last_lsn:
        what = f"it ends at LSN {found.last_lsn}, not at {extent.last_lsn}"
        raise LogMoved(f"the copy of the log is not whole: {what},", "wal")


class PaddedFiles:
    """A copied log as it will be restored: with zeroes for what is not stored. A disk's target."""

    def __init__(self, disk: Disk, parts: list[LogPart]) -> None:
        self._disk = disk
        self._parts = {part.name: part for part in parts}
        self._open: dict[int, LogPart] = {}  # by descriptor

    def open(self, path: str, flags: int) -> int:
        handle = self._disk.open(path, flags)
        self._open[handle] = self._parts[os.path.basename(path)]
        return handle

    def close(self, fd: int) -> None:
        del self._open[fd]
        self._disk.close(fd)

    def size(self, fd: int) -> int:
        return self._open[fd].size

    def pread(self, fd: int, size: int, position: int) -> bytes:
        part = self._open[fd]
        end = min(position + size, part.size)
        head = self._stored(fd, position, min(end, PAGE_SIZE))
        zeroes = bytes(max(0, min(end, part.start) - max(position, PAGE_SIZE)))
        first = max(position, part.start)
        rest = self._stored(fd, first - part.hole, min(end, part.end) - part.hole)
        return (head + zeroes + rest).ljust(max(0, end - position), b"\x00")

    def _stored(self, fd: int, start: int, end: int) -> bytes:
        return self._disk.pread(fd, end - start, start) if start < end else b""

    def list_directory(self, path: str) -> list[str]:
        return sorted(self._parts)

    def exists(self, path: str) -> bool:
        return os.path.basename(path) in self._parts

    def __getattr__(self, name: str) -> Any:
        raise OSError(errno.EROFS, f"{name}: nothing is changed here")
