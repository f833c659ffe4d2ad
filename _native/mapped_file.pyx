"""An immutable file, mapped: views of it cost no copy and keep it mapped.

The mapping ends with the last reference, so it cannot vanish under a view. Two rules belong
to it: the file is never shortened, and a range is read through ``load`` before its first use,
since a medium's error comes from there as an errno and from the mapping as SIGBUS.

The last close of an unlinked file frees its blocks, which can take long: a file that was retired
is given back by a ``Reaper``, not by the thread that happens to drop the last view of it.
"""
cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.errno cimport EIO

import os

from .disk cimport disk_read_all


@cython.final
@cython.no_gc_clear                     # files that end with it still need the list
cdef class Reaper:
    """What is left of retired files that nobody refers to any more.

    Attributes:
        pinned_size: bytes of retired files that somebody still refers to.
    """

    def __cinit__(self):
        self.left = []

    def __dealloc__(self):
        self.reap()

    def reap(self):
        """Unmap and close what was let go of since the last call; how many. Blocks."""
        cdef Py_ssize_t count = 0
        while self.left:
            disk, address, size, fd = self.left.pop()
            give_back(disk, address, size, fd)
            count += 1
        return count

    def close(self):
        """The same, for the last time: from now on whoever lets go of a file gives it back."""
        self.closed = True
        self.reap()


cdef give_back(Disk disk, size_t address, uint64_t size, int fd):
    with nogil:
        if address != 0:
            disk.ops.unmap(disk.context, <const uint8_t *>address, size)
        disk.ops.close(disk.context, fd)


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
        if self.reaper is not None:
            self.reaper.pinned_size -= self.size
            if not self.reaper.closed:
                self.reaper.left.append((self.disk, <size_t>self.address, self.size, self.fd))
                return
        if self.address != NULL:
            self.disk.ops.unmap(self.disk.context, self.address, self.size)
        self.disk.ops.close(self.disk.context, self.fd)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void *>self.address, <Py_ssize_t>self.size, 1, flags)

    cdef retire(self, Reaper reaper):
        if self.reaper is None:
            self.reaper = reaper
            reaper.pinned_size += self.size

    cdef int64_t load(self, uint8_t *buffer, uint64_t size, uint64_t position) noexcept nogil:
        cdef int64_t got = disk_read_all(
            &self.disk.ops, self.disk.context, self.fd, buffer, size, position
        )
        if got < 0:
            return got
        return 0 if <uint64_t>got == size else -EIO
