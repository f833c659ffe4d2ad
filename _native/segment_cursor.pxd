# Walks several segments stream by stream, and reads the rows of their extents.
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t

from .segment_format cimport SegmentEntry
from .segment_index cimport Finding
from .segment_input cimport Input


# An extent that was come to; its row lies in the cursor's ``rows``.
cdef struct Found:
    uint64_t source                     # number of its segment
    uint64_t index                      # of the extent in it
    const SegmentEntry *entry
    uint64_t row_at
    Finding finding                     # of the row


@cython.final
cdef class SegmentCursor:
    cdef readonly list segments         # keeps open what ``inputs`` refers to
    cdef Input *inputs
    cdef uint64_t input_count
    cdef Found *found
    cdef uint64_t found_count
    cdef uint64_t found_capacity
    cdef uint8_t *rows
    cdef uint64_t rows_size
    cdef uint64_t rows_capacity

    cdef int64_t gather(self, uint64_t extent_count_max, uint64_t size_max) noexcept nogil
    cdef bint next_stream(self, uint64_t *stream_id) noexcept nogil
    cdef int64_t take_stream(self, uint64_t stream_id) noexcept nogil
    cdef int64_t take_extent(self, uint64_t source) noexcept nogil
    cdef void take_row(self, Found *found, const SegmentEntry *entry) noexcept nogil
    cdef list batch(self)
    cdef object row_of(self, Found *found)
