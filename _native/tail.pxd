cimport cython
from cpython.object cimport PyObject
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from .slab cimport Slab


# The data of one record: bytes [base, end) of the stream, at ``data`` inside ``slab``.
cdef struct Piece:
    uint64_t base
    uint64_t end
    const uint8_t *data
    PyObject *slab                  # a counted reference


@cython.final
cdef class Tail:
    cdef readonly uint64_t start
    cdef readonly uint64_t end
    cdef Piece *pieces              # a growing array; what was dropped is reclaimed in bulk
    cdef size_t piece_head, piece_count, piece_capacity
    cdef uint64_t *ends             # message ends as in ends.pxd, the same way
    cdef size_t end_head, end_count, end_capacity

    # ``reserve`` may fail and changes nothing that can be seen; ``add`` after it cannot.
    cdef int reserve(self, uint64_t base, uint64_t message_count) except -1
    cdef void add(
        self,
        Slab slab,
        const uint8_t *data,
        uint64_t size,
        const uint32_t *sizes,      # NULL: one message
        uint32_t message_count,
    ) noexcept
    cdef int check(self, uint64_t start, uint64_t end) except -1
    cdef size_t piece_at(self, uint64_t position) noexcept
    cdef void forget(self) noexcept
