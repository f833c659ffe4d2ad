"""The data directory: its layout, its FORMAT file, and the lock that keeps others out.

    DATA/FORMAT     one line of JSON: format version, store id
    DATA/LOCK       held with flock while open
    DATA/reserve    space given up when the disk is full
    DATA/wal/       write-ahead log
    DATA/segments/  immutable sorted tables of extents
    DATA/meta.lmdb  rows

Each thing that can be wrong with a directory is an ``OpenError`` that says what to do.
Layout to the byte: docs/format-directory.md.
"""

from __future__ import annotations

import errno
import os
import uuid
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from .._native.disk import Disk
from .errors import DirectoryInUse, OpenError, StoreFull, UnknownFormat

FORMAT_VERSION = 1


class Format(msgspec.Struct, frozen=True):
    """The content of DATA/FORMAT."""

    format: int
    store_id: str  # 32 hexadecimal digits, also in every file of the log and every segment
    name: str = "durastream"


class FormatDamaged(UnknownFormat):
    """FORMAT is not what was written, or is missing beside the files of a store."""


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """An open, locked data directory."""

    path: Path
    store_id: bytes  # 16 bytes
    lock: int  # handle of the disk seam; -1: not locked, somebody else has it open

    @property
    def wal(self) -> Path:
        return self.path / "wal"

    @property
    def segments(self) -> Path:
        return self.path / "segments"

    @property
    def metadata(self) -> Path:
        return self.path / "meta.lmdb"

    @property
    def reserve(self) -> Path:
        return self.path / "reserve"

    def segment(self, number: int) -> Path:
        return self.segments / f"{number:020d}.seg"


def open_directory(disk: Disk, path: Path) -> DataDirectory:
    """Create or open ``path`` and lock it.

    Raises: DirectoryInUse, UnknownFormat, StoreFull, OpenError.
    """
    try:
        _make(disk, path)
        _refuse_strangers(disk, path)
        lock = lock_file(disk, path / "LOCK", os.O_RDWR | os.O_CREAT)
        try:
            return DataDirectory(path, _read_or_write_format(disk, path), lock)
        except BaseException:
            disk.close(lock)
            raise
    except OSError as error:
        raise open_error(path, error) from error


def open_existing(disk: Disk, path: Path, *, in_use: bool = False) -> DataDirectory:
    """Lock ``path`` and read its FORMAT without changing anything: for tools that only look.

    Args:
        in_use: go on without the lock if somebody else has it.

    Raises: DirectoryInUse, FormatDamaged, UnknownFormat, OpenError.
    """
    try:
        if not disk.exists(path / "FORMAT"):
            held = any(disk.exists(path / name) for name in ("wal", "segments", "meta.lmdb"))
            kind = FormatDamaged if held else UnknownFormat
            raise kind(_no_format(disk, path, "no FORMAT file"))
        # A copy may have no LOCK: nobody has it open, for an opener makes one.
        lock = -1
        with suppress(DirectoryInUse) if in_use else nullcontext():
            name = "LOCK" if disk.exists(path / "LOCK") else "FORMAT"
            lock = lock_file(disk, path / name, os.O_RDONLY)
        try:
            return DataDirectory(path, read_format(disk, path), lock)
        except BaseException:
            if lock >= 0:
                disk.close(lock)
            raise
    except OSError as error:
        raise open_error(path, error) from error


