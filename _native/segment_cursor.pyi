from collections.abc import Sequence
from typing import Self, final

from .segment import Segment
from .segment_types import Found

@final
class SegmentCursor:
    def __new__(cls, segments: Sequence[Segment]) -> Self: ...
    @property
    def segments(self) -> list[Segment]: ...
    def next_batch(self, stream_count_max: int, size_max: int) -> list[tuple[int, list[Found]]]:
        """(stream id, its extents, the oldest segment's first) of the next streams.

        Empty behind the last. Ends when the rows have ``size_max`` bytes or more.
        """
