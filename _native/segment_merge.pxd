# Writes extents of several segments into a new one, joined: docs/format-segment.md, "Compaction".
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t

from .segment_format cimport ExtentLayout
from .segment_index cimport Finding
from .segment_input cimport Input
from .segment_writer cimport SegmentWriter


# A run of an extent's messages, and their bytes.
cdef struct Piece:
    uint64_t source                     # number of its segment
    uint64_t index                      # of the extent in it
    ExtentLayout parts
    uint64_t data_start                 # bytes from the start of the extent's wire bytes
    uint64_t data_behind
    uint64_t ends_start                 # and from the start of its ends
    uint64_t ends_behind


# An extent to be written.
cdef struct Joined:
    uint64_t stream_id
    uint64_t base
    uint64_t end
    uint64_t message_count
    uint64_t first                      # piece
    uint64_t behind
    const uint8_t *row
    uint64_t row_size


cdef enum MergePhase:
    NEXT_EXTENT
    WIRE_BYTES
    MESSAGE_ENDS


@cython.final
cdef class SegmentMerge:
    cdef SegmentWriter writer
    cdef list segments                  # keeps open what ``inputs`` refers to
    cdef Input *inputs
    cdef uint64_t input_count
    cdef uint8_t *block                 # one, as it was read
    cdef list rows                      # keeps alive what ``joined`` points into
    cdef Joined *joined
    cdef uint64_t joined_count
    cdef Piece *pieces
    cdef uint64_t piece_count

    # Where the writing is.
    cdef MergePhase phase
    cdef uint64_t joined_at
    cdef uint64_t piece_at
    cdef uint64_t offset                # in the piece's part
    cdef bint source_failed
    cdef Finding finding                # what is wrong with the piece

    cdef int take_piece(self, uint64_t source, uint64_t index, uint64_t start, uint64_t end,
                        uint64_t first, uint64_t count) except -1
    cdef int64_t advance(self) noexcept nogil
    cdef int64_t next_extent(self) noexcept nogil
    cdef int64_t wire_bytes(self) noexcept nogil
    cdef int64_t message_ends(self) noexcept nogil
    cdef int64_t copy(
        self, uint64_t part, uint64_t size, uint64_t checksums, uint64_t behind
    ) noexcept nogil
    cdef object trouble(self)