def open_error(path: Path, error: OSError) -> OpenError | StoreFull:
    """What to tell the user about a system error met while opening."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"{path}: the disk is full; free some space, then start again")
    if error.errno == errno.EROFS:
        return OpenError(f"{path}: the file system is read-only; choose a writable directory")
    if error.errno in (errno.EACCES, errno.EPERM):
        return OpenError(f"{path}: no permission; choose a directory that this user may write to")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return OpenError(f"{path}: is a file; the data directory must be a directory")
    return OpenError(f"{path}: {error.strerror} ({error.filename or path})")


def _make(disk: Disk, path: Path) -> None:
    missing = []
    parent = path
    while not disk.exists(parent) and parent != parent.parent:
        missing.append(parent)
        parent = parent.parent
    for folder in reversed(missing):
        disk.make_directory(folder)
        disk.sync_directory(folder.parent)
    if not missing and not disk.exists(path / "FORMAT"):
        _sync_parents(disk, path)


def _sync_parents(disk: Disk, path: Path) -> None:
    """Whoever made the directory may have been killed before it was durable."""
    for parent in path.parents:
        try:
            disk.sync_directory(parent)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL):
                raise  # others are not ours to sync, and then were not made by us


def _refuse_strangers(disk: Disk, path: Path) -> None:
    names = set(disk.list_directory(path))
    strangers = sorted(names - {"LOCK", "FORMAT.tmp"})
    if "FORMAT.restore" in names and "FORMAT" not in names:
        raise UnknownFormat(f"{path}: an unfinished restore; run `durastream restore` again")
    if strangers and "FORMAT" not in names:
        raise UnknownFormat(_no_format(disk, path, f"no FORMAT file, but {strangers[0]!r}"))


def _no_format(disk: Disk, path: Path, why: str) -> str:
    """What to tell who wants to open a directory without FORMAT."""
    advice = "choose an empty or a new directory"
    if any(disk.exists(path / name) for name in ("wal", "segments", "meta.lmdb")):
        advice = "if it was one, or a repair of it was cut short, run `durastream repair`"
    return f"{path}: not a data directory of durastream ({why}); {advice}"


_IN_USE = (
    "already open in another process or store; a data directory has one writer (use one "
    "process, or a directory of its own for each)"
)


def lock_file(disk: Disk, file: Path, flags: int, in_use: str = _IN_USE) -> int:
    """Open and lock a file of a directory; ``in_use`` is said if another has it locked.

    Raises: DirectoryInUse, OSError.
    """
    handle = disk.open(file, flags)
    try:
        disk.lock(handle)
    except OSError as error:
        disk.close(handle)
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
            raise DirectoryInUse(f"{file.parent}: {in_use}") from error
        raise
    return handle


def _read_or_write_format(disk: Disk, path: Path) -> bytes:
    if not disk.exists(path / "FORMAT"):
        return _write_format(disk, path, path / "FORMAT")
    return read_format(disk, path)


def read_format(disk: Disk, path: Path) -> bytes:
    """The store id of a data directory. Raises: FormatDamaged, UnknownFormat, OSError."""
    handle = disk.open(path / "FORMAT", os.O_RDONLY)
    try:
        raw = disk.pread(handle, 4096, 0)
    finally:
        disk.close(handle)
    return _check_format(path, raw)


def _check_format(path: Path, raw: bytes) -> bytes:
    try:
        found = msgspec.json.decode(raw, type=Format)
        store_id = bytes.fromhex(found.store_id)
    except (msgspec.DecodeError, ValueError) as error:
        raise FormatDamaged(
            f"{path / 'FORMAT'}: damaged ({error}); run `durastream repair`"
        ) from None
    if found.name != "durastream" or len(store_id) != 16:
        what = f"{path / 'FORMAT'}: not a data directory of durastream; if it was one, run "
        raise FormatDamaged(f"{what}`durastream repair`")
    if found.format < 1 or (found.format == FORMAT_VERSION and not _is_as_written(raw, store_id)):
        raise FormatDamaged(f"{path / 'FORMAT'}: damaged; run `durastream repair`")
    if found.format > FORMAT_VERSION:
        raise UnknownFormat(
            f"{path}: written in format {found.format}, and this version knows formats up to "
            f"{FORMAT_VERSION}; upgrade durastream (if no newer version ever opened it, FORMAT is "
            "damaged, which has no checksum: put its number right, then run `durastream verify`)"
        )
    return store_id


def _format_line(version: int, store_id: bytes) -> bytes:
    return msgspec.json.encode(Format(version, store_id.hex())) + b"\n"


def _is_as_written(raw: bytes, store_id: bytes) -> bool:
    """Byte for byte, for it has no checksum; a restore adds where it came from."""
    line = _format_line(FORMAT_VERSION, store_id)
    return raw == line or raw.startswith(line[:-2] + b',"restored_from":')


def _write_format(disk: Disk, path: Path, name: Path) -> bytes:
    store_id = uuid.UUID(int=(disk.random() << 64) | disk.random(), version=4)
    content = _format_line(FORMAT_VERSION, store_id.bytes)
    temporary = path / "FORMAT.tmp"
    handle = disk.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        disk.pwrite(handle, content, 0)
        disk.sync(handle)
    finally:
        disk.close(handle)
    disk.rename(temporary, name)
    disk.sync_directory(path)
    return store_id.bytes


def make_folders(disk: Disk, directory: DataDirectory, is_new: bool) -> None:
    """Have the folders of log and segments, and nothing in them that a crash left half made."""
    if is_new:  # without FORMAT the folders would be somebody else's
        sync_changed(disk, directory.path, "FORMAT.tmp")
    for folder in (directory.wal, directory.segments):
        if not disk.exists(folder):
            disk.make_directory(folder)
    if is_new:
        sync_changed(disk, directory.path, "FORMAT.tmp")
    for name in disk.list_directory(directory.segments):
        if name.endswith(".tmp"):  # a flush that a crash cut short: nothing refers to it
            disk.unlink(directory.segments / name)


def sync_changed(disk: Disk, folder: Path, name: str) -> None:
    """Have all names in ``folder`` on disk, whoever changed them; ``name`` comes and goes for it.

    That may have been a process that was killed before its sync, or whose sync failed: then the
    system may have forgotten that there was something to write, until the next change.
    """
    failures = disk.directory_failures
    disk.close(disk.open(folder / name, os.O_RDWR | os.O_CREAT))
    disk.unlink(folder / name)
    disk.sync_directory(folder, failures)
