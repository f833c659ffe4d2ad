"""Write the files of the log: begin one, give it its name, append frames to it.

Source: docs/format-wal.md, "Life of a file". Nothing here needs the GIL, allocates or decides
when to write; it must never overwrite a page that was synced, and never retries a failed call.
"""
from libc.stdint cimport uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memset
from posix.fcntl cimport O_CREAT, O_RDWR

from .disk cimport disk_write_all, disk_write_parts
from .record cimport RecordHeader
from .wal_format cimport (
    FILE_FLAG_FILLED,
    FRAME_HEADER_SIZE,
    FRAME_MAGIC,
    WAL_PAGE_SIZE,
    WAL_VERSION,
    FrameHeader,
    file_header_seal,
    frame_header_seal,
    frame_span,
    record_seal,
    wal_magic,
)

cdef uint8_t zero_page[WAL_PAGE_SIZE]       # static storage: zeroes


cdef void wal_path(char *path, const char *directory, uint64_t sequence) noexcept nogil:
    snprintf(path, WAL_PATH_SIZE_MAX, "%s/%020llu.wal", directory, <unsigned long long>sequence)


cdef void wal_writer_init(
    WalWriter *writer, const DiskOps *ops, void *context, const char *directory
) noexcept nogil:
    memset(writer, 0, sizeof(WalWriter))
    writer.ops = ops
    writer.context = context
    writer.directory = directory
    writer.fd = -1


cdef inline int64_t failed(WalWriter *writer, int64_t code, const char *what) noexcept nogil:
    writer.failed_at = what
    return code


cdef int64_t wal_begin(
    WalWriter *writer, const WalFileHeader *header, const char *source, bint ready
) noexcept nogil:
    """Open ``source``, which is a whole spare if ``ready``, else made and given its size here."""
    cdef int64_t code = writer.ops.open(writer.context, source, O_RDWR | O_CREAT)
    if code < 0:
        return failed(writer, code, b"opening a new file of the log")
    writer.fd = <int>code
    if not ready:
        code = writer.ops.allocate(writer.context, writer.fd, 0, header.size)
        if code < 0:
            return failed(writer, code, b"allocating a new file of the log")
    writer.header = header[0]
    writer.header.magic = wal_magic()
    writer.header.version = WAL_VERSION
    writer.header.incarnation = writer.ops.random(writer.context)
    if ready:
        writer.header.flags |= FILE_FLAG_FILLED
    writer.position = WAL_PAGE_SIZE
    return 0


cdef int64_t wal_publish(WalWriter *writer, const char *source) noexcept nogil:
    """Write the header, make everything durable, and only then give the file its name."""
    cdef uint8_t page[WAL_PAGE_SIZE]
    cdef char path[WAL_PATH_SIZE_MAX]
    file_header_seal(&writer.header)
    memset(page, 0, WAL_PAGE_SIZE)
    (<WalFileHeader *>page)[0] = writer.header
    cdef int64_t code = disk_write_all(
        writer.ops, writer.context, writer.fd, page, WAL_PAGE_SIZE, 0
    )
    if code < 0:
        return failed(writer, code, b"writing the header of a file of the log")
    code = wal_sync(writer)
    if code < 0:
        return code
    wal_path(path, writer.directory, writer.header.sequence)
    code = writer.ops.rename(writer.context, source, path)
    if code < 0:
        return failed(writer, code, b"renaming a new file of the log")
    code = writer.ops.sync_directory(writer.context, writer.directory)
    if code < 0:
        return failed(writer, code, b"syncing the directory of the log")
    return 0


cdef bint wal_fits(const WalWriter *writer, uint64_t records_size) noexcept nogil:
    """Whether a frame fits in front of the page that is kept for the LINK frame."""
    cdef uint64_t limit = writer.header.size - WAL_PAGE_SIZE
    return writer.position <= limit and frame_span(records_size) <= limit - writer.position


cdef void wal_seal_records(const FrameContent *content) noexcept nogil:
    """Fill in the checksums of the records, which lie whole in the frame's parts."""
    cdef uint8_t *record
    cdef uint8_t *end
    cdef int i
    for i in range(1, content.part_count + 1):
        record = <uint8_t *>content.parts[i].iov_base
        end = record + content.parts[i].iov_len
        while record < end:
            record_seal(<RecordHeader *>record)
            record += (<RecordHeader *>record).size


cdef int64_t wal_write_frame(WalWriter *writer, FrameContent *content) noexcept nogil:
    """Write one frame at the position, which moves behind it. Not durable before wal_sync."""
    cdef FrameHeader header
    memset(&header, 0, sizeof(header))
    header.magic = FRAME_MAGIC
    header.version = WAL_VERSION
    header.flags = content.flags
    header.incarnation = writer.header.incarnation
    header.first_lsn = content.first_lsn
    header.watermark = content.watermark
    header.size = <uint32_t>content.size
    header.record_count = <uint32_t>content.record_count
    header.successor_sequence = content.successor_sequence
    header.successor_incarnation = content.successor_incarnation
    frame_header_seal(&header, writer.position)
    cdef uint64_t span = frame_span(content.size)
    content.parts[0].iov_base = &header
    content.parts[0].iov_len = FRAME_HEADER_SIZE
    content.parts[content.part_count + 1].iov_base = zero_page
    content.parts[content.part_count + 1].iov_len = span - FRAME_HEADER_SIZE - content.size
    cdef int64_t code = disk_write_parts(
        writer.ops, writer.context, writer.fd, content.parts, content.part_count + 2,
        writer.position,
    )
    if code < 0:
        return failed(writer, code, b"writing the log")
    writer.position += span
    return 0


cdef int64_t wal_sync(WalWriter *writer) noexcept nogil:
    cdef int64_t code = writer.ops.sync(writer.context, writer.fd)
    writer.sync_count += 1
    if code < 0:
        return failed(writer, code, b"syncing the log")
    return 0


cdef void wal_close(WalWriter *writer) noexcept nogil:
    if writer.fd >= 0:
        writer.ops.close(writer.context, writer.fd)
    writer.fd = -1
