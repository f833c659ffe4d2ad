"""The unflushed tail of one stream: an index over the slabs that hold its records.

Source: docs/architecture.md, "Append" and "Read". Everything here runs under the GIL and never
lets go of it, so that each call sees and leaves a whole state. Nothing is copied but runs of
small pieces in ``read``.
"""
cimport cython
from cpython cimport array
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

from array import array as new_array

from .errors import TailMoved

from .ends cimport (
    end_of_append,
    end_position,
    ends_append_start,
    ends_boundary,
    ends_chunk_end,
    ends_message_end,
    ends_search,
)

cdef enum:
    VIEW_SIZE_MIN = 65536           # bytes: smaller pieces are cheaper copied than sent singly

cdef array.array END_TEMPLATE = new_array("Q")


cdef void *room_for(
    void *items, size_t item_size, size_t *head, size_t count, size_t *capacity, size_t more
) except NULL:
    """Space for ``more`` items behind head + count, reclaiming the dropped ones or growing.

    Reclaims only when at least half of the array was dropped, so that a push costs O(1).
    """
    cdef size_t wanted = count + more
    if items != NULL and head[0] + wanted <= capacity[0]:
        return items
    if items != NULL and wanted <= capacity[0] // 2:
        memmove(items, <uint8_t *>items + head[0] * item_size, count * item_size)
        head[0] = 0
        return items
    cdef size_t grown = max(<size_t>4, max(2 * (head[0] + count), head[0] + wanted))
    cdef void *moved = realloc(items, grown * item_size)
    if moved == NULL:
        raise MemoryError("no memory for the index of a stream's tail")
    capacity[0] = grown
    return moved


