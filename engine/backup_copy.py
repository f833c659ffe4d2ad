"""Copy bytes through the disk seam: in slices, hashed on their way, synced before they count.

Steps are generators that yield the bytes done, so that whoever drives them can show progress,
keep to a rate, or stop. Nothing here knows what the bytes are.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from .._native.disk import Disk
from .options import MIB

# Dirty pages in bulk hold up the log's own syncs, if it is on the same disk.
_UNSYNCED_MAX = 4 * MIB


class EndedEarly(OSError):
    """A file is shorter than it should be."""


class Written(NamedTuple):
    """What was written: its size in bytes, and its SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


@contextmanager
def opened(disk: Disk, path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    handle = disk.open(path, flags)
    try:
        yield handle
    finally:
        disk.close(handle)


def read_chunks(disk: Disk, handle: int, end: int, what: str, position: int = 0) -> Iterator[bytes]:
    """[position, end) of an open file. Raises: OSError, EndedEarly."""
    while position < end:
        chunk = disk.pread(handle, min(MIB, end - position), position)
        if not chunk:
            raise EndedEarly(f"{what} ends at byte {position}, and should have {end}")
        yield chunk
        position += len(chunk)


def write_chunks(disk: Disk, path: Path, chunks: Iterable[bytes]) -> Generator[int, None, Written]:
    """Write ``path`` anew and sync it; its name is for the caller to make durable."""
    digest, position, unsynced = sha256(), 0, 0
    with opened(disk, path, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as handle:
        for chunk in chunks:
            digest.update(chunk)
            disk.pwrite(handle, chunk, position)
            position += len(chunk)
            unsynced += len(chunk)
            if unsynced >= _UNSYNCED_MAX:
                disk.sync(handle)
                unsynced = 0
            yield len(chunk)
        disk.sync(handle)
    return Written(position, digest.hexdigest())


def hash_file(disk: Disk, path: Path) -> Generator[int, None, Written]:
    """Read a whole file. Raises: OSError."""
    digest = sha256()
    with opened(disk, path) as handle:
        size = disk.size(handle)
        for chunk in read_chunks(disk, handle, size, os.fspath(path)):
            digest.update(chunk)
            yield len(chunk)
    return Written(size, digest.hexdigest())


def read_whole(disk: Disk, path: Path) -> bytes:
    """A small file."""
    with opened(disk, path) as handle:
        return b"".join(read_chunks(disk, handle, disk.size(handle), os.fspath(path)))


def write_whole(disk: Disk, path: Path, content: bytes) -> None:
    """Put a small file into place, durably, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    for _ in write_chunks(disk, temporary, [content]):
        pass
    disk.rename(temporary, path)
    disk.sync_directory(path.parent)


def make_directories(disk: Disk, path: Path) -> None:
    """Make a directory and those above it, durably."""
    missing = []
    parent = path
    while not disk.exists(parent) and parent != parent.parent:
        missing.append(parent)
        parent = parent.parent
    for folder in reversed(missing):
        disk.make_directory(folder)
        disk.sync_directory(folder.parent)


def remove(disk: Disk, path: Path) -> None:
    """Remove a file if it is there."""
    with suppress(FileNotFoundError):
        disk.unlink(path)
