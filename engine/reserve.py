"""When the disk is full: how that is told, and space kept to be given up then.

The reserve lets flushes and compactions, and with them deletions, finish.
A file of real blocks, nothing else. It must never be given up for new data: writes are refused
before it is (see ``maintenance``).
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path

import lmdb

from .._native.disk import Disk

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_disk_full(error: BaseException) -> bool:
    """Whether what failed can be tried again once there is space."""
    if isinstance(error, lmdb.MapFullError | lmdb.DiskError):
        return True
    return isinstance(error, OSError) and error.errno in DISK_FULL


class Reserve:
    """DATA/reserve. ``size`` bytes; 0 for none. Safe to use from threads."""

    def __init__(self, disk: Disk, path: Path, size: int) -> None:
        self._disk = disk
        self._path = path
        self._size = size
        self._is_whole = False
        self._is_lent = False
        self._lock = threading.Lock()

    def fill(self) -> None:
        """Have the space. Raises: OSError, and then what there was of it is free again."""
        with self._lock:
            if self._is_whole or not self._size:
                return
            if self._is_lent:
                raise OSError(errno.ENOSPC, "lent to a compaction", os.fspath(self._path))
            self._fill()

    def _fill(self) -> None:
        try:
            handle = self._disk.open(self._path, os.O_RDWR | os.O_CREAT)
            try:
                self._disk.allocate(handle, 0, self._size)
            finally:
                self._disk.close(handle)
        except OSError:
            self._free()
            raise
        self._is_whole = True

    def give_up(self) -> bool:
        """Free the space; False if there was none to free."""
        with self._lock:
            return self._free()

    def lend(self) -> bool:
        """``give_up``, and let nobody have the space again before it is taken back."""
        with self._lock:
            self._is_lent = self._free()
            return self._is_lent

    def take_back(self) -> None:
        """End what ``lend`` began."""
        with self._lock:
            self._is_lent = False

    def _free(self) -> bool:
        self._is_whole = False
        with suppress(OSError):
            if self._disk.exists(self._path):
                self._disk.unlink(self._path)
                return True
        return False
