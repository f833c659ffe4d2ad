"""Which message holds a position: many look-ups in one call over an offset index.

Source: docs/format-segment.md, "Ends". Twin: engine/offset_index_py.py. The array comes from
``Segment.ends`` or from numpy and is used as it is: that its positions ascend is its owner's
to ensure; if they do not, results are wrong, but nothing outside the array is read.
"""
cimport cython
from libc.stdint cimport int64_t

from .ends cimport end_position


cdef enum:
    LANES = 16                          # look-ups side by side, so that their loads overlap


cdef inline void messages_upto(
    const uint64_t *ends, uint64_t count, const uint64_t *positions, int64_t *found
) noexcept nogil:
    """For each of LANES positions: how many of ``count`` > 0 messages end at or below it.

    Binary searches in step: the halves are the same for all, and no branch depends on data.
    """
    cdef uint64_t[LANES] low
    cdef uint64_t half
    cdef int lane
    for lane in range(LANES):
        low[lane] = 0
    while count > 1:
        half = count // 2
        for lane in range(LANES):
            low[lane] += half * (end_position(ends[low[lane] + half - 1]) <= positions[lane])
        count -= half
    for lane in range(LANES):
        found[lane] = <int64_t>(
            low[lane] + (end_position(ends[low[lane]]) <= positions[lane])
        )


cdef void look_up_all(
    const uint64_t *ends,
    uint64_t count,
    uint64_t base,
    const uint64_t *positions,
    int64_t *out,
    Py_ssize_t wanted,
) noexcept nogil:
    cdef uint64_t end = end_position(ends[count - 1])
    cdef uint64_t[LANES] these
    cdef int64_t[LANES] found
    cdef Py_ssize_t at = 0
    cdef int lane, lanes
    while at < wanted:
        lanes = <int>min(wanted - at, <Py_ssize_t>LANES)
        for lane in range(LANES):
            these[lane] = positions[at + lane] if lane < lanes else 0
        messages_upto(ends, count, these, found)
        for lane in range(lanes):
            out[at + lane] = found[lane] if base <= these[lane] < end else -1
        at += lanes


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
        cdef Py_ssize_t wanted = positions.shape[0]
        if out.shape[0] != wanted:
            raise ValueError(f"{wanted} positions, but room for {out.shape[0]} results")
        if wanted == 0:
            return
        if count == 0:
            out[:] = -1
            return
        with nogil:
            look_up_all(&self._ends[0], count, self.base, &positions[0], &out[0], wanted)

    def message_range(self, Py_ssize_t number):
        """Positions [start, end) of a message. Raises: IndexError."""
        if number < 0 or number >= self._ends.shape[0]:
            raise IndexError(f"message {number} of {self._ends.shape[0]}")
        start = end_position(self._ends[number - 1]) if number else self.base
        return start, end_position(self._ends[number])
