# A file that is open, mapped and immutable, for as long as anything refers to it.
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t

from .disk cimport Disk


@cython.final
cdef class Reaper:
    cdef list left                      # (disk, address, size, descriptor)
    cdef readonly uint64_t pinned_size
    cdef bint closed


@cython.final
cdef class MappedFile:
    cdef Disk disk
    cdef int fd
    cdef readonly object path
    cdef readonly uint64_t size
    cdef const uint8_t *address         # NULL if the file is empty
    cdef Reaper reaper                  # None: whoever drops the last reference gives it back

    # Read through the seam: 0, or -errno; a range that is not all there is -EIO.
    cdef int64_t load(self, uint8_t *buffer, uint64_t size, uint64_t position) noexcept nogil
    cdef retire(self, Reaper reaper)
