# A segment read from front to back: its bytes through a window, each block verified as it passes.
from libc.stdint cimport int64_t, uint8_t, uint64_t

from .disk cimport DiskOps
from .segment_index cimport Finding, SegmentIndex

cdef enum:
    WINDOW_SIZE = 256 * 1024            # bytes read at once
    SUMS_SIZE = 4096                    # of checksums, which lie behind all of their part


# What a segment is read through without the GIL. It refers to nothing: its owner keeps the
# segment open.
cdef struct Input:
    const SegmentIndex *index
    const DiskOps *ops
    void *context
    int fd
    uint64_t file_size
    uint8_t *window                     # WINDOW_SIZE bytes
    uint64_t position                   # of the window in the file
    uint64_t filled
    uint8_t[4096] sums
    uint64_t sums_position
    uint64_t sums_filled
    uint64_t next                       # the entry that a walk along the index comes to next


# Of open segments, which the caller keeps; given back by ``free_inputs``.
cdef Input *open_inputs(list segments) except NULL
cdef void free_inputs(Input *inputs, Py_ssize_t count) noexcept
# 0, or -errno; a range that is not all there is -EIO.
cdef int64_t input_load(
    Input *source, void *target, uint64_t size, uint64_t position
) noexcept nogil
# Load the block of a part that holds byte ``at`` of it, and verify it. False, and the finding
# says why, if it is damaged or unreadable.
cdef bint input_block(
    Input *source,
    uint64_t part,
    uint64_t part_size,
    uint64_t checksums,
    uint64_t at,
    uint8_t *block,
    Finding *finding,
) noexcept nogil
