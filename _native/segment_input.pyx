"""Read a segment from front to back, as a merge does: a window at a time, through the disk seam.

Source: docs/format-segment.md. Extents are mostly small, and lie in the order of their reading:
one call of the disk brings many. What a block holds is used only after its checksum was right.
"""
from libc.errno cimport EIO
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from .disk cimport disk_read_all
from .mapped_file cimport MappedFile
from .segment cimport Segment
from .segment_format cimport SEGMENT_BLOCK_SIZE, block_checksum, block_size
from .segment_index cimport report


cdef Input *open_inputs(list segments) except NULL:
    """The caller keeps the segments, and frees what it got by ``free_inputs``."""
    cdef Input *inputs = <Input *>calloc(len(segments) + 1, sizeof(Input))
    cdef Segment segment
    cdef MappedFile file
    cdef Py_ssize_t number
    if inputs == NULL:
        raise MemoryError
    for number in range(len(segments)):
        segment = segments[number]
        file = segment.mapped()
        inputs[number].window = <uint8_t *>malloc(WINDOW_SIZE)
        if inputs[number].window == NULL:
            free_inputs(inputs, number)
            raise MemoryError
        inputs[number].index = &segment.index
        inputs[number].ops, inputs[number].context = &file.disk.ops, file.disk.context
        inputs[number].fd, inputs[number].file_size = file.fd, file.size
    return inputs


cdef void free_inputs(Input *inputs, Py_ssize_t count) noexcept:
    cdef Py_ssize_t number
    if inputs != NULL:
        for number in range(count):
            free(inputs[number].window)
        free(inputs)


cdef int64_t read_exactly(
    Input *source, uint8_t *target, uint64_t size, uint64_t position
) noexcept nogil:
    cdef int64_t got = disk_read_all(
        source.ops, source.context, source.fd, target, size, position
    )
    if got < 0:
        return got
    return 0 if <uint64_t>got == size else -EIO


cdef inline bint holds(
    uint64_t start, uint64_t filled, uint64_t position, uint64_t size
) noexcept nogil:
    return start <= position and position + size <= start + filled


cdef int64_t load_sum(Input *source, uint64_t *checksum, uint64_t position) noexcept nogil:
    """Checksums of a large part lie far behind its blocks: they have a window of their own."""
    cdef uint64_t available
    cdef int64_t error
    if holds(source.position, source.filled, position, 8) or source.file_size - position < 8:
        return input_load(source, checksum, 8, position)
    if not holds(source.sums_position, source.sums_filled, position, 8):
        source.sums_filled = 0
        available = min(<uint64_t>SUMS_SIZE, source.file_size - position)
        error = read_exactly(source, source.sums, available, position)
        if error < 0:
            return error
        source.sums_position, source.sums_filled = position, available
    memcpy(checksum, source.sums + (position - source.sums_position), 8)
    return 0


cdef int64_t input_load(
    Input *source, void *target, uint64_t size, uint64_t position
) noexcept nogil:
    cdef uint64_t available
    cdef int64_t error
    if size > WINDOW_SIZE:
        return read_exactly(source, <uint8_t *>target, size, position)
    if position > source.file_size or size > source.file_size - position:
        return -EIO
    if not holds(source.position, source.filled, position, size):
        source.filled = 0
        available = min(<uint64_t>WINDOW_SIZE, source.file_size - position)
        error = read_exactly(source, source.window, available, position)
        if error < 0:
            return error
        source.position, source.filled = position, available
    memcpy(target, source.window + (position - source.position), size)
    return 0


cdef bint input_block(
    Input *source,
    uint64_t part,
    uint64_t part_size,
    uint64_t checksums,
    uint64_t at,
    uint8_t *block,
    Finding *finding,
) noexcept nogil:
    cdef uint64_t number = at // SEGMENT_BLOCK_SIZE, checksum
    cdef uint64_t position = part + number * SEGMENT_BLOCK_SIZE
    cdef uint64_t size = block_size(part_size, number)
    cdef int64_t error = input_load(source, block, size, position)
    if error == 0:
        error = load_sum(source, &checksum, checksums + 8 * number)
    if error < 0:
        report(finding, b"unreadable", position)
        finding.error = error
        return False
    if block_checksum(block, size, source.index.seed, position) != checksum:
        return report(finding, b"checksum mismatch", position)
    return True
