# Layout of the files of the write-ahead log: docs/format-wal.md.
#
# A file is one header page and then frames, each on a page of its own. All integers are
# little-endian. The functions here seal and check headers; what an illegal one means is for the
# reader to judge.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from .checksum cimport xxh64_of
from .record cimport RECORD_FLAG_SIZES, RECORD_HEADER_SIZE, RecordHeader, padded

cdef enum:
    WAL_VERSION = 1
    WAL_PAGE_SIZE = 4096            # bytes: of the header, and every frame starts on a multiple
    WAL_SEALED_SIZE = 128           # bytes of the file header that carry fields
    WAL_STORE_ID_SIZE = 16          # bytes
    FRAME_HEADER_SIZE = 64          # bytes
    FRAME_MAGIC = 0x4d465344        # "DSFM"
    FRAME_FLAG_LINK = 1             # no records: names the successor, ends the file
    FRAME_FLAG_WATERMARK = 2        # no records: only proves what came before
    FILE_FLAG_FILLED = 1            # every block was written before: syncs journal nothing
    FILE_KIND_ROLL = 1              # the predecessor's LINK frame names this file
    FILE_KIND_RECOVERY = 2          # this file names the place where it replaces its predecessor


cdef inline uint64_t wal_magic() noexcept nogil:
    return <uint64_t>0x4c41574d52545344         # "DSTRMWAL"


cdef packed struct WalFileHeader:
    uint64_t magic
    uint32_t version
    uint16_t kind
    uint16_t flags
    uint8_t store_id[WAL_STORE_ID_SIZE]
    uint64_t sequence               # also the file's name
    uint64_t incarnation            # random; every frame of this use of the file carries it
    uint64_t size                   # bytes of the file
    uint64_t predecessor_sequence   # 0: none
    uint64_t predecessor_incarnation
    uint64_t predecessor_cut        # recovery: the predecessor's frames from here on are void
    uint64_t base_lsn               # of the last record before this file
    uint64_t first_lsn              # the first frame's first LSN must be this
    uint64_t kept_lsn               # of the last record rewritten here; base_lsn if none was
    uint64_t kept_end               # where the rewritten frames end; one page if there are none
    uint64_t resume_lsn             # the first LSN at or behind kept_end
    uint64_t checksum               # XXH64 of bytes 0..119


cdef packed struct FrameHeader:
    uint32_t magic
    uint16_t version
    uint16_t flags
    uint64_t incarnation            # the file's
    uint64_t first_lsn              # of the first record, or of the next one if there is none
    uint64_t watermark              # highest LSN known to be durable when this was written
    uint32_t size                   # bytes of the records, without header and padding
    uint32_t record_count
    uint64_t successor_sequence     # LINK only
    uint64_t successor_incarnation  # LINK only
    uint64_t checksum               # XXH64 of bytes 0..55, the frame's position as seed


cdef inline uint64_t paged(uint64_t size) noexcept nogil:
    return (size + WAL_PAGE_SIZE - 1) & ~<uint64_t>(WAL_PAGE_SIZE - 1)


cdef inline uint64_t frame_span(uint64_t records_size) noexcept nogil:
    """Bytes of the file that a frame with so many bytes of records occupies."""
    return paged(FRAME_HEADER_SIZE + records_size)


cdef inline void file_header_seal(WalFileHeader *header) noexcept nogil:
    header.checksum = xxh64_of(<const uint8_t *>header, WAL_SEALED_SIZE - 8, 0)


cdef inline void frame_header_seal(FrameHeader *header, uint64_t position) noexcept nogil:
    header.checksum = xxh64_of(<const uint8_t *>header, FRAME_HEADER_SIZE - 8, position)


cdef inline bint frame_header_valid(
    const FrameHeader *header, uint64_t position, uint64_t incarnation
) noexcept nogil:
    """Whether this is a frame header of this use of the file, unharmed, at its own place."""
    if header.magic != FRAME_MAGIC or header.incarnation != incarnation:
        return False
    return header.checksum == xxh64_of(
        <const uint8_t *>header, FRAME_HEADER_SIZE - 8, position
    )


cdef inline bint frame_shape_valid(
    const FrameHeader *header, uint64_t position, uint64_t file_size
) noexcept nogil:
    """Whether the fields of a header that is valid make sense together."""
    if header.version != WAL_VERSION or frame_span(header.size) > file_size - position:
        return False
    if header.flags == 0:
        return header.record_count > 0 and header.size >= RECORD_HEADER_SIZE
    if header.flags != FRAME_FLAG_LINK and header.flags != FRAME_FLAG_WATERMARK:
        return False
    return header.record_count == 0 and header.size == 0


cdef inline void record_seal(RecordHeader *header) noexcept nogil:
    """Fill in both checksums; everything else must be there."""
    cdef const uint8_t *record = <const uint8_t *>header
    header.body_checksum = xxh64_of(
        record + RECORD_HEADER_SIZE, header.size - RECORD_HEADER_SIZE, 0
    )
    header.header_checksum = xxh64_of(record + 8, RECORD_HEADER_SIZE - 8, 0)


cdef inline bint record_body_valid(const RecordHeader *header) noexcept nogil:
    cdef const uint8_t *record = <const uint8_t *>header
    return header.body_checksum == xxh64_of(
        record + RECORD_HEADER_SIZE, header.size - RECORD_HEADER_SIZE, 0
    )


cdef inline bint record_header_valid(
    const RecordHeader *header, uint64_t available, uint64_t lsn
) noexcept nogil:
    """Whether a record header is unharmed, the expected one, and its parts add up.

    ``available`` is what is left of the frame's records, in bytes.
    """
    cdef const uint8_t *record = <const uint8_t *>header
    cdef uint64_t parts = RECORD_HEADER_SIZE
    if available < RECORD_HEADER_SIZE:
        return False
    if header.header_checksum != xxh64_of(record + 8, RECORD_HEADER_SIZE - 8, 0):
        return False
    if header.lsn != lsn or header.kind == 0 or header.flags & ~RECORD_FLAG_SIZES:
        return False
    if header.reserved != 0 or header.reserved2 != 0:
        return False
    if header.flags & RECORD_FLAG_SIZES:
        parts += padded(4 * <uint64_t>header.message_count)
    elif header.message_count != (1 if header.data_size else 0):
        return False
    parts += padded(header.meta_size) + padded(header.data_size)
    return header.size == parts and parts <= available
