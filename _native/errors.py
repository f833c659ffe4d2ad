"""Why the log refuses a record, and a tail a range."""

from __future__ import annotations

import os


class LogFull(Exception):
    """The backlog or the log's files hold all they may: try again after a flush."""


class RecordTooLarge(ValueError):
    """The record does not fit into one file of the log."""


class LogFailed(Exception):
    """The log failed and acknowledges nothing more until the store was reopened (I7).

    ``errno`` is the operating system's, ``what`` the operation and the file.
    """

    def __init__(self, errno: int, what: str) -> None:
        super().__init__(f"{what}: {os.strerror(errno)}; reopen the store to go on")
        self.errno = errno
        self.what = what


class LogClosed(ValueError):
    """The log is not open: nothing more becomes durable."""


class TailMoved(ValueError):
    """The range begins below the tail: a flush moved it into a segment meanwhile."""
