"""Walk several segments at once, stream by stream, with the rows of what lies there.

Source: docs/format-segment.md, "Compaction". All reading is done without the GIL, many streams
at a time: what becomes of them is the engine's to decide. It must never skip an extent.
"""
cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport ENOMEM
from libc.stdlib cimport free, realloc

from .checksum cimport xxh64_of
from .segment cimport Segment
from .segment_blocks cimport ExtentRef
from .segment_format cimport extent_layout
from .segment_index cimport report
from .segment_input cimport free_inputs, input_load, open_inputs


@cython.final
cdef class SegmentCursor:
    """A walk over all extents of some segments, in order of their streams.

    Args:
        segments: open segments, the oldest first; they must not be closed meanwhile.

    Not thread-safe.
    """

    def __cinit__(self, segments):
        self.segments = list(segments)
        self.inputs = open_inputs(self.segments)
        self.input_count = <uint64_t>len(self.segments)

    def __dealloc__(self):
        free_inputs(self.inputs, <Py_ssize_t>self.input_count)
        free(self.found)
        free(self.rows)

    def next_batch(self, uint64_t extent_count_max, uint64_t size_max):
        cdef int64_t error
        with nogil:
            error = self.gather(extent_count_max, size_max)
        if error < 0:
            raise MemoryError
        return self.batch()

    cdef int64_t gather(self, uint64_t extent_count_max, uint64_t size_max) noexcept nogil:
        cdef uint64_t stream_id = 0
        cdef int64_t error = 0
        self.found_count = self.rows_size = 0
        while self.found_count < extent_count_max and self.rows_size < size_max and error == 0:
            if not self.next_stream(&stream_id):
                break
            error = self.take_stream(stream_id)
        return error

    cdef bint next_stream(self, uint64_t *stream_id) noexcept nogil:
        """The least id that any input comes to next; False behind the last."""
        cdef uint64_t number
        cdef const SegmentEntry *entry
        cdef bint any_left = False
        for number in range(self.input_count):
            if self.inputs[number].next < self.inputs[number].index.count:
                entry = self.inputs[number].index.entries + self.inputs[number].next
                if not any_left or entry.stream_id < stream_id[0]:
                    stream_id[0] = entry.stream_id
                any_left = True
        return any_left

    cdef int64_t take_stream(self, uint64_t stream_id) noexcept nogil:
        cdef uint64_t number
        cdef Input *source
        cdef int64_t error
        for number in range(self.input_count):
            source = self.inputs + number
            while (
                source.next < source.index.count
                and source.index.entries[source.next].stream_id == stream_id
            ):
                error = self.take_extent(number)
                if error < 0:
                    return error
                source.next += 1
        return 0

    cdef int64_t take_extent(self, uint64_t source) noexcept nogil:
        cdef const SegmentEntry *entry
        cdef uint64_t capacity
        cdef Found *found
        cdef uint8_t *rows
        if self.found_count == self.found_capacity:
            capacity = max(<uint64_t>256, 2 * self.found_capacity)
            found = <Found *>realloc(self.found, capacity * sizeof(Found))
            if found == NULL:
                return -ENOMEM
            self.found, self.found_capacity = found, capacity
        entry = self.inputs[source].index.entries + self.inputs[source].next
        if entry.row_size > self.rows_capacity - self.rows_size:
            capacity = max(2 * self.rows_capacity, self.rows_size + entry.row_size)
            rows = <uint8_t *>realloc(self.rows, capacity)
            if rows == NULL:
                return -ENOMEM
            self.rows, self.rows_capacity = rows, capacity
        found = self.found + self.found_count
        found.source, found.index, found.entry = source, self.inputs[source].next, entry
        self.take_row(found, entry)
        self.found_count += 1
        return 0

    cdef void take_row(self, Found *found, const SegmentEntry *entry) noexcept nogil:
        cdef Input *source = self.inputs + found.source
        cdef uint8_t *row = self.rows + self.rows_size
        cdef uint64_t position = extent_layout(entry).row
        found.row_at = self.rows_size
        found.finding.what, found.finding.position, found.finding.error = NULL, position, 0
        found.finding.error = input_load(source, row, entry.row_size, position)
        if found.finding.error < 0:
            found.finding.what = b"row: unreadable"
        elif xxh64_of(row, entry.row_size, source.index.seed) != entry.row_checksum:
            report(&found.finding, b"row: checksum mismatch", position)
        self.rows_size += entry.row_size

    cdef list batch(self):
        cdef list streams = [], extents = None
        cdef uint64_t at, last = 0
        cdef Found *found
        for at in range(self.found_count):
            found = self.found + at
            if extents is None or found.entry.stream_id != last:
                last, extents = found.entry.stream_id, []
                streams.append((last, extents))
            extents.append((
                found.source, found.index, found.entry.base, found.entry.end,
                found.entry.message_count, self.row_of(found),
            ))
        return streams

    cdef object row_of(self, Found *found):
        cdef ExtentRef extent
        cdef Segment segment
        if found.finding.what != NULL:
            segment = self.segments[found.source]
            segment.refer(<Py_ssize_t>found.index, &extent)
            return segment.trouble(&extent, &found.finding)
        if found.entry.row_size == 0:
            return None
        return PyBytes_FromStringAndSize(
            <const char *>self.rows + found.row_at, found.entry.row_size
        )
