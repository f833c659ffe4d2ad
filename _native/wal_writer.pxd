# Writing one file of the log, without the GIL: docs/format-wal.md.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .disk cimport DiskOps, iovec
from .wal_format cimport WAL_STORE_ID_SIZE, WalFileHeader

cdef enum:
    WAL_PATH_SIZE_MAX = 4096        # bytes, the terminating NUL included
    FRAME_PARTS_MAX = 62            # pieces of memory that one frame may gather


# One file that is being written. Not thread-safe: the committer's, or recovery's before it.
cdef struct WalWriter:
    const DiskOps *ops
    void *context
    const char *directory           # borrowed
    int fd                          # -1: no file
    WalFileHeader header
    uint64_t position               # where the next frame goes
    uint64_t sync_count
    const char *failed_at           # the operation that failed, for messages


cdef struct FrameContent:
    uint16_t flags
    uint64_t first_lsn
    uint64_t watermark
    uint64_t size                   # bytes of the records
    uint64_t record_count
    uint64_t successor_sequence
    uint64_t successor_incarnation
    iovec parts[FRAME_PARTS_MAX + 2]    # [1 .. part_count]: the records; the rest is the writer's
    int part_count


cdef void wal_writer_init(
    WalWriter *writer, const DiskOps *ops, void *context, const char *directory
) noexcept nogil

# All return 0 or -errno, and then ``failed_at`` says what failed.
#
# A file is begun under a temporary name, may get frames, and gets its own name when all of that
# is durable. ``header`` comes without incarnation and checksum.
cdef int64_t wal_begin(
    WalWriter *writer, const WalFileHeader *header, const char *source, bint ready
) noexcept nogil
cdef int64_t wal_publish(WalWriter *writer, const char *source) noexcept nogil

cdef bint wal_fits(const WalWriter *writer, uint64_t records_size) noexcept nogil
cdef int64_t wal_write_frame(WalWriter *writer, FrameContent *content) noexcept nogil
cdef int64_t wal_sync(WalWriter *writer) noexcept nogil
cdef void wal_close(WalWriter *writer) noexcept nogil
cdef void wal_path(char *path, const char *directory, uint64_t sequence) noexcept nogil
cdef void wal_seal_records(const FrameContent *content) noexcept nogil
