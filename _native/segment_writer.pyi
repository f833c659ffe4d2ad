from collections.abc import Sequence
from typing import Self, final

from typing_extensions import Buffer

from .disk import Disk, _Data
from .segment_types import SegmentInfo

@final
class SegmentWriter:
    def __new__(
        cls,
        disk: Disk,
        path: str,
        *,
        store_id: bytes,
        number: int,
        level: int,
        after_lsn: int,
        upto_lsn: int,
        slice_size: int = 1048576,
        sync_slices: bool = False,
    ) -> Self: ...
    def add(
        self, stream_id: int, base: int, data: Sequence[_Data], ends: Buffer, row: bytes
    ) -> None:
        """Add one extent, in ascending order of (stream id, base)."""

    def finish(self) -> SegmentInfo:
        """Write the index, sync, give the file its name, sync the directory."""

    def abandon(self) -> None:
        """Remove the temporary file; after ``finish`` it does nothing."""
