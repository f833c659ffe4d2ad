from array import array
from typing import Self, final

@final
class Tail:
    """The bytes ``[start, end)`` of a stream that are not flushed; ``Log.stage`` adds to it.

    Positions are bytes from the start of the stream. A position or range outside of the tail
    is a ValueError, below its start a TailMoved.
    """

    def __new__(cls, start: int) -> Self: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def message_count(self) -> int: ...
    def read(self, start: int, end: int) -> list[bytes | memoryview]:
        """The bytes in order: large pieces as views of their slab, runs of small ones copied."""

    def boundary(self, position: int) -> int:
        """0: none, 1: a message ends here, 2: an append does. ``start`` counts as an append end.

        A position behind the tail is no boundary.
        """

    def append_start(self, position: int) -> int:
        """Start of the append that holds the byte at ``position``."""

    def chunk_end(self, start: int, limit: int, size_max: int, whole_messages: bool) -> int:
        """Where a chunk that starts at ``start`` ends, at most at ``limit`` (an append end).

        The largest append end within ``size_max`` bytes. If there is none, the largest message
        end within it or one message whole, if ``whole_messages``; else a cut at the next
        multiple of ``size_max`` behind the append's start.
        """

    def message_end(self, start: int, count: int) -> int:
        """End of the ``count``-th message of the append that starts at ``start``.

        -1 if the append has fewer messages.
        """

    def append_ends(self, start: int, end: int) -> array[int]:
        """The append ends in ``(start, end]``."""

    def drop_below(self, position: int) -> None:
        """Forget the bytes below an append end; they are in a segment now."""
