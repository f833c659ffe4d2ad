"""A disk whose every operation is a method of a Python object, for simulators.

Source: docs/architecture.md, "Disk seam". One trampoline an operation: take the GIL, call the
target's method, turn an OSError into -errno. Any other exception is a bug of the target: the
first is kept in ``error``, and the caller sees EIO. Production never goes through here.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EINVAL, EIO
from libc.stdint cimport int64_t, uint8_t, uint64_t, uintptr_t
from libc.string cimport memcpy

from .disk cimport Disk, DiskOps, iovec

import os


cdef int64_t failed(DelegatedDisk disk, BaseException error) noexcept:
    if isinstance(error, OSError) and error.errno:
        return -<int64_t>error.errno
    if disk.error is None:
        disk.error = error
    return -EIO


cdef str path_of(const char *path):
    return os.fsdecode(<bytes>path)


cdef int64_t delegated_open(void *context, const char *path, int flags) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    try:
        return disk.target.open(path_of(path), flags)
    except BaseException as error:
        return failed(disk, error)


cdef int64_t delegated_close(void *context, int fd) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    try:
        disk.target.close(fd)
        return 0
    except BaseException as error:
        return failed(disk, error)


cdef int64_t delegated_size(void *context, int fd) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    try:
        return disk.target.size(fd)
    except BaseException as error:
        return failed(disk, error)


cdef int64_t delegated_pread(
    void *context, int fd, void *buffer, uint64_t size, uint64_t position
) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    cdef bytes data
    try:
        data = disk.target.pread(fd, size, position)
        if <uint64_t>len(data) > size:
            raise ValueError(f"pread of {size} bytes returned {len(data)}")
        memcpy(buffer, PyBytes_AS_STRING(data), len(data))
        return len(data)
    except BaseException as error:
        return failed(disk, error)


cdef int64_t delegated_forget(
    void *context, int fd, uint64_t position, uint64_t size
) noexcept nogil:
    return 0                            # no cache that could hide what a medium has


cdef int64_t delegated_pwritev(
    void *context, int fd, const iovec *parts, int count, uint64_t position
) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    cdef int i
    try:
        data = b"".join([
            PyBytes_FromStringAndSize(<const char *>parts[i].iov_base, parts[i].iov_len)
            for i in range(count)
        ])
        return disk.target.pwrite(fd, data, position)
    except BaseException as error:
        return failed(disk, error)


cdef int64_t delegated_sync(void *context, int fd) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    try:
        disk.target.sync(fd)
        return 0
    except BaseException as error:
        return failed(disk, error)


cdef int64_t delegated_allocate(
    void *context, int fd, uint64_t position, uint64_t size
) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    try:
        disk.target.allocate(fd, position, size)
        return 0
    except BaseException as error:
        return failed(disk, error)


cdef int64_t delegated_truncate(void *context, int fd, uint64_t size) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    try:
        disk.target.truncate(fd, size)
        return 0
    except BaseException as error:
        return failed(disk, error)


cdef int64_t delegated_rename(
    void *context, const char *old, const char *new
) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    try:
        disk.target.rename(path_of(old), path_of(new))
        return 0
    except BaseException as error:
        return failed(disk, error)


cdef int64_t delegated_unlink(void *context, const char *path) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    try:
        disk.target.unlink(path_of(path))
        return 0
    except BaseException as error:
        return failed(disk, error)


cdef int64_t delegated_make_directory(void *context, const char *path) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    try:
        disk.target.make_directory(path_of(path))
        return 0
    except BaseException as error:
        return failed(disk, error)


cdef int64_t delegated_sync_directory(void *context, const char *path) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    try:
        disk.target.sync_directory(path_of(path))
        return 0
    except BaseException as error:
        return failed(disk, error)


cdef int64_t delegated_map(
    void *context, int fd, uint64_t size, const uint8_t **address
) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    cdef bytes data
    try:
        # A copy of its own: the same bytes object mapped twice must have two addresses.
        data = bytes(bytearray(disk.target.map(fd, size)))
        if <uint64_t>len(data) != size:
            raise OSError(EINVAL, f"map of {size} bytes returned {len(data)}")
        address[0] = <const uint8_t *>PyBytes_AS_STRING(data)
        disk._mappings[<uintptr_t>address[0]] = data
        return 0
    except BaseException as error:
        return failed(disk, error)


cdef int64_t delegated_unmap(
    void *context, const uint8_t *address, uint64_t size
) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    try:
        del disk._mappings[<uintptr_t>address]
        return 0
    except BaseException as error:
        return failed(disk, error)


cdef int64_t delegated_resident(
    void *context, const uint8_t *address, uint64_t size
) noexcept nogil:
    return 1                            # ``map`` made a copy of all of it


cdef int64_t delegated_lock(void *context, int fd) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    try:
        disk.target.lock(fd)
        return 0
    except BaseException as error:
        return failed(disk, error)


cdef int64_t delegated_wall_ms(void *context) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    try:
        return disk.target.wall_ms()
    except BaseException as error:
        return failed(disk, error)


cdef int64_t delegated_monotonic_ns(void *context) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    try:
        return disk.target.monotonic_ns()
    except BaseException as error:
        return failed(disk, error)


cdef uint64_t delegated_random(void *context) noexcept with gil:
    cdef DelegatedDisk disk = <DelegatedDisk>context
    try:
        return disk.target.random()
    except BaseException as error:
        failed(disk, error)
        return 0


@cython.final
cdef class DelegatedDisk(Disk):
    """A disk whose every operation is a method of ``target``, as simulators need.

    ``target`` has the methods of ``Disk``, except that ``pread`` and ``pwrite`` may transfer
    less than asked for (``pwrite`` returns how many bytes), and ``map(fd, size) -> bytes``.
    """

    def __cinit__(self, target):
        self.target = target
        self.error = None
        self._mappings = {}
        self.context = <void *>self     # borrowed: the table never outlives its owner
        self.ops = DiskOps(
            delegated_open, delegated_close, delegated_size, delegated_pread, delegated_forget,
            delegated_pwritev, delegated_sync, delegated_allocate, delegated_truncate,
            delegated_rename, delegated_unlink, delegated_make_directory,
            delegated_sync_directory, delegated_map, delegated_unmap, delegated_resident,
            delegated_lock, delegated_wall_ms, delegated_monotonic_ns, delegated_random,
        )

    def list_directory(self, path):
        return sorted(self.target.list_directory(os.fspath(path)))

    def exists(self, path):
        return self.target.exists(os.fspath(path))
