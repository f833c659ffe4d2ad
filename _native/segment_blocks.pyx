"""Verify the blocks of an extent before their first use, and search its offset index.

Source: docs/format-segment.md, "Reading". A block is read through the disk seam, so that a
medium's error is an errno and the page is resident afterwards; then it is hashed, and a bit
says that the mapping may be used. Without the GIL, by any number of threads: two may verify
the same block, which costs time only. Damage of one block does not concern the others.
"""
from libc.errno cimport ENOMEM
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp

from .checksum cimport xxh64_of
from .ends cimport end_of_append, end_position, ends_search
from .segment_format cimport (
    SEGMENT_BLOCK_ENDS,
    SEGMENT_BLOCK_SIZE,
    SEGMENT_ENTRY_SIZE,
    block_checksum,
    block_count,
    block_size,
    padded_size,
)
from .segment_index cimport report

cdef extern from *:
    """
    static inline int bits_get(const uint64_t *bits, uint64_t n) {
        return (int)(__atomic_load_n(bits + n / 64, __ATOMIC_RELAXED) >> (n % 64)) & 1;
    }
    static inline void bits_set(uint64_t *bits, uint64_t n) {
        __atomic_fetch_or(bits + n / 64, (uint64_t)1 << (n % 64), __ATOMIC_RELAXED);
    }
    static inline void bits_clear(uint64_t *bits, uint64_t n) {
        __atomic_fetch_and(bits + n / 64, ~((uint64_t)1 << (n % 64)), __ATOMIC_RELAXED);
    }
    """
    bint bits_get(const uint64_t *bits, uint64_t number) nogil
    void bits_set(uint64_t *bits, uint64_t number) nogil
    void bits_clear(uint64_t *bits, uint64_t number) nogil


# -- blocks --------------------------------------------------------------------------------


cdef struct Part:
    uint64_t position
    uint64_t size
    uint64_t checksums
    const char *what


cdef inline Part part_of(const ExtentRef *extent, BlockKind kind) noexcept nogil:
    cdef Part part
    if kind == DATA_BLOCK:
        part.position, part.size = extent.parts.data, padded_size(extent.parts.data_size)
        part.checksums, part.what = extent.parts.data_checksums, b"wire bytes: checksum mismatch"
    else:
        part.position, part.size = extent.parts.ends, extent.parts.ends_size
        part.checksums, part.what = extent.parts.ends_checksums, b"ends: checksum mismatch"
    return part


