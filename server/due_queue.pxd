# Answers that wait for the log: see due_queue.pyx.
cimport cython
from cpython.object cimport PyObject
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t


# ``owner`` is a counted reference.
cdef struct Due:
    uint64_t lsn
    uint64_t tail
    PyObject *owner


@cython.final
cdef class DueQueue:
    cdef Due *items
    cdef size_t head, count, capacity

    cdef int reserve(self) except -1
    cdef void push(self, uint64_t lsn, uint64_t tail, object owner) noexcept
    cdef bint is_ready(self, uint64_t visible_lsn) noexcept
    cdef uint64_t first_tail(self) noexcept
    cdef object pop(self)
