# A stream in memory, as compiled sections change it: see entry.pyx.
cimport cython
from libc.stdint cimport int64_t, uint64_t

from .._native.tail cimport Tail


# Where a state is ahead of the ``StreamState`` that was made of it last: what appends move.
cdef struct Position:
    uint64_t tail
    int64_t accessed_at             # Unix ms


@cython.final
cdef class Dirty:
    cdef readonly uint64_t stream_id
    cdef readonly str path
    cdef public uint64_t lsn
    cdef public object quarantine
    cdef public dict producers
    cdef public object trimmed_from
    cdef public uint64_t generation  # of the set that it belongs to
    cdef object base                # StreamState or None
    cdef Position position
    cdef bint moved                 # ``position`` is ahead of ``base``

    cdef void move(self, object base, Position position) noexcept


@cython.final
cdef class Entry:
    cdef object __weakref__
    cdef readonly uint64_t stream_id
    cdef readonly object origin
    cdef readonly Tail tail
    cdef readonly bytes content_type
    cdef readonly bint is_json
    cdef public uint64_t lsn
    cdef public int64_t logged_at
    cdef public dict producers
    cdef public dict producers_read
    cdef public bint producers_complete
    cdef public bint used
    cdef public object waiters
    cdef public object quarantine
    cdef object reserved_base       # StreamState or None
    cdef Position reserved_position
    cdef bint reserved_moved
    cdef object visible_base        # StreamState or None
    cdef Position visible_position
    cdef bint visible_moved
    cdef bint takes_appends         # its reserved state is open, and nothing but appends changes it
    cdef bint shows_plainly         # its visible state: no fork, no end by time, not removed
    cdef bint is_closed             # the visible state
    cdef uint64_t earliest
    cdef list located               # (base, end, segment number, extent) that reads found, or None
    cdef set boundaries             # positions that reads found to be ones, or None
    cdef Dirty dirty                # its row in the present or an older set, or None

    cdef bint is_boundary(self, uint64_t position) except -1
    cdef tuple extent_at(self, uint64_t position)
    cdef void move_reserved(self, uint64_t tail, int64_t accessed_at, uint64_t lsn) noexcept
    cdef void move_visible(self, uint64_t tail, int64_t accessed_at) noexcept


@cython.final
cdef class Binding:
    cdef readonly str path
    cdef public Entry reserved
    cdef public Entry visible
    cdef public uint64_t lsn
    cdef public bint used
