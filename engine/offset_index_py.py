"""Readable twin of ``_native/offset_index.pyx``: the same answers, one look-up at a time.

Source: docs/format-segment.md, "Ends". For tests and for reading; never on a hot path.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import MutableSequence, Sequence


class OffsetIndex:
    """The messages of one run of a stream, numbered from 0. See the native class."""

    def __init__(self, ends: Sequence[int], base: int = 0) -> None:
        self.ends = ends
        self.base = base
        self.end = ends[-1] >> 1 if len(ends) else base

    def __len__(self) -> int:
        return len(self.ends)

    def look_up(self, positions: Sequence[int], out: MutableSequence[int]) -> None:
        if len(out) != len(positions):
            raise ValueError(f"{len(positions)} positions, but room for {len(out)} results")
        for at, position in enumerate(positions):
            out[at] = self._message_at(position) if self.base <= position < self.end else -1

    def _message_at(self, position: int) -> int:
        # The mark sits in the lowest bit, so ends up to ``position`` are below the next even.
        return bisect_right(self.ends, position << 1 | 1)

    def message_range(self, number: int) -> tuple[int, int]:
        if not 0 <= number < len(self.ends):
            raise IndexError(f"message {number} of {len(self.ends)}")
        start = self.ends[number - 1] >> 1 if number else self.base
        return start, self.ends[number] >> 1
