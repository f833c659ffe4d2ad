"""What to tell when the log takes no record, or one that it took does not become durable.

Texts only: when they are raised, and who waits for how long, is the engine's.
"""

from __future__ import annotations

import os
from pathlib import Path

from .._native.log import Log
from .errors import StorageError, StoreBusy, StoreClosed, StoreFailed, StoreFull, StoreStalled
from .options import FileStoreOptions
from .reserve import DISK_FULL


def no_room(path: Path, log: Log, options: FileStoreOptions, *, disk_is_full: bool) -> StorageError:
    """Nothing more is taken at present: StoreFull for want of space, else StoreBusy."""
    stall = log.stall
    if disk_is_full or stall in DISK_FULL:
        return StoreFull(f"{path}: the disk is full; free some space, writes then go on")
    if stall:
        return StoreBusy(f"{path}: no next file of the log: {os.strerror(stall)}; try again later")
    return StoreBusy(
        f"{path}: more than {options.backlog_size_max} bytes wait for the disk; try again later"
    )


def stalled(path: Path, log: Log) -> StoreStalled:
    """A write was taken, and has waited for space for too long."""
    return StoreStalled(
        f"{path}: no next file of the log: {os.strerror(log.stall)}; the write waits "
        "unacknowledged, and may yet come about: look before you send it again"
    )


def closed(path: Path) -> StoreClosed:
    """A write was taken, and waited when the store was closed."""
    return StoreClosed(
        f"{path}: closed while a write waited to become durable; look before you send it again"
    )


def failed(log: Log) -> StoreFailed:
    """The log failed (I7)."""
    code, what = log.failure or (0, "the log")
    return StoreFailed(
        f"{what}: {os.strerror(code)}; nothing is acknowledged until the store is opened again"
    )
