"""Bring the committer's news into an event loop: one descriptor, written once per commit.

An eventfd on Linux, a pipe elsewhere. A write to a full one is lost, and need not be seen:
the loop has news to fetch anyway.
"""

from __future__ import annotations

import contextlib
import os


class WakeUp:
    """A descriptor to read in a loop and one to write from any thread."""

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self.read_fd = self.write_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.read_fd, self.write_fd = os.pipe()
            os.set_blocking(self.read_fd, False)
            os.set_blocking(self.write_fd, False)

    def drain(self) -> None:
        """Make the descriptor unreadable until the next write."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.read_fd, 4096)

    def close(self) -> None:
        os.close(self.read_fd)
        if self.write_fd != self.read_fd:
            os.close(self.write_fd)
