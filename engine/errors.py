"""Trouble of the medium, as opposed to the refusals of ``protocol.errors``.

Each message names what is wrong, where, and what to do. Status codes live in
server/status.py, not here.
"""

from __future__ import annotations

from ..protocol.errors import StreamError

# -- on opening ----------------------------------------------------------------------------


class StorageError(StreamError):
    """The store cannot do what was asked, whatever was asked."""


class OpenError(StorageError):
    """The data directory cannot be opened; nothing in it was changed."""


class DirectoryInUse(OpenError):
    """Another process, or another store of this process, has the directory open."""


class UnknownFormat(OpenError):
    """Written by a newer version, or no data directory of durastream at all."""


# -- while open ----------------------------------------------------------------------------


class StoreClosed(StorageError):
    """The store was closed, or is closing: waiting readers end with it."""


class ForeignProcess(StorageError):
    """The store was opened before a fork and is used in the child."""


class StoreBusy(StorageError):
    """More is waiting for the disk than the backlog allows: try again later."""


class StoreFull(StorageError):
    """The disk is full: writes are refused, reads go on."""


class StoreStalled(StorageError):
    """A write was taken and waits for space: it is not acknowledged, and may yet come about."""


class StoreFailed(StorageError):
    """A sync or a write of the log failed: nothing more is acknowledged until reopened (I7)."""


class ReadOnly(StorageError):
    """The store was opened read-only, because damage hides whom it hit (I6)."""


# -- damage --------------------------------------------------------------------------------


class Damaged(StorageError):
    """Stored bytes are not what was written. ``where`` names file and position."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what}: damaged at {where}; nothing behind it is served")
        self.what = what
        self.where = where


class BackupDamaged(Damaged):
    """A backup, or what was to be backed up, is damaged; ``advice`` says what to do."""

    def __init__(self, what: str, where: str, advice: str) -> None:
        super().__init__(what, where)
        self.args = (f"{what}: damaged at {where}; {advice}",)


class StreamQuarantined(Damaged):
    """The stream lost acknowledged bytes to damage: readable up to it, closed for writes (I6)."""
