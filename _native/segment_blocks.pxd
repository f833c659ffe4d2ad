# Nothing of an extent is used before the block that holds it was verified, once a process.
from libc.stdint cimport uint64_t

from .mapped_file cimport MappedFile
from .segment_format cimport ExtentLayout, SegmentEntry
from .segment_index cimport Finding

cdef enum LoadStatus:
    LOADED = 0
    NOT_LOADED = 1                      # a block would have to be read first
    DAMAGED = 2                         # or unreadable: see the finding

cdef enum BlockKind:
    DATA_BLOCK = 0
    ENDS_BLOCK = 1

cdef enum:
    # Two bits, one of each kind, stand for a cell of the file. An extent with data is at least
    # this large, so no two blocks of a kind start in the same cell.
    CELL_SIZE = 128


cdef struct ExtentRef:
    const SegmentEntry *entry
    ExtentLayout parts
    const uint64_t *ends                # in the mapping
    uint64_t *verified                  # the segment's bits
    uint64_t seed
    bint load                           # verify what was not; otherwise return NOT_LOADED
    Finding finding


# Verified ends in one piece: ``first`` is where the first of their messages starts.
cdef struct Window:
    const uint64_t *ends
    uint64_t count
    uint64_t first


cdef LoadStatus blocks_require(
    MappedFile file, ExtentRef *extent, BlockKind kind, uint64_t start, uint64_t end
) noexcept nogil
cdef LoadStatus blocks_window(
    MappedFile file,
    ExtentRef *extent,
    uint64_t start,
    uint64_t stop,
    bint whole_append,
    Window *window,
) noexcept nogil
cdef LoadStatus blocks_message_end(
    MappedFile file, ExtentRef *extent, uint64_t start, uint64_t message_count, uint64_t *end
) noexcept nogil
# The check of a whole extent, block by block. ``number`` counts data blocks, then ends blocks,
# then the rest in one; False in ``more`` after the last.
cdef bint blocks_check(
    MappedFile file, ExtentRef *extent, uint64_t number, bint *more
) noexcept nogil
