from collections.abc import Collection, Iterable
from typing import Self, final

from .disk import Disk
from .record import RecordBatch
from .segment_types import SegmentInfo

@final
class Flush:
    """One flush, in steps of at most 1 MiB written. Raises: ValueError, OSError."""

    def __new__(
        cls,
        disk: Disk,
        path: str,
        batch: RecordBatch,
        rows: Iterable[tuple[int, bytes]],
        dropped: Collection[int],
        *,
        store_id: bytes,
        number: int,
        after_lsn: int,
        upto_lsn: int,
        level: int = 0,
        sync_slices: bool = False,
    ) -> Self: ...
    def step(self) -> bool:
        """Write until one slice went to the disk. False when all is written."""

    def finish(self) -> SegmentInfo:
        """Write what is left, sync and give the segment its name."""

    def abandon(self) -> None:
        """Remove the temporary file; after ``finish`` it does nothing."""

def flush(
    disk: Disk,
    path: str,
    batch: RecordBatch,
    rows: Iterable[tuple[int, bytes]],
    dropped: Collection[int],
    *,
    store_id: bytes,
    number: int,
    after_lsn: int,
    upto_lsn: int,
) -> SegmentInfo:
    """Write a segment in one go. See ``Flush``; whatever fails, no file stays."""
