"""The segments of a backup: told apart by their headers, copied once, proven when copied.

A segment never changes, so a copy that is there already is kept, whichever restore point it was
made for. While a backup runs, a compaction may unlink what it still has to copy: so it opens
everything first.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

from .._native.checksum import xxh64
from .._native.disk import Disk
from .._native.segment import Segment, SegmentDamaged
from .backup_copy import hash_file, read_chunks, remove, write_chunks
from .backup_snapshot import VERIFY
from .backup_target import BackupTarget, RestorePoint, StoredFile
from .errors import BackupDamaged
from .metadata import SegmentEntry

_HEADER_SIZE, _FOOTER_SIZE = 4096, 128
_CHECKSUM_AT = 4088  # docs/format-segment.md, "Header"


class SegmentGone(Exception):
    """A segment was unlinked since the rows named it: another has its contents."""


class OpenSegment:
    """A segment of the store, open, so that it can be copied whatever happens to its name.

    Raises: SegmentGone, BackupDamaged, OSError.
    """

    def __init__(self, disk: Disk, path: Path, entry: SegmentEntry) -> None:
        self._disk = disk
        self.path = path
        self.entry = entry
        try:
            self._handle = disk.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise SegmentGone(path.name) from error
        try:
            self.seed = self._read_seed()
        except BaseException:
            self.close()
            raise

    def _read_seed(self) -> int:
        header = self._disk.pread(self._handle, _HEADER_SIZE, 0)
        seed = int.from_bytes(header[_CHECKSUM_AT:], "little")
        if len(header) < _HEADER_SIZE or xxh64(header[:_CHECKSUM_AT]) != seed:
            raise self.damaged("the header of the segment", 0)
        size = self._disk.size(self._handle)
        if size != self.entry.size:
            raise self.damaged(f"a segment of {size} bytes, not {self.entry.size}", size)
        return seed

    @property
    def name(self) -> str:
        """Below the data directory."""
        return f"segments/{self.path.name}"

    @property
    def stored(self) -> str:
        """Below the target. Segments of histories that parted have other seeds."""
        return f"segments/{self.path.stem}-{self.seed:016x}.seg"

    def damaged(self, what: str, position: int) -> BackupDamaged:
        return BackupDamaged(f"{self.path}: {what}", f"{self.name}, byte {position}", VERIFY)

    def footer(self) -> bytes:
        return self._disk.pread(self._handle, _FOOTER_SIZE, self.entry.size - _FOOTER_SIZE)

    def chunks(self) -> Generator[bytes, None, None]:
        yield from read_chunks(self._disk, self._handle, self.entry.size, self.path.name)

    def close(self) -> None:
        self._disk.close(self._handle)


def known_segments(points: list[RestorePoint]) -> dict[str, StoredFile]:
    """The segments of all restore points, by where they are stored."""
    return {
        file.stored: file
        for point in points
        for file in point.files
        if file.stored.startswith("segments/")
    }


def is_kept(target: BackupTarget, segment: OpenSegment, known: StoredFile) -> bool:
    """Whether the copy that a restore point has is there, and is one of this segment.

    Its bytes were proven when it was made; whether they still are, ``check_backup`` finds.
    """
    path = target.path / segment.stored
    if known.size != segment.entry.size or not target.disk.exists(path):
        return False
    handle = target.disk.open(path, os.O_RDONLY)
    try:
        if target.disk.size(handle) != known.size:
            return False
        footer = target.disk.pread(handle, _FOOTER_SIZE, known.size - _FOOTER_SIZE)
        return footer == segment.footer()
    finally:
        target.disk.close(handle)


def copy_segment(
    target: BackupTarget, segment: OpenSegment, store_id: bytes
) -> Generator[int, None, StoredFile]:
    """Copy a segment, or take what an interrupted backup left of it, and prove every block.

    Raises: BackupDamaged, OSError.
    """
    disk, path = target.disk, target.path / segment.stored
    number = segment.entry.number
    if disk.exists(path) and _damage(disk, path, store_id, number) is None:
        written = yield from hash_file(disk, path)
        return _stored(segment, written.sha256)
    temporary = path.with_name(path.name + ".tmp")
    written = yield from write_chunks(disk, temporary, segment.chunks())
    damage = _damage(disk, temporary, store_id, number)
    if damage is not None:
        remove(disk, temporary)
        raise segment.damaged(damage.what, damage.position)
    disk.rename(temporary, path)
    disk.sync_directory(target.segments)
    return _stored(segment, written.sha256)


def _damage(disk: Disk, path: Path, store_id: bytes, number: int) -> SegmentDamaged | None:
    """The first damage in a copy of a segment. Raises: OSError."""
    try:
        copy = Segment(disk, os.fspath(path), store_id=store_id, number=number)
    except SegmentDamaged as damage:
        return damage
    try:
        for found in copy.verify():
            if isinstance(found, SegmentDamaged):
                return found
            if found is not None:
                raise found
    finally:
        copy.close()
    return None


def _stored(segment: OpenSegment, sha256: str) -> StoredFile:
    size = segment.entry.size
    return StoredFile(segment.name, segment.stored, size, size, sha256)
