"""Log an append of data alone: no producer, no Stream-Seq, no close, of an open stream.

Nearly all appends are such. ``Entry.is_plain`` says that nothing of the stream's stands against
one, so what ``protocol.append`` would decide is known: the tail moves by the size of the data, and
it counts as an access (sections 4.2 and 13). The caller holds the store's lock, and has made sure
that the payload fits the stream's content type. This must leave the very states and the very
record that the long way makes (tests/unit/test_plain_append.py compares them).
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memcpy

from ..protocol.errors import TooLarge
from ..protocol.offset import POSITION_MAX as _POSITION_MAX

cdef uint64_t TAIL_MAX = _POSITION_MAX

cdef enum:
    KIND_APPEND = 2                 # records.Kind.APPEND

RECORD_KIND = KIND_APPEND


def append_plain(
    Log log not None,
    Projection projection not None,
    Entry entry not None,
    data,
    message_sizes,
    int64_t now_ms,
):
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return log_plain_append(
            log, projection, entry, view.buf, <uint64_t>view.len, message_sizes, now_ms
        )
    finally:
        PyBuffer_Release(&view)


cdef uint64_t log_plain_append(
    Log log,
    Projection projection,
    Entry entry,
    const void *data,
    uint64_t size,
    object message_sizes,
    int64_t now_ms,
) except 0:
    cdef uint64_t base = entry.reserved_position.tail
    cdef uint64_t tail = base + size
    cdef int64_t accessed_at = max(now_ms, entry.reserved_position.accessed_at)
    cdef PlainMeta meta = plain_meta(accessed_at)
    if tail > TAIL_MAX:
        raise TooLarge(f"{entry.origin.path}: full; offsets end at {TAIL_MAX} bytes")
    projection.reserve()
    cdef uint64_t lsn = log.stage_data(
        KIND_APPEND, entry.stream_id, base, meta.bytes, meta.size,
        data, size, message_sizes, entry.tail,
    )
    # Nothing can fail any more: from here on the record is there.
    entry.move_reserved(tail, accessed_at, lsn)
    projection.push_append(lsn, entry, tail, accessed_at)
    return lsn


def encoded_meta(int64_t accessed_at):
    cdef PlainMeta meta = plain_meta(accessed_at)
    return <bytes>meta.bytes[:meta.size]


cdef PlainMeta plain_meta(int64_t accessed_at) noexcept nogil:
    """``AppendMeta(accessed_at)`` as MessagePack: an array of six, all others defaults."""
    cdef PlainMeta meta
    cdef uint64_t number = <uint64_t>accessed_at
    cdef int i, width = number_width(number)
    cdef uint8_t *at = meta.bytes
    at[0] = 0x96
    at += 1
    if width > 0:
        at[0] = 0xcf if width == 8 else 0xce if width == 4 else 0xcd if width == 2 else 0xcc
        for i in range(width):
            at[1 + i] = <uint8_t>(number >> (8 * (width - 1 - i)))
    else:
        at[0] = <uint8_t>number
    at += 1 + width
    memcpy(at, b"\xc2\xc0\xc0\x00\x00", 5)     # false, nil, nil, 0, 0
    meta.size = <uint64_t>(at + 5 - meta.bytes)
    return meta


cdef inline int number_width(uint64_t number) noexcept nogil:
    """Bytes behind its type byte; 0 if the number is its own."""
    if number < 128:
        return 0
    if number < 256:
        return 1
    if number < 65536:
        return 2
    return 4 if number <= 0xffffffffULL else 8
