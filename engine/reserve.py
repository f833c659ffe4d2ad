"""When the disk is full: how that is told, and space kept to be given up then.

The reserve lets flushes and compactions, and with them deletions, finish.
A file of real blocks, nothing else. It must never be given up for new data: writes are refused
before it is (see ``maintenance``).
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

import lmdb

from .._native.disk import Disk

logger = logging.getLogger("durastream.reserve")

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
        self._lock = threading.RLock()

    def fill(self) -> bool:
        """Have the space, or try again another time; whether it is there."""
        with self._lock:
            return self._fill()

    def _fill(self) -> bool:
        if self._is_whole or not self._size:
            return self._is_whole
        try:
            handle = self._disk.open(self._path, os.O_RDWR | os.O_CREAT)
            try:
                self._disk.allocate(handle, 0, self._size)
            finally:
                self._disk.close(handle)
        except OSError as error:
            logger.debug("no room for %s now: %s", self._path, error)
            self.give_up()
            return False
        self._is_whole = True
        return True

    def give_up(self) -> bool:
        """Free the space; False if there was none to free."""
        with self._lock, suppress(OSError):
            self._is_whole = False
            if self._disk.exists(self._path):
                self._disk.unlink(self._path)
                return True
        return False
