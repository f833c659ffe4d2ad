# The index of an open segment: checked when opened, then searched in the mapping.
from libc.stdint cimport int64_t, uint8_t, uint64_t

from .mapped_file cimport MappedFile
from .segment_format cimport SegmentEntry, SegmentFooter, SegmentHeader


# What is wrong, and where. Nothing is if ``what`` is NULL.
cdef struct Finding:
    const char *what
    uint64_t position                   # bytes from the start of the file
    int64_t error                       # -errno if it could not be read, else 0


cdef struct SegmentIndex:
    const SegmentEntry *entries         # in the mapping, sorted by (stream id, base)
    uint64_t count
    uint64_t seed                       # of the segment's checksums
    SegmentHeader header
    SegmentFooter footer


# True if header, footer and index are as written; otherwise ``finding`` says what is not.
cdef bint index_open(
    MappedFile file,
    const uint8_t *store_id,
    uint64_t number,
    SegmentIndex *index,
    Finding *finding,
) noexcept nogil


cdef inline bint report(Finding *finding, const char *what, uint64_t position) noexcept nogil:
    finding.what, finding.position, finding.error = what, position, 0
    return False


cdef inline uint64_t index_search(
    const SegmentIndex *index, uint64_t stream_id, uint64_t base
) noexcept nogil:
    """How many entries sort before (stream_id, base)."""
    cdef uint64_t low = 0, high = index.count, middle
    cdef const SegmentEntry *entry
    while low < high:
        middle = low + (high - low) // 2
        entry = index.entries + middle
        if entry.stream_id < stream_id or (
            entry.stream_id == stream_id and entry.base < base
        ):
            low = middle + 1
        else:
            high = middle
    return low
