from collections.abc import Sequence
from typing import Self, final

from .segment import Segment
from .segment_types import Found

@final
class SegmentCursor:
    def __new__(cls, segments: Sequence[Segment]) -> Self: ...
    @property
    def segments(self) -> list[Segment]: ...
    def next_batch(self, extent_count_max: int, size_max: int) -> list[tuple[int, list[Found]]]:
        """(stream id, its extents, the oldest segment's first) of the next streams.

        Empty behind the last. Ends with the stream that reaches one of the bounds: on extents,
        and on bytes of rows.
        """
