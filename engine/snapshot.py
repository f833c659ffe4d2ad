"""Rows as of one commit, read beside the store that goes on writing them.

LMDB's table of readers is made for this: a read transaction keeps its pages from being used
again, in whatever process it runs. It must be short, since the file grows meanwhile; and it is
the only thing that a tool may change in a directory in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from .metadata import Checkpoint, Metadata


class Snapshot(Metadata):
    """``Metadata`` for reading, pinned to the newest commit until ``renew`` or ``release``."""

    def __init__(self, directory: Path, *, map_size: int) -> None:
        self._pinned: lmdb.Transaction | None = None
        super().__init__(directory, map_size=map_size, read_only=True, shared=True)
        self.renew()

    @contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction]:
        if self._pinned is not None:
            yield self._pinned
            return
        with self._env.begin() as txn:
            yield txn

    def renew(self) -> None:
        """Go on to the newest commit."""
        self.release()
        self._pinned = self._env.begin()
        self._load_sums()

    def newest_checkpoint(self) -> Checkpoint | None:
        """That of the newest commit."""
        with self._env.begin() as newest:
            found: Checkpoint | None = self._load(newest, b"checkpoint", Checkpoint)
            return found

    def newest_segments(self) -> set[int]:
        """The numbers of those that the newest commit lists."""
        with self._env.begin() as newest:
            return {int.from_bytes(key, "big") for key, _ in self._segments.scan_stored(newest)}

    def release(self) -> None:
        """Let LMDB use the pages again; what is read from then on is the newest."""
        if self._pinned is not None:
            self._pinned.abort()
            self._pinned = None

    def close(self) -> None:
        self.release()
        super().close()
