"""What the writer and the reader of segments hand out.

Nothing here reads or writes a file; what damage means for a stream is the engine's to judge.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


class SegmentInfo(NamedTuple):
    """A segment that was written whole and synced. Sizes are bytes."""

    path: str
    number: int
    level: int
    after_lsn: int
    upto_lsn: int
    size: int
    extent_count: int
    data_size: int
    message_count: int


class Extent(NamedTuple):
    """One run of a stream's wire bytes: positions [base, end); equal if it is only a row."""

    stream_id: int
    base: int
    end: int
    message_count: int
    row_size: int  # bytes; 0 if the extent carries no row


class SegmentDamaged(Exception):
    """A segment's bytes are not what was written.

    Args:
        path: the file.
        position: bytes from its start, of the part that is damaged.
        what: the part, and what is wrong with it.
        stream_id: whose part it is; None if the damage hides that.
        stream_position: position in the stream of the first byte concerned, for wire bytes.
    """

    def __init__(
        self,
        path: str,
        position: int,
        what: str,
        stream_id: int | None = None,
        stream_position: int | None = None,
    ) -> None:
        whose = "" if stream_id is None else f", stream {stream_id}"
        if stream_position is not None:
            whose += f" from position {stream_position} on"
        super().__init__(f"{path}: {what}, at byte {position}{whose}; run verify")
        self.path = path
        self.position = position
        self.what = what
        self.stream_id = stream_id
        self.stream_position = stream_position


# Number of the segment, index of the extent, base, end, message count, row: None if it has none,
# the trouble if it cannot be had.
Found: TypeAlias = tuple[int, int, int, int, int, bytes | SegmentDamaged | OSError | None]

# Number of the segment, index of the extent, [start, end), first message, message count.
Piece: TypeAlias = tuple[int, int, int, int, int, int]
