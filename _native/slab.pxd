cimport cython
from libc.stdint cimport uint8_t, uint64_t


@cython.final
cdef class SlabMemory:
    cdef readonly uint64_t size         # bytes of the slabs that somebody still holds


@cython.final
@cython.no_gc
cdef class Slab:
    cdef uint8_t *memory
    cdef SlabMemory counted             # or None
    cdef readonly uint64_t capacity     # bytes
    cdef readonly uint64_t used         # bytes, from the start; what is used never changes
    cdef readonly uint64_t first_lsn    # 0 while there is no record
    cdef readonly uint64_t last_lsn

    cdef uint8_t *take(self, uint64_t size, uint64_t lsn) noexcept nogil
