from array import array
from collections.abc import Iterator
from typing import Self, final

from typing_extensions import Buffer

from .disk import Disk
from .mapped_file import Reaper
from .segment_types import Extent
from .segment_types import SegmentDamaged as SegmentDamaged

@final
class Segment:
    """Positions are those of the stream, sizes bytes; ``index`` numbers the extents.

    Raises: SegmentDamaged, OSError; IndexError and ValueError for an index or a position
    outside, and after ``close``.
    """

    def __new__(cls, disk: Disk, path: str, *, store_id: bytes, number: int) -> Self: ...
    def close(self) -> None:
        """Let go of the file. Views that were handed out stay valid. Closing again is fine."""

    def retire(self, reaper: Reaper) -> None:
        """Have ``reaper`` give back the mapping, once nobody refers to it any more."""

    @property
    def path(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def level(self) -> int: ...
    @property
    def after_lsn(self) -> int:
        """It holds what the records in (after_lsn, upto_lsn] changed."""

    @property
    def upto_lsn(self) -> int: ...
    @property
    def created_ms(self) -> int:
        """Unix time, ms."""

    @property
    def extent_count(self) -> int: ...
    @property
    def size(self) -> int:
        """Bytes of the file."""

    @property
    def data_size(self) -> int:
        """Wire bytes of all extents."""

    @property
    def message_count(self) -> int: ...
    def find(self, stream_id: int, position: int) -> int:
        """The extent that holds the byte at ``position``, or -1."""

    def find_end(self, stream_id: int, position: int) -> int:
        """The extent with ``position`` in (base, end], or -1."""

    def extents_of(self, stream_id: int) -> list[tuple[int, int, int]]:
        """(base, end, index) of each extent of a stream, ascending."""

    def extent(self, index: int) -> Extent: ...
    def held_size(self, ids: Buffer, starts: Buffer, ends: Buffer) -> int:
        """Bytes of the file that hold [start, end) of each of these streams, about.

        Three arrays of u64. An extent that lies within counts whole, with its row and ends.
        """

    def cut(self, index: int, start: int, end: int) -> tuple[int, int, int, int]:
        """The appends that overlap [start, end): start, end, first message and message count."""

    def row(self, index: int) -> bytes:
        """The stream's row as of ``upto_lsn``; reads the disk each time."""

    def read(self, index: int, start: int, end: int) -> memoryview:
        """The wire bytes [start, end), read-only, without a copy."""

    def read_resident(self, index: int, start: int, end: int) -> memoryview | None:
        """``read`` if that needs no disk at this moment, verified before and in memory."""

    def ends(self, index: int) -> memoryview:
        """The whole offset index of an extent: read-only u64, shape (message_count,)."""

    def resident(self, index: int, start: int, end: int) -> bool:
        """Whether reading [start, end) and searching its ends needs no disk: all is verified."""

    def boundary(self, index: int, position: int) -> int:
        """What ends at ``position``: 0 nothing, 1 a message, 2 an append, as the base counts."""

    def append_start(self, index: int, position: int) -> int:
        """Where the append starts that holds the byte at ``position``."""

    def chunk_end(
        self, index: int, start: int, limit: int, size_max: int, whole_messages: bool
    ) -> int:
        """Where a chunk from ``start`` ends: see ``Tail.chunk_end``; never behind the extent."""

    def message_end(self, index: int, start: int, count: int) -> int:
        """End of the ``count``-th message of the append that starts at ``start``, or -1."""

    def append_ends(self, index: int, start: int, end: int) -> array[int]:
        """Positions in (start, end] where appends end."""

    def check(
        self, index: int, block: int, size_max: int
    ) -> tuple[int, int, int, SegmentDamaged | OSError | None]:
        """Check blocks from one of an extent on, from the medium, without the GIL.

        Returns (index, block, size, damage): where to go on, the bytes passed, some more than
        ``size_max`` at most by a block, and what ended it early. The first block of an extent
        is 0; the end is reached with ``index`` equal to ``extent_count``.
        """

    def verify(self) -> Iterator[SegmentDamaged | OSError | None]:
        """Check every byte in small steps, yielding what is damaged, or None."""
