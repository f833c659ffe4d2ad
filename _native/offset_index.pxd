# Batched look-ups in an offset index.
cimport cython
from libc.stdint cimport uint64_t


@cython.final
cdef class OffsetIndex:
    cdef readonly object ends           # the buffer, kept alive; u64, shape (count,)
    cdef const uint64_t[::1] _ends
    cdef readonly uint64_t base
    cdef readonly uint64_t end
