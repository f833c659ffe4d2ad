"""The folder that backups go to: restore points, and the segments that they share.

    TARGET/BACKUP                  one line of JSON: format, store id
    TARGET/LOCK                    held with flock by who reads or writes it
    TARGET/segments/N-SEED.seg     segments, each by its number and the checksum of its header
    TARGET/points/ID.json          a restore point: exists once this file is there
    TARGET/points/ID/              its rows and its part of the log

A file that a manifest names is never changed; it is removed only after the last such manifest
was, durably. Layout to the byte: docs/format-backup.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from .._native.disk import Disk
from .backup_copy import make_directories, read_whole, remove, write_whole
from .directory import lock_file
from .errors import BackupDamaged, OpenError

FORMAT_VERSION = 1
ROWS = "rows"  # name of the file that the rows are in
_KIND = "durastream backup"
_FOLDERS = ("segments", "points")


class TargetFormat(msgspec.Struct, frozen=True):
    """The content of TARGET/BACKUP."""

    format: int
    store_id: str  # hexadecimal digits: the one store whose backups are here
    name: str = _KIND


class StoredFile(msgspec.Struct, frozen=True):
    """One file of a restore point. Sizes are bytes.

    The file restored is the first 4,096 bytes stored, ``hole`` zeroes, the other bytes stored, and
    zeroes up to ``size``: of a file of the log, most is empty or not needed.
    """

    name: str  # below the data directory
    stored: str  # below TARGET
    size: int  # in the data directory
    stored_size: int
    sha256: str  # of the bytes stored
    hole: int = 0


class RestorePoint(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest. Times are Unix times in ms."""

    format: int = FORMAT_VERSION
    id: str
    sequence: int  # ascends from backup to backup
    store_id: str
    created_at: int
    durastream: str  # the release that made it
    directory: str  # of which it is a copy
    checkpoint_lsn: int
    last_lsn: int  # the last record contained
    stream_count: int  # as of the checkpoint
    files: list[StoredFile]

    @property
    def size(self) -> int:
        """Bytes stored for it, shared ones included."""
        return sum(file.stored_size for file in self.files)

    def plain(self) -> dict[str, Any]:
        """As JSON has it, and ``size``."""
        return {**msgspec.to_builtins(self), "size": self.size}


@dataclass(slots=True)
class BackupTarget:
    """An open, locked target."""

    disk: Disk
    path: Path
    store_id: str
    lock: int

    @property
    def segments(self) -> Path:
        return self.path / "segments"

    def folder(self, point_id: str) -> Path:
        """Where a restore point has files of its own."""
        return self.path / "points" / point_id

    def points(self) -> list[RestorePoint]:
        """All restore points, the oldest first. Raises: BackupDamaged, OpenError, OSError."""
        found = [self.read(name) for name in self.point_names()]
        return sorted(found, key=lambda point: point.sequence)

    def point_names(self) -> list[str]:
        """The names of all manifests."""
        names = self.disk.list_directory(self.path / "points")
        return [name for name in names if name.endswith(".json")]

    def read(self, name: str) -> RestorePoint:
        """A manifest by its file's name. Raises: BackupDamaged, OpenError, OSError."""
        raw = read_whole(self.disk, self.path / "points" / name)
        line = raw.partition(b"\n")[0]
        where = f"points/{name}"
        if raw != _signed(line):
            raise BackupDamaged(
                f"{self.path}: the manifest of a restore point",
                where,
                "to go on without that point, remove this file",
            )
        known = msgspec.json.decode(line, type=_Version)
        if known.format > FORMAT_VERSION:
            raise OpenError(f"{self.path / where}: of a newer release; upgrade durastream")
        return msgspec.json.decode(line, type=RestorePoint)

    def point(self, point_id: str | None) -> RestorePoint:
        """A restore point by its id; None: the newest. Raises: OpenError."""
        points = self.points()
        if not points:
            raise OpenError(f"{self.path}: there is no restore point yet")
        if point_id is None:
            return points[-1]
        for point in points:
            if point.id == point_id:
                return point
        known = ", ".join(point.id for point in points[-5:])
        raise OpenError(f"{self.path}: no restore point {point_id}; the newest are {known}")

    def add(self, point: RestorePoint) -> None:
        """Make a restore point exist. All its files are there, and durable."""
        content = _signed(msgspec.json.encode(point))
        write_whole(self.disk, self.path / "points" / f"{point.id}.json", content)

    def remove(self, point: RestorePoint) -> None:
        """Let a restore point cease to exist, then remove what only it had."""
        remove(self.disk, self.path / "points" / f"{point.id}.json")
        self.disk.sync_directory(self.path / "points")
        self.clear(point.id)

    def clear(self, point_id: str) -> None:
        """Remove the files of a restore point that does not exist, and its folders."""
        folder = self.folder(point_id)
        for below in (folder / "wal", folder):
            if self.disk.exists(below):
                for name in sorted({*self.disk.list_directory(below)} - {"wal"}):
                    with suppress(OSError):  # an empty folder that stays harms nobody
                        remove(self.disk, below / name)
                with suppress(OSError):
                    os.rmdir(below)

    def clear_unfinished(self) -> None:
        """Remove what backups that were cut short left in ``points``; segments are kept."""
        names = self.disk.list_directory(self.path / "points")
        for name in names:
            if name.endswith(".tmp"):
                remove(self.disk, self.path / "points" / name)
            elif not name.endswith(".json") and f"{name}.json" not in names:
                self.clear(name)

    def remove_unreferenced(self) -> int:
        """Remove segments that no restore point needs; how many. Raises: BackupDamaged, OSError."""
        needed = {file.stored for point in self.points() for file in point.files}
        removed = 0
        for name in self.disk.list_directory(self.segments):
            if f"segments/{name}" not in needed:
                remove(self.disk, self.segments / name)
                removed += 1
        return removed