cdef inline uint64_t bit_of(uint64_t position, BlockKind kind) noexcept nogil:
    return 2 * (position // CELL_SIZE) + <uint64_t>kind


cdef LoadStatus unreadable(ExtentRef *extent, uint64_t position, int64_t error) noexcept nogil:
    report(&extent.finding, b"unreadable", position)
    extent.finding.error = error
    return DAMAGED


cdef LoadStatus verify_block(
    MappedFile file, ExtentRef *extent, BlockKind kind, uint64_t number, uint8_t *scratch
) noexcept nogil:
    """``scratch`` holds a block."""
    cdef Part part = part_of(extent, kind)
    cdef uint64_t position = part.position + number * SEGMENT_BLOCK_SIZE
    cdef uint64_t size = block_size(part.size, number), checksum
    cdef int64_t error = file.load(
        <uint8_t *>&checksum, sizeof(checksum), part.checksums + 8 * number
    )
    if error == 0:
        error = file.load(scratch, size, position)
    if error < 0:
        return unreadable(extent, position, error)
    if block_checksum(scratch, size, extent.seed, position) != checksum:
        bits_clear(extent.verified, bit_of(position, kind))
        report(&extent.finding, part.what, position)
        return DAMAGED
    bits_set(extent.verified, bit_of(position, kind))
    return LOADED


cdef LoadStatus blocks_require(
    MappedFile file, ExtentRef *extent, BlockKind kind, uint64_t start, uint64_t end
) noexcept nogil:
    """Have bytes [start, end) of a part verified; counted from the part's first byte."""
    cdef uint64_t position = part_of(extent, kind).position
    cdef uint64_t number = start // SEGMENT_BLOCK_SIZE, behind = block_count(end)
    cdef uint8_t *scratch = NULL
    cdef LoadStatus status = LOADED
    while number < behind and start < end and status == LOADED:
        if not bits_get(extent.verified, bit_of(position + number * SEGMENT_BLOCK_SIZE, kind)):
            if not extent.load:
                return NOT_LOADED
            if scratch == NULL:
                scratch = <uint8_t *>malloc(SEGMENT_BLOCK_SIZE)
            if scratch == NULL:
                return unreadable(extent, position, -ENOMEM)
            status = verify_block(file, extent, kind, number, scratch)
        number += 1
    free(scratch)
    return status


# -- the offset index ----------------------------------------------------------------------


cdef inline LoadStatus require_ends(
    MappedFile file, ExtentRef *extent, uint64_t start, uint64_t end
) noexcept nogil:
    return blocks_require(file, extent, ENDS_BLOCK, 8 * start, 8 * end)


cdef inline uint64_t last_end(const ExtentRef *extent, uint64_t block) noexcept nogil:
    """Index of the last end in a block of ends."""
    return min((block + 1) * SEGMENT_BLOCK_ENDS, extent.entry.message_count) - 1


cdef LoadStatus search_blocks(
    MappedFile file, ExtentRef *extent, uint64_t position, uint64_t *found
) noexcept nogil:
    """The block that holds the first end at or behind ``position``, by the blocks' last ends."""
    cdef uint64_t low = 0, high = block_count(extent.parts.ends_size), middle, last
    cdef LoadStatus status
    while low < high:
        middle = low + (high - low) // 2
        last = last_end(extent, middle)
        status = require_ends(file, extent, last, last + 1)
        if status != LOADED:
            return status
        if end_position(extent.ends[last]) < position:
            low = middle + 1
        else:
            high = middle
    found[0] = low
    return LOADED


cdef LoadStatus scan_blocks(
    MappedFile file, ExtentRef *extent, uint64_t position, uint64_t *found
) noexcept nogil:
    """``search_blocks`` where it met damage: go by the blocks that are whole.

    The block found is certain only if it starts below ``position`` or those before are whole.
    """
    cdef uint64_t block, last
    cdef LoadStatus before = LOADED, status
    for block in range(block_count(extent.parts.ends_size)):
        last = last_end(extent, block)
        status = require_ends(file, extent, last, last + 1)
        if status == LOADED and end_position(extent.ends[last]) >= position:
            if end_position(extent.ends[block * SEGMENT_BLOCK_ENDS]) < position:
                before = LOADED
            found[0] = block
            return before
        before = status
    found[0] = block_count(extent.parts.ends_size)
    return before


cdef LoadStatus locate(
    MappedFile file, ExtentRef *extent, uint64_t position, uint64_t *index
) noexcept nogil:
    """Index of the first end at or behind ``position``, the message count if there is none."""
    cdef uint64_t block, low, high, count = extent.entry.message_count
    cdef LoadStatus status = search_blocks(file, extent, position, &block)
    if status == DAMAGED:
        status = scan_blocks(file, extent, position, &block)
    if status != LOADED:
        return status
    low = min(block * SEGMENT_BLOCK_ENDS, count)
    high = min(low + SEGMENT_BLOCK_ENDS, count)
    status = require_ends(file, extent, low, high)
    if status == LOADED:
        index[0] = low + ends_search(extent.ends + low, high - low, position)
    return status


cdef LoadStatus blocks_window(
    MappedFile file,
    ExtentRef *extent,
    uint64_t start,
    uint64_t stop,
    bint whole_append,
    Window *window,
) noexcept nogil:
    """The ends from the message that holds byte ``start`` to the first at or behind ``stop``.

    With ``whole_append`` from the first message of that append on.
    """
    cdef uint64_t low, high
    cdef LoadStatus status = locate(file, extent, start + 1, &low)
    if status == LOADED:
        status = locate(file, extent, stop, &high)
    if status != LOADED:
        return status
    while low > 0:
        status = require_ends(file, extent, low - 1, low)
        if status != LOADED:
            return status
        if not whole_append or end_of_append(extent.ends[low - 1]):
            break
        low -= 1
    high = max(low, min(high + 1, extent.entry.message_count))
    window.ends, window.count = extent.ends + low, high - low
    window.first = end_position(extent.ends[low - 1]) if low > 0 else extent.entry.base
    status = require_ends(file, extent, low, high)
    if status == LOADED and not window_fits(extent, start, stop, window):
        report(&extent.finding, b"ends: out of order", extent.parts.ends + 8 * low)
        return DAMAGED
    return status


cdef inline bint window_fits(
    const ExtentRef *extent, uint64_t start, uint64_t stop, const Window *window
) noexcept nogil:
    """Whether a window is what was asked for: callers go on from its ends, and must get on.

    Ends that do not ascend are written by nobody, and a checksum may be right all the same.
    """
    cdef uint64_t last
    if window.first > start:
        return False
    if window.count == 0:
        return stop <= start or start >= extent.entry.end
    last = end_position(window.ends[window.count - 1])
    return stop <= last <= extent.entry.end


cdef LoadStatus blocks_message_end(
    MappedFile file, ExtentRef *extent, uint64_t start, uint64_t message_count, uint64_t *end
) noexcept nogil:
    """End of a message of the append that starts at ``start``; UINT64_MAX if it has fewer."""
    cdef uint64_t index, left = message_count
    cdef LoadStatus status = locate(file, extent, start + 1, &index)
    end[0] = start
    while status == LOADED and left > 0 and index < extent.entry.message_count:
        status = require_ends(file, extent, index, index + 1)
        if status != LOADED:
            return status
        end[0] = end_position(extent.ends[index])
        left -= 1
        if end_of_append(extent.ends[index]):
            break
        index += 1
    if left > 0:
        end[0] = <uint64_t>-1
    return status


# -- everything ----------------------------------------------------------------------------


cdef LoadStatus check_ends(ExtentRef *extent) noexcept nogil:
    """Positions ascend strictly from the extent's base to its end, where an append ends."""
    cdef uint64_t index, low = extent.entry.base, count = extent.entry.message_count
    for index in range(count):
        if end_position(extent.ends[index]) <= low:
            report(&extent.finding, b"ends: out of order", extent.parts.ends + 8 * index)
            return DAMAGED
        low = end_position(extent.ends[index])
    if low != extent.entry.end or (count > 0 and not end_of_append(extent.ends[count - 1])):
        report(&extent.finding, b"ends: do not reach the extent's end", extent.parts.ends)
        return DAMAGED
    return LOADED


cdef LoadStatus check_rest(MappedFile file, ExtentRef *extent) noexcept nogil:
    """The copy of the index entry before the extent, the row, the ends' order."""
    cdef uint64_t size = SEGMENT_ENTRY_SIZE + padded_size(extent.entry.row_size), at
    cdef uint8_t *row = <uint8_t *>malloc(size)
    cdef LoadStatus status = LOADED
    cdef int64_t error
    if row == NULL:
        return unreadable(extent, extent.parts.row, -ENOMEM)
    error = file.load(row, SEGMENT_ENTRY_SIZE, extent.entry.position)
    if error == 0 and memcmp(row, extent.entry, SEGMENT_ENTRY_SIZE) != 0:
        report(&extent.finding, b"extent header: differs from the index", extent.entry.position)
        status = DAMAGED
    if error == 0:
        error = file.load(row, padded_size(extent.entry.row_size), extent.parts.row)
    if error < 0:
        status = unreadable(extent, extent.parts.row, error)
    elif xxh64_of(row, extent.entry.row_size, extent.seed) != extent.entry.row_checksum:
        report(&extent.finding, b"row: checksum mismatch", extent.parts.row)
        status = DAMAGED
    else:
        for at in range(extent.entry.row_size, padded_size(extent.entry.row_size)):
            if row[at] != 0:
                report(&extent.finding, b"row: padding is not zero", extent.parts.row + at)
                status = DAMAGED
    free(row)
    return status


cdef bint blocks_check(
    MappedFile file, ExtentRef *extent, uint64_t number, bint *more
) noexcept nogil:
    cdef uint64_t data_blocks = block_count(padded_size(extent.parts.data_size))
    cdef uint64_t ends_blocks = block_count(extent.parts.ends_size)
    cdef BlockKind kind = DATA_BLOCK if number < data_blocks else ENDS_BLOCK
    cdef uint8_t *scratch
    cdef LoadStatus status
    more[0] = number < data_blocks + ends_blocks
    if not more[0]:
        status = check_rest(file, extent)
        if status == LOADED:
            extent.load = False         # damaged ends were reported before: do not read them
            status = require_ends(file, extent, 0, extent.entry.message_count)
            status = check_ends(extent) if status == LOADED else LOADED
        return status == LOADED
    scratch = <uint8_t *>malloc(SEGMENT_BLOCK_SIZE)
    if scratch == NULL:
        return unreadable(extent, extent.parts.data, -ENOMEM) == LOADED
    if kind == ENDS_BLOCK:
        number -= data_blocks
    status = verify_block(file, extent, kind, number, scratch)
    free(scratch)
    return status == LOADED
