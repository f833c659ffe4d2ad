# Searches over an offset index: where messages and appends end in one run of a stream's bytes.
#
# ``ends`` holds one u64 a message, ascending: (position behind its last byte << 1) | 1 if an
# append ends there, too. The unflushed tail and the extents of segments use the same format and
# these same functions, so that both give the same answers. ``first`` is where the first message
# starts; an append starts there. No message is empty, so positions ascend strictly.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t

cdef enum:
    BOUNDARY_NONE = 0
    BOUNDARY_MESSAGE = 1
    BOUNDARY_APPEND = 2


cdef inline uint64_t end_position(uint64_t end) noexcept nogil:
    return end >> 1


cdef inline bint end_of_append(uint64_t end) noexcept nogil:
    return end & 1


cdef inline size_t ends_search(
    const uint64_t *ends, size_t count, uint64_t position
) noexcept nogil:
    """Index of the first end at or behind ``position``; ``count`` if there is none."""
    cdef size_t low = 0, high = count, middle
    while low < high:
        middle = low + (high - low) // 2
        if end_position(ends[middle]) < position:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline int ends_boundary(
    const uint64_t *ends, size_t count, uint64_t first, uint64_t position
) noexcept nogil:
    """What lies at ``position``: BOUNDARY_*. ``first`` counts as the end of an append."""
    if position == first:
        return BOUNDARY_APPEND
    cdef size_t index = ends_search(ends, count, position)
    if index == count or end_position(ends[index]) != position:
        return BOUNDARY_NONE
    return BOUNDARY_APPEND if end_of_append(ends[index]) else BOUNDARY_MESSAGE


cdef inline uint64_t ends_append_start(
    const uint64_t *ends, size_t count, uint64_t first, uint64_t position
) noexcept nogil:
    """Start of the append that holds the byte at ``position``.

    Costs the messages between: one step in a byte stream, whose appends are one message each.
    """
    cdef size_t index = ends_search(ends, count, position + 1)
    while index > 0:
        index -= 1
        if end_of_append(ends[index]):
            return end_position(ends[index])
    return first


cdef inline uint64_t ends_chunk_end(
    const uint64_t *ends,
    size_t count,
    uint64_t first,
    uint64_t start,
    uint64_t limit,
    uint64_t size_max,
    bint whole_messages,
) noexcept nogil:
    """Where a chunk that starts at ``start`` ends, behind it and at most at ``limit``.

    The largest append end within ``size_max`` bytes. If there is none, the append is longer than
    that: the largest message end within it, or one message whole, if ``whole_messages``; else a
    cut at the next multiple of ``size_max`` behind the append's start. ``size_max`` is at least 1.
    """
    cdef uint64_t append_start, cut
    cdef size_t index, behind
    if start >= limit:
        return start
    cut = limit if limit - start <= size_max else start + size_max
    index = behind = ends_search(ends, count, cut + 1)
    while index > 0 and end_position(ends[index - 1]) > start:
        index -= 1
        if end_of_append(ends[index]):
            return end_position(ends[index])
    if whole_messages:
        if index < behind:
            return end_position(ends[behind - 1])
        return min(limit, end_position(ends[behind])) if behind < count else limit
    append_start = ends_append_start(ends, count, first, start)
    cut = append_start + ((start - append_start) // size_max + 1) * size_max
    return min(limit, cut)


cdef inline int64_t ends_message_end(
    const uint64_t *ends, size_t count, uint64_t start, uint64_t message_count
) noexcept nogil:
    """End of the ``message_count``-th message of the append that starts at ``start``.

    -1 if the append has fewer. For 0 it is ``start`` itself.
    """
    cdef size_t index = ends_search(ends, count, start + 1)
    cdef uint64_t left = message_count
    if left == 0:
        return <int64_t>start
    while index < count:
        left -= 1
        if left == 0:
            return <int64_t>end_position(ends[index])
        if end_of_append(ends[index]):
            return -1
        index += 1
    return -1