class _Version(msgspec.Struct):
    format: int


def _signed(line: bytes) -> bytes:
    """A manifest's line, and its SHA-256 on a line of its own."""
    return b"%b\n%b\n" % (line, sha256(line).hexdigest().encode())


@contextmanager
def open_target(disk: Disk, path: Path, store_id: str | None = None) -> Iterator[BackupTarget]:
    """Lock a target.

    Args:
        store_id: of the store to be backed up: the target is made if there is none.

    Raises: DirectoryInUse, OpenError, BackupDamaged, OSError.
    """
    if store_id is None and not disk.exists(path / "BACKUP"):
        raise OpenError(f"{path}: no backups are here (no BACKUP file)")
    make_directories(disk, path)
    _refuse_strangers(disk, path)
    in_use = "another backup or restore is at work here; wait for its end"
    lock = lock_file(disk, path / "LOCK", os.O_RDWR | os.O_CREAT, in_use)
    try:
        found = _identify(disk, path, store_id)
        for folder in _FOLDERS:
            make_directories(disk, path / folder)
        yield BackupTarget(disk, path, found, lock)
    finally:
        disk.close(lock)


def _refuse_strangers(disk: Disk, path: Path) -> None:
    names = set(disk.list_directory(path))
    strangers = sorted(names - {"LOCK", "BACKUP", "BACKUP.tmp"})
    if strangers and "BACKUP" not in names:
        raise OpenError(
            f"{path}: not a folder of backups (no BACKUP file, but {strangers[0]!r}); "
            "choose an empty or a new one"
        )


def _identify(disk: Disk, path: Path, store_id: str | None) -> str:
    file = path / "BACKUP"
    if not disk.exists(file):
        assert store_id is not None
        content = msgspec.json.encode(TargetFormat(FORMAT_VERSION, store_id)) + b"\n"
        write_whole(disk, file, content)
        return store_id
    try:
        found = msgspec.json.decode(read_whole(disk, file), type=TargetFormat)
    except msgspec.DecodeError as error:
        advice = "restore it: its only content is format, store id and name"
        raise BackupDamaged(f"{path} ({error})", "BACKUP", advice) from None
    if found.name != _KIND or found.format > FORMAT_VERSION:
        raise OpenError(f"{file}: of another program, or of a newer release of durastream")
    if store_id not in (None, found.store_id):
        raise OpenError(f"{path}: holds backups of another store, {found.store_id}; choose another")
    return found.store_id
