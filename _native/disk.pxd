# The disk seam: every operation on files of the store, as one table of C functions.
#
# Nothing in _native calls the operating system for files, clock or randomness except through
# this table, so that a simulator can stand in for all of it.
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef enum:
    DISK_PARTS_MAX = 1024           # parts of one pwritev (IOV_MAX of Linux and macOS)


# Each takes the table's context first and returns a value >= 0, or -errno. Sizes and positions
# are bytes; a path ends in NUL. pread and pwritev may transfer less than asked for; everything
# is retried on EINTR inside.
cdef struct DiskOps:
    int64_t (*open)(void *context, const char *path, int flags) noexcept nogil
    int64_t (*close)(void *context, int fd) noexcept nogil
    int64_t (*size)(void *context, int fd) noexcept nogil
    int64_t (*pread)(
        void *context, int fd, void *buffer, uint64_t size, uint64_t position
    ) noexcept nogil
    # Let a range of an immutable file go from the page cache, so that the next read comes from
    # the medium. Advice: mapped pages that are in use stay.
    int64_t (*forget)(
        void *context, int fd, uint64_t position, uint64_t size
    ) noexcept nogil
    int64_t (*pwritev)(
        void *context, int fd, const iovec *parts, int count, uint64_t position
    ) noexcept nogil
    int64_t (*sync)(void *context, int fd) noexcept nogil
    int64_t (*allocate)(void *context, int fd, uint64_t position, uint64_t size) noexcept nogil
    int64_t (*truncate)(void *context, int fd, uint64_t size) noexcept nogil
    int64_t (*rename)(void *context, const char *old, const char *new) noexcept nogil
    int64_t (*unlink)(void *context, const char *path) noexcept nogil
    int64_t (*make_directory)(void *context, const char *path) noexcept nogil
    int64_t (*sync_directory)(void *context, const char *path) noexcept nogil
    # A read-only view of the first ``size`` bytes, size > 0; valid until unmapped, even when
    # the descriptor is closed or the file unlinked.
    int64_t (*map)(
        void *context, int fd, uint64_t size, const uint8_t **address
    ) noexcept nogil
    int64_t (*unmap)(void *context, const uint8_t *address, uint64_t size) noexcept nogil
    # 1 if no byte of a mapped range needs the medium at this moment, else 0.
    int64_t (*resident)(
        void *context, const uint8_t *address, uint64_t size
    ) noexcept nogil
    int64_t (*lock)(void *context, int fd) noexcept nogil       # -EWOULDBLOCK if held elsewhere
    int64_t (*wall_ms)(void *context) noexcept nogil
    int64_t (*monotonic_ns)(void *context) noexcept nogil
    uint64_t (*random)(void *context) noexcept nogil            # cannot fail


cdef class Disk:
    cdef DiskOps ops
    cdef void *context
    cdef dict _names                # descriptor -> path, for error messages
    cdef public object directory_lock               # of whoever syncs a directory
    cdef readonly uint64_t directory_failures       # syncs of directories that failed

    cdef int64_t check(self, int64_t value, object name) except -1
    cdef object name_of(self, int fd)


@cython.final
cdef class PosixDisk(Disk):
    pass


# Whole transfers over the table. Both return 0 or -errno; a write that stops making progress is
# -EIO. ``disk_read_all`` returns how many bytes there were: fewer than ``size`` at the file's end.
cdef int64_t disk_read_all(
    const DiskOps *ops, void *context, int fd, uint8_t *buffer, uint64_t size, uint64_t position
) noexcept nogil
cdef int64_t disk_write_all(
    const DiskOps *ops,
    void *context,
    int fd,
    const uint8_t *data,
    uint64_t size,
    uint64_t position,
) noexcept nogil
# Changes ``parts`` while it goes on after a short write.
cdef int64_t disk_write_parts(
    const DiskOps *ops, void *context, int fd, iovec *parts, int count, uint64_t position
) noexcept nogil
