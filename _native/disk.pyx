"""The disk seam: the table of operations as methods, and the real disk.

Source: docs/architecture.md, "Disk seam". C callers use the table itself (disk.pxd). This module
must never buffer, retry or hide anything but EINTR: what an error means is for its callers to
judge (I7).
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EIO, errno

import os
import threading

cdef extern from "disk_os.h":
    ctypedef int clockid_t
    const clockid_t CLOCK_REALTIME
    const clockid_t CLOCK_MONOTONIC
    int64_t disk_os_sync(int fd) nogil
    int64_t disk_os_allocate(int fd, uint64_t position, uint64_t size) nogil
    int64_t disk_os_open(const char *path, int flags) nogil
    int64_t disk_os_size(int fd) nogil
    int64_t disk_os_pread(int fd, void *buffer, uint64_t size, uint64_t position) nogil
    int64_t disk_os_forget(int fd, uint64_t position, uint64_t size) nogil
    int64_t disk_os_pwritev(int fd, const iovec *parts, int count, uint64_t position) nogil
    int64_t disk_os_truncate(int fd, uint64_t size) nogil
    int64_t disk_os_sync_directory(const char *path) nogil
    int64_t disk_os_map(int fd, uint64_t size, const uint8_t **address) nogil
    int64_t disk_os_unmap(const uint8_t *address, uint64_t size) nogil
    int64_t disk_os_resident(const uint8_t *address, uint64_t size) nogil
    int64_t disk_os_lock(int fd) nogil
    int64_t disk_os_clock(clockid_t clock, int64_t per_second) nogil
    uint64_t disk_os_random() nogil

cdef extern from "<stdio.h>" nogil:
    int c_rename "rename"(const char *old, const char *new)

cdef extern from "<unistd.h>" nogil:
    int c_close "close"(int fd)
    int c_unlink "unlink"(const char *path)

cdef extern from "<sys/stat.h>" nogil:
    int c_mkdir "mkdir"(const char *path, unsigned int mode)


# -- whole transfers ----------------------------------------------------------------------


cdef int64_t disk_read_all(
    const DiskOps *ops, void *context, int fd, uint8_t *buffer, uint64_t size, uint64_t position
) noexcept nogil:
    cdef uint64_t done = 0
    cdef int64_t got
    while done < size:
        got = ops.pread(context, fd, buffer + done, size - done, position + done)
        if got < 0:
            return got
        if got == 0:
            break
        done += <uint64_t>got
    return <int64_t>done


cdef int64_t disk_write_all(
    const DiskOps *ops,
    void *context,
    int fd,
    const uint8_t *data,
    uint64_t size,
    uint64_t position,
) noexcept nogil:
    cdef iovec part
    part.iov_base = <void *>data
    part.iov_len = size
    return disk_write_parts(ops, context, fd, &part, 1, position)


cdef int64_t disk_write_parts(
    const DiskOps *ops, void *context, int fd, iovec *parts, int count, uint64_t position
) noexcept nogil:
    cdef int64_t written
    while True:
        while count > 0 and parts.iov_len == 0:
            parts += 1
            count -= 1
        if count == 0:
            return 0
        written = ops.pwritev(context, fd, parts, min(count, DISK_PARTS_MAX), position)
        if written <= 0:
            return written if written < 0 else -EIO
        position += <uint64_t>written
        while count > 0 and <uint64_t>written >= parts.iov_len:
            written -= <int64_t>parts.iov_len
            parts += 1
            count -= 1
        if written > 0:
            parts.iov_base = <uint8_t *>parts.iov_base + written
            parts.iov_len -= <uint64_t>written


# -- Python's view of the table -----------------------------------------------------------


cdef class Disk:
    """The operations of a disk. Use ``PosixDisk`` or ``delegated_disk.DelegatedDisk``.

    Every method raises OSError with errno and file name, and releases the GIL.
    """

    def __cinit__(self, *args):
        self._names = {}
        self.directory_lock = threading.Lock()

    cdef int64_t check(self, int64_t value, object name) except -1:
        if value < 0:
            raise OSError(-value, os.strerror(-value), name)
        return value

    cdef object name_of(self, int fd):
        return self._names.get(fd, f"descriptor {fd}")

    def open(self, path, int flags=os.O_RDONLY):
        cdef bytes raw = os.fsencode(path)
        cdef const char *name = raw
        cdef int64_t fd
        with nogil:
            fd = self.ops.open(self.context, name, flags)
        self.check(fd, path)
        self._names[fd] = path
        return fd

    def close(self, int fd):
        cdef int64_t result
        name = self._names.pop(fd, f"descriptor {fd}")
        with nogil:
            result = self.ops.close(self.context, fd)
        self.check(result, name)

    def size(self, int fd):
        cdef int64_t result
        with nogil:
            result = self.ops.size(self.context, fd)
        return self.check(result, self.name_of(fd))

    def pread(self, int fd, uint64_t size, uint64_t position):
        cdef bytes buffer = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
        cdef uint8_t *start = <uint8_t *>PyBytes_AS_STRING(buffer)
        cdef int64_t result
        with nogil:
            result = disk_read_all(&self.ops, self.context, fd, start, size, position)
        self.check(result, self.name_of(fd))
        return buffer if <uint64_t>result == size else buffer[:result]

    def pwrite(self, int fd, data not None, uint64_t position):
        cdef const uint8_t[::1] view = data
        cdef uint64_t size = <uint64_t>view.shape[0]
        cdef const uint8_t *start = &view[0] if size else NULL
        cdef int64_t result
        with nogil:
            result = disk_write_all(&self.ops, self.context, fd, start, size, position)
        self.check(result, self.name_of(fd))

    def sync(self, int fd):
        cdef int64_t result
        with nogil:
            result = self.ops.sync(self.context, fd)
        self.check(result, self.name_of(fd))

    def allocate(self, int fd, uint64_t position, uint64_t size):
        cdef int64_t result
        with nogil:
            result = self.ops.allocate(self.context, fd, position, size)
        self.check(result, self.name_of(fd))

    def truncate(self, int fd, uint64_t size):
        cdef int64_t result
        with nogil:
            result = self.ops.truncate(self.context, fd, size)
        self.check(result, self.name_of(fd))

    def rename(self, old, new):
        cdef bytes raw_old = os.fsencode(old), raw_new = os.fsencode(new)
        cdef const char *name_old = raw_old
        cdef const char *name_new = raw_new
        cdef int64_t result
        with nogil:
            result = self.ops.rename(self.context, name_old, name_new)
        self.check(result, old)

    def unlink(self, path):
        cdef bytes raw = os.fsencode(path)
        cdef const char *name = raw
        cdef int64_t result
        with nogil:
            result = self.ops.unlink(self.context, name)
        self.check(result, path)

    def make_directory(self, path):
        cdef bytes raw = os.fsencode(path)
        cdef const char *name = raw
        cdef int64_t result
        with nogil:
            result = self.ops.make_directory(self.context, name)
        self.check(result, path)

    def sync_directory(self, path, since=None):
        cdef bytes raw = os.fsencode(path)
        cdef const char *name = raw
        cdef int64_t result
        with self.directory_lock:       # or one would believe what another's failure forgot
            with nogil:
                result = self.ops.sync_directory(self.context, name)
            if result < 0:
                self.directory_failures += 1
        self.check(result, path)
        if since is not None and since != self.directory_failures:
            raise OSError(EIO, "another sync of a directory failed meanwhile", path)

    def lock(self, int fd):
        cdef int64_t result
        with nogil:
            result = self.ops.lock(self.context, fd)
        self.check(result, self.name_of(fd))

    def wall_ms(self):
        return self.ops.wall_ms(self.context)

    def monotonic_ns(self):
        return self.ops.monotonic_ns(self.context)

    def random(self):
        return self.ops.random(self.context)

    def list_directory(self, path):
        raise NotImplementedError

    def exists(self, path):
        raise NotImplementedError


# -- the real disk ------------------------------------------------------------------------


cdef int64_t posix_open(void *context, const char *path, int flags) noexcept nogil:
    return disk_os_open(path, flags)


cdef int64_t posix_close(void *context, int fd) noexcept nogil:
    # No retry: after EINTR Linux has closed the descriptor.
    return 0 if c_close(fd) == 0 else -errno


cdef int64_t posix_size(void *context, int fd) noexcept nogil:
    return disk_os_size(fd)


cdef int64_t posix_pread(
    void *context, int fd, void *buffer, uint64_t size, uint64_t position
) noexcept nogil:
    return disk_os_pread(fd, buffer, size, position)


cdef int64_t posix_forget(
    void *context, int fd, uint64_t position, uint64_t size
) noexcept nogil:
    return disk_os_forget(fd, position, size)


cdef int64_t posix_pwritev(
    void *context, int fd, const iovec *parts, int count, uint64_t position
) noexcept nogil:
    return disk_os_pwritev(fd, parts, count, position)


cdef int64_t posix_sync(void *context, int fd) noexcept nogil:
    return disk_os_sync(fd)


cdef int64_t posix_allocate(
    void *context, int fd, uint64_t position, uint64_t size
) noexcept nogil:
    return disk_os_allocate(fd, position, size)


cdef int64_t posix_truncate(void *context, int fd, uint64_t size) noexcept nogil:
    return disk_os_truncate(fd, size)


cdef int64_t posix_rename(void *context, const char *old, const char *new) noexcept nogil:
    return 0 if c_rename(old, new) == 0 else -errno


cdef int64_t posix_unlink(void *context, const char *path) noexcept nogil:
    return 0 if c_unlink(path) == 0 else -errno


cdef int64_t posix_make_directory(void *context, const char *path) noexcept nogil:
    return 0 if c_mkdir(path, 0o755) == 0 else -errno


cdef int64_t posix_sync_directory(void *context, const char *path) noexcept nogil:
    return disk_os_sync_directory(path)


cdef int64_t posix_map(
    void *context, int fd, uint64_t size, const uint8_t **address
) noexcept nogil:
    return disk_os_map(fd, size, address)


cdef int64_t posix_unmap(void *context, const uint8_t *address, uint64_t size) noexcept nogil:
    return disk_os_unmap(address, size)


cdef int64_t posix_resident(
    void *context, const uint8_t *address, uint64_t size
) noexcept nogil:
    return disk_os_resident(address, size)


cdef int64_t posix_lock(void *context, int fd) noexcept nogil:
    return disk_os_lock(fd)


cdef int64_t posix_wall_ms(void *context) noexcept nogil:
    return disk_os_clock(CLOCK_REALTIME, 1000)


cdef int64_t posix_monotonic_ns(void *context) noexcept nogil:
    return disk_os_clock(CLOCK_MONOTONIC, 1000000000)


cdef uint64_t posix_random(void *context) noexcept nogil:
    return disk_os_random()


@cython.final
cdef class PosixDisk(Disk):
    """The operating system's files."""

    def __cinit__(self):
        self.context = NULL
        self.ops = DiskOps(
            posix_open, posix_close, posix_size, posix_pread, posix_forget, posix_pwritev,
            posix_sync, posix_allocate, posix_truncate, posix_rename, posix_unlink,
            posix_make_directory, posix_sync_directory, posix_map, posix_unmap, posix_resident,
            posix_lock, posix_wall_ms, posix_monotonic_ns, posix_random,
        )

    def list_directory(self, path):
        return sorted(os.listdir(path))

    def exists(self, path):
        return os.path.lexists(path)
