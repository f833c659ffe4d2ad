# Writes a segment from the first byte to the last: docs/format-segment.md.
#
# The ``noexcept nogil`` methods are the core, shared by ``add`` and by a flush. They return 0
# or -errno; after an error the segment must be abandoned.
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t

from .disk cimport Disk
from .segment_format cimport SegmentEntry

cdef enum:
    SEGMENT_SLICE_SIZE = 1024 * 1024    # bytes: no write is larger


@cython.final
cdef class SegmentWriter:
    cdef Disk disk
    cdef int fd
    cdef bint writing                   # until finished or abandoned
    cdef str path
    cdef str temporary
    cdef bint sync_slices
    cdef dict identity                  # number, level, after_lsn, upto_lsn
    cdef uint64_t seed                  # the header's checksum

    # The slice that is being filled, ``slice_size`` bytes.
    cdef uint8_t *slice
    cdef uint64_t slice_size
    cdef uint64_t used
    cdef uint64_t position              # of the slice in the file
    cdef uint64_t slice_count           # written so far

    # The index.
    cdef SegmentEntry *entries
    cdef uint64_t entry_count
    cdef uint64_t entry_capacity
    cdef uint64_t data_size
    cdef uint64_t message_count

    # The part (wire bytes or ends) that is being written, and the checksums of its blocks.
    cdef uint64_t part_size
    cdef uint64_t part_done
    cdef uint64_t *checksums
    cdef uint64_t checksum_count
    cdef uint64_t checksum_capacity

    cdef put_header(self, bytes store_id)
    cdef int64_t write_slice(self) noexcept nogil
    cdef int64_t make_room(self, uint64_t size) noexcept nogil
    cdef int64_t put(self, const void *data, uint64_t size) noexcept nogil
    cdef void begin_part(self, uint64_t size) noexcept nogil
    cdef int64_t put_blocks(self, const void *data, uint64_t size) noexcept nogil
    cdef int64_t put_block_piece(self, const uint8_t *data, uint64_t size) noexcept nogil
    cdef int64_t end_part(self) noexcept nogil
    cdef int64_t begin_extent(
        self,
        uint64_t stream_id,
        uint64_t base,
        uint64_t end,
        uint64_t message_count,
        const uint8_t *row,
        uint64_t row_size,
    ) noexcept nogil
    cdef int64_t begin_ends(self) noexcept nogil
    cdef int64_t end_extent(self, const uint8_t *row, uint64_t row_size) noexcept nogil
    cdef int64_t put_index(self) noexcept nogil
    cdef int check(self, int64_t result) except -1
    cdef int check_open(self) except -1
    cdef int check_order(self, uint64_t stream_id, uint64_t base) except -1
