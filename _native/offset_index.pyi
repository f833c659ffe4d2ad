from typing import Any, Self, final

from typing_extensions import Buffer

@final
class OffsetIndex:
    """The messages of one run of a stream, numbered from 0."""

    def __new__(cls, ends: Buffer, base: int = 0) -> Self: ...
    @property
    def ends(self) -> Any:
        """The buffer it was made of: u64, shape (count,), for ``numpy.frombuffer``."""

    @property
    def base(self) -> int: ...
    @property
    def end(self) -> int: ...
    def __len__(self) -> int: ...
    def look_up(self, positions: Buffer, out: Buffer) -> None:
        """Put the number of the message holding each position (u64) into ``out`` (i64), or -1."""

    def message_range(self, number: int) -> tuple[int, int]:
        """Positions [start, end) of a message. Raises: IndexError."""
