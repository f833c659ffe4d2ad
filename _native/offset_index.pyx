"""Which message holds a position: many look-ups in one call over an offset index.

Source: docs/format-segment.md, "Ends". Twin: engine/offset_index_py.py. The array comes from
``Segment.ends`` or from numpy and is used as it is: that its positions ascend is its owner's
to ensure; if they do not, results are wrong, but nothing outside the array is read.
"""
cimport cython
from libc.stdint cimport int64_t

from .ends cimport end_position


cdef inline uint64_t messages_upto(
    const uint64_t *ends, uint64_t count, uint64_t position
) noexcept nogil:
    """How many messages end at or below ``position``. Without branches that depend on data."""
    cdef const uint64_t *low = ends
    cdef uint64_t half
    while count > 1:
        half = count // 2
        low += half * (end_position(low[half - 1]) <= position)
        count -= half
    if count == 1:
        low += end_position(low[0]) <= position
    return <uint64_t>(low - ends)


@cython.final
cdef class OffsetIndex:
    """The messages of one run of a stream, numbered from 0.

    Args:
        ends: u64, shape (count,): (position behind the message << 1) | whether an append
            ends there. It stays exported for as long as the index lives.
        base: the position where the first message starts.

    Raises: ValueError if ``ends`` has another shape or type.
    """

    def __cinit__(self, ends not None, uint64_t base=0):
        self._ends = ends
        self.ends = ends
        self.base = self.end = base
        if self._ends.shape[0]:
            self.end = end_position(self._ends[self._ends.shape[0] - 1])

    def __len__(self):
        return self._ends.shape[0]

    def look_up(self, const uint64_t[::1] positions not None, int64_t[::1] out not None):
        """Put the number of the message that holds each position, or -1, into ``out``.

        Both have the same shape (count,). Releases the GIL once.
        """
        cdef uint64_t count = <uint64_t>self._ends.shape[0]
        cdef const uint64_t *ends = &self._ends[0] if count else NULL
        cdef Py_ssize_t at, wanted = positions.shape[0]
        cdef uint64_t base = self.base, end = self.end
        if out.shape[0] != wanted:
            raise ValueError(f"{wanted} positions, but room for {out.shape[0]} results")
        with nogil:
            for at in range(wanted):
                if base <= positions[at] < end:
                    out[at] = <int64_t>messages_upto(ends, count, positions[at])
                else:
                    out[at] = -1

    def message_range(self, Py_ssize_t number):
        """Positions [start, end) of a message. Raises: IndexError."""
        if number < 0 or number >= self._ends.shape[0]:
            raise IndexError(f"message {number} of {self._ends.shape[0]}")
        start = end_position(self._ends[number - 1]) if number else self.base
        return start, end_position(self._ends[number])
