# What is durable becomes visible, and dirty: see projection.pyx.
cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from .entry cimport Dirty, Entry


# A change that waits for its record to be durable. ``subject`` is a counted reference: an Entry
# whose tail moves, or a Change.
cdef struct Pending:
    uint64_t lsn
    PyObject *subject
    bint is_append
    uint64_t tail                   # of an append only
    int64_t accessed_at


@cython.final
cdef class Projection:
    cdef readonly dict dirty        # stream id -> Dirty
    cdef readonly uint64_t generation
    cdef public uint64_t visible_lsn
    cdef public uint64_t next_stream_id
    cdef Pending *pending           # a queue
    cdef size_t head, count, capacity

    # Queueing: reserve may fail, push after it cannot.
    cdef int reserve(self) except -1
    cdef void push_append(
        self, uint64_t lsn, Entry entry, uint64_t tail, int64_t accessed_at
    ) noexcept
    cdef void push_pending(self, uint64_t lsn, object subject) noexcept
    cdef int advance_to(self, uint64_t durable_lsn) except -1
    cdef int apply_append(self, const Pending *pending) except -1
    cdef Dirty dirty_row(self, Entry entry)
