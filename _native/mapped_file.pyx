"""An immutable file, mapped: views of it cost no copy and keep it mapped.

The mapping ends with the last reference, so it cannot vanish under a view. Two rules belong
to it: the file is never shortened, and a range is read through ``load`` before its first use,
since a medium's error comes from there as an errno and from the mapping as SIGBUS.
"""
cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.errno cimport EIO

import os

from .disk cimport disk_read_all


@cython.final
@cython.no_gc_clear                     # __dealloc__ needs the disk
cdef class MappedFile:
    """Open and map ``path``. Exports its bytes read-only. Raises: OSError."""

    def __cinit__(self, Disk disk not None, path not None):
        cdef bytes name = os.fsencode(path)
        self.path = path
        self.fd = <int>disk.check(
            disk.ops.open(disk.context, name, os.O_RDONLY), path
        )
        self.disk = disk                # from here on __dealloc__ closes it
        self.size = disk.check(disk.ops.size(disk.context, self.fd), path)
        if self.size:
            disk.check(
                disk.ops.map(disk.context, self.fd, self.size, &self.address), path
            )

    def __dealloc__(self):
        if self.disk is None:
            return
        if self.address != NULL:
            self.disk.ops.unmap(self.disk.context, self.address, self.size)
        self.disk.ops.close(self.disk.context, self.fd)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void *>self.address, <Py_ssize_t>self.size, 1, flags)

    cdef int64_t load(self, uint8_t *buffer, uint64_t size, uint64_t position) noexcept nogil:
        cdef int64_t got = disk_read_all(
            &self.disk.ops, self.disk.context, self.fd, buffer, size, position
        )
        if got < 0:
            return got
        return 0 if <uint64_t>got == size else -EIO