@cython.final
cdef class Tail:
    def __cinit__(self, uint64_t start):
        self.start = self.end = start
        self.pieces = NULL
        self.ends = NULL
        self.piece_head = self.piece_count = self.piece_capacity = 0
        self.end_head = self.end_count = self.end_capacity = 0

    def __dealloc__(self):
        cdef size_t i
        for i in range(self.piece_count):
            Py_DECREF(<object>self.pieces[self.piece_head + i].slab)
        free(self.pieces)
        free(self.ends)

    @property
    def size(self):
        return self.end - self.start

    @property
    def message_count(self):
        return self.end_count

    # -- for the log ----------------------------------------------------------------------

    cdef int reserve(self, uint64_t base, uint64_t message_count) except -1:
        if base != self.end:
            raise ValueError(f"record at position {base}, but the tail ends at {self.end}")
        self.pieces = <Piece *>room_for(
            self.pieces, sizeof(Piece), &self.piece_head, self.piece_count,
            &self.piece_capacity, 1,
        )
        self.ends = <uint64_t *>room_for(
            self.ends, sizeof(uint64_t), &self.end_head, self.end_count,
            &self.end_capacity, message_count,
        )
        return 0

    cdef void add(
        self,
        Slab slab,
        const uint8_t *data,
        uint64_t size,
        const uint32_t *sizes,
        uint32_t message_count,
    ) noexcept:
        cdef Piece *piece = self.pieces + self.piece_head + self.piece_count
        cdef uint64_t *ends = self.ends + self.end_head + self.end_count
        cdef uint64_t position = self.end
        cdef uint32_t i
        piece.base = self.end
        piece.end = self.end + size
        piece.data = data
        piece.slab = <PyObject *>slab
        Py_INCREF(slab)
        for i in range(message_count):
            position += sizes[i] if sizes != NULL else size
            ends[i] = position << 1
        ends[message_count - 1] |= 1
        self.piece_count += 1
        self.end_count += message_count
        self.end = piece.end

    # -- reading --------------------------------------------------------------------------

    cdef int check(self, uint64_t start, uint64_t end) except -1:
        if start < self.start:
            raise TailMoved(f"position {start} is below the tail, which starts at {self.start}")
        if end > self.end or start > end:
            raise ValueError(f"[{start}, {end}) is not within the tail [{self.start}, {self.end})")
        return 0

    cdef size_t piece_at(self, uint64_t position) noexcept:
        """Index (from piece_head) of the first piece that ends behind ``position``."""
        cdef const Piece *pieces = self.pieces + self.piece_head
        cdef size_t low = 0, high = self.piece_count, middle
        while low < high:
            middle = low + (high - low) // 2
            if pieces[middle].end <= position:
                low = middle + 1
            else:
                high = middle
        return low

    def read(self, uint64_t start, uint64_t end):
        self.check(start, end)
        cdef list parts = []
        cdef size_t index = self.piece_at(start)
        cdef const Piece *pieces = self.pieces + self.piece_head
        cdef const Piece *piece
        cdef uint64_t low = start, high, run_start
        cdef size_t run_index
        while low < end:
            piece = pieces + index
            high = min(end, piece.end)
            if high - low >= VIEW_SIZE_MIN:
                parts.append(view_of(piece, low, high))
                low = high
                index += 1
                continue
            run_index, run_start = index, low
            while low < end and min(end, pieces[index].end) - low < VIEW_SIZE_MIN:
                low = min(end, pieces[index].end)
                index += 1
            parts.append(copy_of(pieces + run_index, run_start, low))
        return parts

    def boundary(self, uint64_t position):
        if position < self.start:
            self.check(position, self.end)
        return ends_boundary(self.ends + self.end_head, self.end_count, self.start, position)

    def append_start(self, uint64_t position):
        self.check(position, self.end)
        return ends_append_start(
            self.ends + self.end_head, self.end_count, self.start, position
        )

    def chunk_end(
        self, uint64_t start, uint64_t limit, uint64_t size_max, bint whole_messages
    ):
        self.check(start, limit)
        if size_max == 0:
            raise ValueError("size_max must be at least 1")
        return ends_chunk_end(
            self.ends + self.end_head, self.end_count, self.start,
            start, limit, size_max, whole_messages,
        )

    def message_end(self, uint64_t start, uint64_t count):
        self.check(start, self.end)
        return ends_message_end(self.ends + self.end_head, self.end_count, start, count)

    def append_ends(self, uint64_t start, uint64_t end):
        self.check(start, end)
        cdef const uint64_t *ends = self.ends + self.end_head
        cdef size_t index = ends_search(ends, self.end_count, start + 1)
        cdef size_t stop = ends_search(ends, self.end_count, end + 1)
        cdef array.array found = array.clone(END_TEMPLATE, <Py_ssize_t>(stop - index), False)
        cdef Py_ssize_t count = 0
        while index < stop:
            if end_of_append(ends[index]):
                found.data.as_ulonglongs[count] = end_position(ends[index])
                count += 1
            index += 1
        array.resize(found, count)
        return found

    def drop_below(self, uint64_t position):
        if position <= self.start:
            return
        if position > self.end or self.boundary(position) != 2:
            raise ValueError(f"position {position} ends no append of the tail up to {self.end}")
        cdef size_t pieces = self.piece_at(position), i
        cdef size_t ends = ends_search(self.ends + self.end_head, self.end_count, position + 1)
        cdef Piece *dropped = self.pieces + self.piece_head
        # The index first: letting go of a slab can run no code of ours, but order is cheap.
        self.piece_head += pieces
        self.piece_count -= pieces
        self.end_head += ends
        self.end_count -= ends
        self.start = position
        for i in range(pieces):
            Py_DECREF(<object>dropped[i].slab)
        if self.piece_count == 0:
            self.forget()

    cdef void forget(self) noexcept:
        """Give back the memory of an empty index: most tails stay empty after a flush."""
        free(self.pieces)
        free(self.ends)
        self.pieces = NULL
        self.ends = NULL
        self.piece_head = self.piece_capacity = 0
        self.end_head = self.end_capacity = 0


cdef object view_of(const Piece *piece, uint64_t low, uint64_t high):
    """A read-only view of [low, high), which keeps the slab alive."""
    cdef Slab slab = <Slab>piece.slab
    cdef Py_ssize_t offset = (piece.data - slab.memory) + <Py_ssize_t>(low - piece.base)
    return memoryview(slab)[offset : offset + <Py_ssize_t>(high - low)]


cdef bytes copy_of(const Piece *piece, uint64_t low, uint64_t high):
    """The bytes [low, high), which start in ``piece`` and may go on in those behind it."""
    cdef bytes copied = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(high - low))
    cdef char *target = PyBytes_AS_STRING(copied)
    cdef uint64_t stop
    while low < high:
        stop = min(high, piece.end)
        memcpy(target, piece.data + (low - piece.base), stop - low)
        target += stop - low
        low = stop
        piece += 1
    return copied
