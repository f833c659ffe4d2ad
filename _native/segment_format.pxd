# Layout of a segment, shared by its writer and its reader: docs/format-segment.md.
#
# header page | extents | index (one entry an extent) | footer. All integers little-endian, every
# part starts on a multiple of 8 bytes; padding is zero.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from .checksum cimport xxh64_of

cdef extern from *:
    """
    #define SEGMENT_HEADER_MAGIC 0x544E454D47455344ULL  /* "DSEGMENT" */
    #define SEGMENT_FOOTER_MAGIC 0x544F4F4647455344ULL  /* "DSEGFOOT" */
    """
    const uint64_t SEGMENT_HEADER_MAGIC
    const uint64_t SEGMENT_FOOTER_MAGIC

cdef enum:
    SEGMENT_VERSION = 1
    SEGMENT_HEADER_SIZE = 4096          # bytes, as all sizes here
    SEGMENT_ENTRY_SIZE = 96
    SEGMENT_FOOTER_SIZE = 128
    SEGMENT_BLOCK_SIZE = 64 * 1024      # what one checksum covers
    SEGMENT_BLOCK_ENDS = SEGMENT_BLOCK_SIZE // 8


cdef packed struct SegmentHeader:       # the rest of its page is zero
    uint64_t magic
    uint32_t version
    uint32_t level
    uint8_t store_id[16]
    uint64_t number
    uint64_t after_lsn                  # holds what records in (after_lsn, upto_lsn] changed
    uint64_t upto_lsn
    uint64_t created_ms
    uint8_t reserved[4024]              # zero
    uint64_t checksum                   # XXH64 of bytes 0..4087; seed of all other checksums


cdef packed struct SegmentEntry:        # stands before each extent, and again in the index
    uint64_t stream_id
    uint64_t base                       # position in the stream of the first byte
    uint64_t end                        # and behind the last; equal to base if there are none
    uint64_t position                   # bytes from the start of the file, of the extent
    uint64_t message_count
    uint32_t row_size                   # 0: no row
    uint32_t flags                      # zero
    uint64_t row_checksum               # XXH64 of the row, without padding
    uint64_t reserved[4]                # zero
    uint64_t checksum                   # XXH64 of bytes 0..87


cdef packed struct SegmentFooter:
    uint64_t magic
    uint32_t version
    uint32_t flags                      # zero
    uint64_t header_checksum            # the header's, so that neither can be exchanged
    uint64_t index_position
    uint64_t extent_count
    uint64_t data_size                  # wire bytes of all extents
    uint64_t message_count
    uint64_t file_size
    uint64_t reserved[7]                # zero
    uint64_t checksum                   # XXH64 of bytes 0..119


# Where the parts of an extent lie. Nothing of it is stored: it follows from the entry.
cdef struct ExtentLayout:
    uint64_t data                       # the wire bytes, padded to 8
    uint64_t data_size                  # without padding
    uint64_t data_checksums             # u64 for each block of the padded wire bytes
    uint64_t ends                       # u64 a message: the offset index
    uint64_t ends_size
    uint64_t ends_checksums             # u64 for each block of the ends
    uint64_t row                        # padded to 8
    uint64_t next                       # the first byte behind the extent


cdef inline uint64_t padded_size(uint64_t size) noexcept nogil:
    return (size + 7) & ~<uint64_t>7


cdef inline uint64_t block_count(uint64_t size) noexcept nogil:
    return (size + SEGMENT_BLOCK_SIZE - 1) // SEGMENT_BLOCK_SIZE


cdef inline uint64_t block_size(uint64_t size, uint64_t number) noexcept nogil:
    """Size of block ``number`` of a part of ``size`` bytes: only the last may be short."""
    cdef uint64_t rest = size - number * SEGMENT_BLOCK_SIZE
    return rest if rest < SEGMENT_BLOCK_SIZE else SEGMENT_BLOCK_SIZE


cdef inline ExtentLayout extent_layout(const SegmentEntry *entry) noexcept nogil:
    """The entry's numbers must have been validated, or sums could overflow."""
    cdef ExtentLayout parts
    parts.data = entry.position + SEGMENT_ENTRY_SIZE
    parts.data_size = entry.end - entry.base
    parts.data_checksums = parts.data + padded_size(parts.data_size)
    parts.ends = parts.data_checksums + 8 * block_count(padded_size(parts.data_size))
    parts.ends_size = 8 * entry.message_count
    parts.ends_checksums = parts.ends + parts.ends_size
    parts.row = parts.ends_checksums + 8 * block_count(parts.ends_size)
    parts.next = parts.row + padded_size(entry.row_size)
    return parts


cdef inline uint64_t block_checksum(
    const uint8_t *block, uint64_t size, uint64_t seed, uint64_t position
) noexcept nogil:
    """Seeded by the segment and by the place in it: a block that strayed is not valid."""
    return xxh64_of(block, size, seed + position)


cdef inline uint64_t header_checksum(const SegmentHeader *header) noexcept nogil:
    return xxh64_of(<const uint8_t *>header, SEGMENT_HEADER_SIZE - 8, 0)


cdef inline uint64_t entry_checksum(const SegmentEntry *entry, uint64_t seed) noexcept nogil:
    return xxh64_of(<const uint8_t *>entry, SEGMENT_ENTRY_SIZE - 8, seed)


cdef inline uint64_t footer_checksum(const SegmentFooter *footer) noexcept nogil:
    return xxh64_of(<const uint8_t *>footer, SEGMENT_FOOTER_SIZE - 8, 0)
