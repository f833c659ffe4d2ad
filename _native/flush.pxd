# Turns a batch of log records into a segment: sort by stream, one extent a stream.
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t

from .record cimport RecordBatch
from .segment_writer cimport SegmentWriter


cdef struct RowRef:
    uint64_t stream_id
    const uint8_t *row
    uint64_t row_size


# A run of one stream's records in ``Flush.order``.
cdef struct Run:
    uint64_t stream_id
    uint64_t first
    uint64_t behind
    uint64_t base
    uint64_t end
    uint64_t message_count


cdef struct Ordered:
    uint64_t stream_id
    uint64_t index                      # in the batch, which is in LSN order


cdef enum FlushPhase:
    NEXT_EXTENT
    WIRE_BYTES
    MESSAGE_ENDS
    WRITTEN


@cython.final
cdef class Flush:
    cdef SegmentWriter writer
    cdef RecordBatch batch
    cdef list rows                      # keeps alive what ``row_refs`` points into
    cdef RowRef *row_refs
    cdef uint64_t row_count
    cdef Ordered *order
    cdef uint64_t order_count
    cdef Run *runs
    cdef uint64_t run_count

    # Where the writing is.
    cdef FlushPhase phase
    cdef uint64_t row_at                # the current extent's row
    cdef uint64_t run_at                # its records, if the stream has any
    cdef uint64_t order_at              # the current record
    cdef uint64_t offset                # in its wire bytes, or its messages
    cdef uint64_t position              # in the stream, of the last message end written

    cdef int take_rows(self, rows) except -1
    cdef int take_records(self, dropped) except -1
    cdef int check_runs(self) except -1
    cdef const char *sort(
        self, const uint64_t *dropped, uint64_t dropped_count, uint64_t *index
    ) noexcept nogil
    cdef const char *append_record(self, uint64_t at) noexcept nogil
    cdef int64_t advance(self) noexcept nogil
    cdef int64_t next_extent(self) noexcept nogil
    cdef int64_t wire_bytes(self) noexcept nogil
    cdef int64_t message_ends(self) noexcept nogil
