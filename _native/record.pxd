# Layout of one log record, as staged in a slab and as written to the log: docs/format-wal.md.
#
# A record starts and ends on a multiple of 8 bytes. Behind its header follow, each padded with
# zeroes to a multiple of 8: the message sizes (u32 each, only if RECORD_FLAG_SIZES), the
# metadata, the data.
cimport cython
from cpython.buffer cimport Py_buffer
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    RECORD_HEADER_SIZE = 64         # bytes
    RECORD_FLAG_SIZES = 1           # message sizes are stored; without it the data is one message


cdef packed struct RecordHeader:
    uint64_t header_checksum        # XXH64 of bytes 8..63
    uint64_t lsn
    uint64_t stream_id
    uint64_t base                   # position of the first data byte in the stream
    uint32_t size                   # bytes of the whole record, a multiple of 8
    uint32_t data_size              # bytes
    uint32_t meta_size              # bytes
    uint32_t message_count          # 0 if data_size is 0
    uint8_t kind                    # engine's to interpret; 0 is illegal
    uint8_t flags                   # unknown bits are illegal
    uint16_t reserved               # zero
    uint32_t reserved2              # zero
    uint64_t body_checksum          # XXH64 of bytes 64..size-1


cdef struct RecordRef:
    const RecordHeader *header
    const uint32_t *sizes           # message sizes, NULL without RECORD_FLAG_SIZES
    const uint8_t *meta
    const uint8_t *data


cdef inline uint64_t padded(uint64_t size) noexcept nogil:
    return (size + 7) & ~<uint64_t>7


cdef inline void copy_padded(uint8_t *target, const void *source, uint64_t size) noexcept:
    """Copy, and fill up to a multiple of 8 with zeroes."""
    if size == 0:
        return
    (<uint64_t *>(target + padded(size) - 8))[0] = 0
    memcpy(target, source, size)


cdef inline RecordRef record_ref(const uint8_t *record) noexcept nogil:
    """The parts of a record whose header was validated."""
    cdef RecordRef ref
    cdef const uint8_t *cursor = record + RECORD_HEADER_SIZE
    ref.header = <const RecordHeader *>record
    ref.sizes = NULL
    if ref.header.flags & RECORD_FLAG_SIZES:
        ref.sizes = <const uint32_t *>cursor
        cursor += padded(4 * <uint64_t>ref.header.message_count)
    ref.meta = cursor
    ref.data = cursor + padded(ref.header.meta_size)
    return ref


@cython.final
cdef class RecordBatch:
    """Records picked from slabs, which it keeps alive. ``refs`` is in LSN order."""
    cdef RecordRef *refs
    cdef readonly Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef list owners                # the objects whose memory ``refs`` point into

    cdef int push(self, const uint8_t *record) except -1


cdef int check_sizes(const Py_buffer *sizes, uint64_t data_size) except -1
