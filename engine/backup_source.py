"""What a backup reads: rows as of one checkpoint, the segments they name, the log behind it.

All of one moment, of a directory that may be in use: everything is opened, and the log, which
is recycled, copied at once. If anything moved away meanwhile, the caller begins again. Nothing
of the source is changed or locked.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from .._native.disk import Disk
from .backup_copy import make_directories
from .backup_log import LogExtent, copy_part, require_unmoved, require_whole, walk_log
from .backup_segments import OpenSegment
from .backup_snapshot import RowsSnapshot
from .backup_target import StoredFile


@dataclass(frozen=True, slots=True)
class SourcePlace:
    """Where a store is, and how its rows are read."""

    disk: Disk
    path: Path
    rows: Path  # LMDB's directory
    store_id: bytes
    snapshot: Callable[[Path], RowsSnapshot]


@dataclass(frozen=True, slots=True)
class Source:
    """An open snapshot of a store, whose part of the log was copied."""

    snapshot: RowsSnapshot
    segments: list[OpenSegment]
    extent: LogExtent
    log_files: list[StoredFile]

    @property
    def size(self) -> int:
        """Bytes of all of it; of the rows, what LMDB's file has in use."""
        size = self.snapshot.head.size + sum(segment.entry.size for segment in self.segments)
        return size + sum(file.stored_size for file in self.log_files)


def take_source(place: SourcePlace, folder: Path, stack: ExitStack) -> Generator[int, None, Source]:
    """Open a snapshot, and copy the log to ``folder``/wal; yields bytes copied.

    Args:
        folder: the restore point's own.
        stack: keeps open what must stay open.

    Raises: LogMoved and SegmentGone, if another attempt may do better; BackupDamaged,
    NothingStored, OpenError, OSError.
    """
    snapshot = stack.enter_context(closing(place.snapshot(place.rows)))
    head = snapshot.head
    segments = []
    for entry in head.segments:
        path = place.path / "segments" / f"{entry.number:020d}.seg"
        opened = OpenSegment(place.disk, path, entry)
        segments.append(stack.enter_context(closing(opened)))
    wal = place.path / "wal"
    extent = walk_log(place.disk, wal, place.store_id, head.checkpoint)
    log_files = yield from _copy_log(place, wal, folder / "wal", extent)
    require_unmoved(place.disk, wal, place.store_id, extent.parts)
    require_whole(place.disk, folder / "wal", place.store_id, head.checkpoint, extent)
    return Source(snapshot, segments, extent, log_files)


def _copy_log(
    place: SourcePlace, source: Path, folder: Path, extent: LogExtent
) -> Generator[int, None, list[StoredFile]]:
    make_directories(place.disk, folder)
    files = []
    for part in extent.parts:
        written = yield from copy_part(place.disk, source, folder, part)
        stored = f"points/{folder.parent.name}/wal/{part.name}"
        name, (size, digest) = f"wal/{part.name}", written
        files.append(StoredFile(name, stored, part.size, size, digest, part.hole))
    place.disk.sync_directory(folder)
    return files
