"""What one step of the store read, so that its answer can wait for it (I4)."""

from __future__ import annotations


class Seen:
    """The highest LSN that a step read or wrote: its answer, refusals included, waits for that."""

    __slots__ = ("lsn",)

    def __init__(self) -> None:
        self.lsn = 0

    def note(self, lsn: int) -> None:
        if lsn > self.lsn:
            self.lsn = lsn
