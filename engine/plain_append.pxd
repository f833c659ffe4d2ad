# Appends of data alone, decided and logged without a Python object each: see plain_append.pyx.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from .._native.log cimport Log
from .entry cimport Entry
from .projection cimport Projection


cdef enum:
    PLAIN_META_SIZE_MAX = 15        # bytes


cdef struct PlainMeta:
    uint8_t bytes[PLAIN_META_SIZE_MAX]
    uint64_t size


cdef PlainMeta plain_meta(int64_t accessed_at) noexcept nogil
cdef uint64_t log_plain_append(
    Log log,
    Projection projection,
    Entry entry,
    const void *data,
    uint64_t size,
    object message_sizes,           # array of uint32, or None: one message
    int64_t now_ms,
) except 0
