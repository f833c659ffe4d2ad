"""Make a data directory from a restore point, verified byte by byte while it is copied.

The directory becomes one by its last step, the renaming of ``FORMAT.restore`` to ``FORMAT``:
until then no store opens it, and the restore can be run again and goes on where it was. It
never writes into a directory that holds anything else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import msgspec

from .._native.disk import Disk, PosixDisk
from .backup_copy import (
    EndedEarly,
    hash_file,
    make_directories,
    opened,
    read_chunks,
    read_whole,
    remove,
    write_chunks,
    write_whole,
)
from .backup_log import PAGE_SIZE
from .backup_target import ROWS, BackupTarget, RestorePoint, StoredFile, open_target
from .directory import FORMAT_VERSION, lock_file
from .errors import BackupDamaged, OpenError
from .options import MIB
from .restore_rows import fill_rows

_MARKER = "FORMAT.restore"
_ZEROES = bytes(MIB)


class Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


class RestoredFrom(msgspec.Struct, frozen=True):
    """Where a data directory came from; a member of FORMAT."""

    point: str
    last_lsn: int
    created_at: int  # of the restore point, Unix ms
    restored_at: int


class RestoredFormat(msgspec.Struct, frozen=True):
    """The content of FORMAT in a restored directory."""

    format: int
    store_id: str
    name: str
    restored_from: RestoredFrom


class Restore:
    """One restore from the folder ``target`` into ``directory``, which is empty or new.

    Args:
        point_id: of the restore point; None: the newest.
        rows: LMDB's directory if the disk is simulated.
    """

    def __init__(
        self,
        target: Path,
        directory: Path,
        point_id: str | None = None,
        *,
        disk: Disk | None = None,
        rows: Path | None = None,
    ) -> None:
        self._disk = disk or PosixDisk()
        self._target = target.absolute()
        self._path = directory.absolute()
        self._rows = rows or self._path / "meta.lmdb"
        self._point_id = point_id
        self.total_size = 0  # bytes; known once the first step was made
        self.kept_file_count = 0  # that an interrupted restore had written already
        self.point: RestorePoint | None = None

    def run(self) -> Iterator[int]:
        """Restore; yields bytes done. Raises: BackupDamaged, DirectoryInUse, OpenError, OSError."""
        with open_target(self._disk, self._target) as target:
            point = self.point = target.point(self._point_id)
            self.total_size = sum(file.size for file in point.files)
            make_directories(self._disk, self._path)
            self._refuse_others(point)
            in_use = "another restore is at work here, or a server; wait for its end"
            lock = lock_file(self._disk, self._path / "LOCK", os.O_RDWR | os.O_CREAT, in_use)
            try:
                yield from self._restore(target, point)
            finally:
                self._disk.close(lock)

    def _refuse_others(self, point: RestorePoint) -> None:
        """Whatever is there must be an interrupted restore of this very point."""
        names = set(self._disk.list_directory(self._path)) - {"LOCK", f"{_MARKER}.tmp"}
        if "FORMAT" in names:
            raise OpenError(f"{self._path}: holds a store; choose an empty or new directory")
        if not names:
            return
        if _MARKER not in names:
            raise OpenError(
                f"{self._path}: is not empty ({min(names)!r}); choose an empty or new directory"
            )
        raw = read_whole(self._disk, self._path / _MARKER)
        found = msgspec.json.decode(raw, type=RestoredFormat)
        if (found.store_id, found.restored_from.point) != (point.store_id, point.id):
            raise OpenError(
                f"{self._path}: holds an unfinished restore of {found.restored_from.point}; finish "
                "it with --point, or choose an empty or new directory"
            )

    def _restore(self, target: BackupTarget, point: RestorePoint) -> Iterator[int]:
        disk, marker = self._disk, self._path / _MARKER
        if not disk.exists(marker):
            origin = RestoredFrom(point.id, point.last_lsn, point.created_at, disk.wall_ms())
            content = RestoredFormat(FORMAT_VERSION, point.store_id, "durastream", origin)
            write_whole(disk, marker, msgspec.json.encode(content) + b"\n")
        for folder in ("wal", "segments"):
            make_directories(disk, self._path / folder)
        for file in point.files:
            if file.name == ROWS:
                yield from self._restore_rows(target, file)
            else:
                yield from self._restore_file(target, file)
        disk.rename(marker, self._path / "FORMAT")
        disk.sync_directory(self._path)

    def _restore_rows(self, target: BackupTarget, file: StoredFile) -> Iterator[int]:
        path = target.path / file.stored
        try:
            written = yield from hash_file(self._disk, path)
        except FileNotFoundError as error:
            raise _damaged(target, file, "the file is missing") from error
        if written != (file.stored_size, file.sha256):
            raise _damaged(target, file, "not what was stored")
        store_id = bytes.fromhex(target.store_id)
        if not fill_rows(self._disk, path, self._rows, store_id):
            self.kept_file_count += 1
        if self._disk.exists(self._rows):
            self._disk.sync_directory(self._rows)

    def _restore_file(self, target: BackupTarget, file: StoredFile) -> Iterator[int]:
        disk, path = self._disk, self._path / file.name
        if disk.exists(path):  # a name is given to whole files only
            self.kept_file_count += 1
            yield file.size
            return
        temporary, digest = path.with_name(path.name + ".tmp"), sha256()
        try:
            with opened(disk, target.path / file.stored) as handle:
                size = disk.size(handle)
                stored = read_chunks(disk, handle, file.stored_size, file.stored)
                yield from write_chunks(disk, temporary, _content(file, stored, digest))
        except FileNotFoundError as error:
            raise _damaged(target, file, "the file is missing") from error
        except EndedEarly as error:
            raise _damaged(target, file, str(error)) from error
        if size != file.stored_size or digest.hexdigest() != file.sha256:
            remove(disk, temporary)
            raise _damaged(target, file, "not what was stored")
        disk.rename(temporary, path)
        disk.sync_directory(path.parent)


def _content(file: StoredFile, stored: Iterator[bytes], digest: Hash) -> Iterator[bytes]:
    """A file as it was, from the bytes that were stored of it."""
    for number, chunk in enumerate(stored):
        digest.update(chunk)
        if number == 0 and file.hole:
            yield chunk[:PAGE_SIZE]
            yield from _zeroes(file.hole)
            chunk = chunk[PAGE_SIZE:]
        yield chunk
    # Blocks that are really there: the log must not meet a full disk in them later.
    yield from _zeroes(file.size - file.stored_size - file.hole)


def _zeroes(size: int) -> Iterator[bytes]:
    for position in range(0, size, MIB):
        yield _ZEROES[: size - position]


def _damaged(target: BackupTarget, file: StoredFile, what: str) -> BackupDamaged:
    advice = "`durastream backup --verify` says which restore points need it"
    return BackupDamaged(f"{target.path}: {what}", file.stored, advice)
