from collections.abc import Sequence
from typing import Self, final

from .disk import Disk
from .segment import Segment
from .segment_types import Piece, SegmentInfo

@final
class SegmentMerge:
    def __new__(
        cls,
        disk: Disk,
        path: str,
        segments: Sequence[Segment],
        *,
        store_id: bytes,
        number: int,
        level: int,
        after_lsn: int,
        upto_lsn: int,
        slice_size: int = 1048576,
        sync_slices: bool = False,
    ) -> Self: ...
    def put(self, extents: Sequence[tuple[int, bytes, Sequence[Piece]]]) -> None:
        """Take the next (stream id, row, pieces), ascending; those before must be written.

        Raises: ValueError if pieces of an extent do not follow each other, or extents are out
        of order.
        """

    @property
    def failed_source(self) -> int:
        """Number of the segment that could not be read; -1 as long as all could."""

    def step(self) -> bool:
        """Write until one slice went to the disk. False when all is written."""

    def finish(self) -> SegmentInfo:
        """Write what is left, sync and give the segment its name."""

    def abandon(self) -> None:
        """Remove the temporary file; after ``finish`` it does nothing."""
