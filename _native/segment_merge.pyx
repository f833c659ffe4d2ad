"""Merge: write extents of several segments into a new one, adjacent ones joined.

Source: docs/format-segment.md, "Compaction". Every block is verified as it is read, so that
damage never gets a good checksum. Which extents, and with which rows, is the engine's to say;
everything per extent happens without the GIL.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdlib cimport free, malloc, realloc

from .segment cimport Segment
from .segment_blocks cimport ExtentRef
from .segment_format cimport (
    SEGMENT_BLOCK_SIZE,
    SegmentEntry,
    extent_layout,
    padded_size,
)
from .segment_input cimport free_inputs, input_block, open_inputs

cdef enum:
    PIECES_AT_LEAST = 1024


@cython.final
cdef class SegmentMerge:
    """One merge, in steps. ``finish`` it or ``abandon`` it.

    Args:
        segments: those that pieces come from; they must not be closed meanwhile.
        slice_size, sync_slices: as for ``SegmentWriter``, as the other arguments.

    Raises: SegmentDamaged or OSError for a piece that cannot be read whole, and then the merge
    must be abandoned; OSError for the new file, and then it was abandoned.
    """

    def __cinit__(
        self,
        disk,
        path,
        segments,
        *,
        store_id,
        number,
        level,
        after_lsn,
        upto_lsn,
        slice_size=1048576,
        sync_slices=False,
    ):
        self.segments = list(segments)
        self.rows = []
        self.inputs = open_inputs(self.segments)
        self.input_count = <uint64_t>len(self.segments)
        self.block = <uint8_t *>malloc(SEGMENT_BLOCK_SIZE)
        if self.block == NULL:
            raise MemoryError
        self.writer = SegmentWriter(
            disk, path, store_id=store_id, number=number, level=level, after_lsn=after_lsn,
            upto_lsn=upto_lsn, slice_size=slice_size, sync_slices=sync_slices,
        )

    def __dealloc__(self):
        free_inputs(self.inputs, <Py_ssize_t>self.input_count)
        free(self.block)
        free(self.joined)
        free(self.pieces)

    def put(self, extents):
        """Take the next extents to be written; those before must be."""
        cdef Joined *joined
        cdef bytes row
        cdef uint64_t base, end, at
        if self.joined_at != self.joined_count:
            raise ValueError("the extents before are not written yet")
        free(self.joined)
        self.joined = <Joined *>malloc((len(extents) + 1) * sizeof(Joined))
        if self.joined == NULL:
            raise MemoryError
        self.rows = [row for _, row, _ in extents]
        self.joined_count = self.joined_at = self.piece_count = self.piece_at = 0
        for stream_id, row, pieces in extents:
            joined = self.joined + self.joined_count
            joined.stream_id, joined.row = stream_id, <const uint8_t *>PyBytes_AS_STRING(row)
            joined.row_size = <uint64_t>PyBytes_GET_SIZE(row)
            joined.first, joined.base, joined.end = self.piece_count, 0, 0
            joined.message_count = 0
            for at, (source, index, start, stop, first, count) in enumerate(pieces):
                base, end = start, stop
                if at == 0:
                    joined.base = joined.end = base
                if base != joined.end or end <= base:
                    raise ValueError(f"stream {stream_id}: [{base}, {end}) is not behind the rest")
                self.take_piece(source, index, base, end, first, count)
                joined.end = end
                joined.message_count += <uint64_t>count
            joined.behind = self.piece_count
            self.writer.check_order(joined.stream_id, joined.base)
            self.joined_count += 1

    cdef int take_piece(self, uint64_t source, uint64_t index, uint64_t start, uint64_t end,
                        uint64_t first, uint64_t count) except -1:
        cdef Piece *piece
        cdef const SegmentEntry *entry
        cdef void *grown
        if source >= self.input_count or index >= self.inputs[source].index.count:
            raise IndexError(f"extent {index} of segment {source}")
        entry = self.inputs[source].index.entries + index
        if start < entry.base or end > entry.end or count > entry.message_count - first:
            raise ValueError(f"[{start}, {end}) is not within extent {index} of segment {source}")
        if self.piece_count % PIECES_AT_LEAST == 0:
            grown = realloc(self.pieces, (self.piece_count + PIECES_AT_LEAST) * sizeof(Piece))
            if grown == NULL:
                raise MemoryError
            self.pieces = <Piece *>grown
        piece = self.pieces + self.piece_count
        piece.source, piece.index, piece.parts = source, index, extent_layout(entry)
        piece.data_start, piece.data_behind = start - entry.base, end - entry.base
        piece.ends_start, piece.ends_behind = 8 * first, 8 * (first + count)
        self.piece_count += 1
        return 0

    @property
    def failed_source(self):
        return self.pieces[self.piece_at].source if self.source_failed else -1

    def step(self):
        """Write until one slice went to the disk. False when all is written."""
        cdef int64_t result
        self.writer.check_open()
        with nogil:
            result = self.advance()
        if self.source_failed:
            raise self.trouble()
        self.writer.check(result)
        return self.joined_at < self.joined_count

    def finish(self):
        """Write what is left, sync and give the segment its name. Returns its SegmentInfo."""
        while self.step():
            pass
        return self.writer.finish()

    def abandon(self):
        """Remove the temporary file."""
        self.writer.abandon()

    # -- writing ---------------------------------------------------------------------------------

    cdef int64_t advance(self) noexcept nogil:
        cdef uint64_t slices = self.writer.slice_count
        cdef int64_t result = 0
        while (
            result == 0 and self.joined_at < self.joined_count
            and self.writer.slice_count == slices and not self.source_failed
        ):
            if self.phase == NEXT_EXTENT:
                result = self.next_extent()
            elif self.phase == WIRE_BYTES:
                result = self.wire_bytes()
            else:
                result = self.message_ends()
        return result

    cdef int64_t next_extent(self) noexcept nogil:
        cdef Joined *joined = self.joined + self.joined_at
        self.phase, self.piece_at = WIRE_BYTES, joined.first
        self.offset = self.pieces[joined.first].data_start if joined.first < joined.behind else 0
        return self.writer.begin_extent(
            joined.stream_id, joined.base, joined.end, joined.message_count, joined.row,
            joined.row_size,
        )

    cdef int64_t wire_bytes(self) noexcept nogil:
        """What one block has of a piece; behind the last piece, the end of the part."""
        cdef Joined *joined = self.joined + self.joined_at
        cdef Piece *piece = self.pieces + self.piece_at
        cdef int64_t result
        if self.piece_at == joined.behind:
            self.phase, self.piece_at = MESSAGE_ENDS, joined.first
            self.offset = (
                self.pieces[joined.first].ends_start if joined.first < joined.behind else 0
            )
            return self.writer.begin_ends()
        result = self.copy(
            piece.parts.data, padded_size(piece.parts.data_size), piece.parts.data_checksums,
            piece.data_behind,
        )
        if self.offset == piece.data_behind:
            self.piece_at += 1
            if self.piece_at < joined.behind:
                self.offset = self.pieces[self.piece_at].data_start
        return result

    cdef int64_t message_ends(self) noexcept nogil:
        """The same of the ends; behind the last the row."""
        cdef Joined *joined = self.joined + self.joined_at
        cdef Piece *piece = self.pieces + self.piece_at
        cdef int64_t result
        if self.piece_at == joined.behind:
            self.phase = NEXT_EXTENT
            self.joined_at += 1
            return self.writer.end_extent(joined.row, joined.row_size)
        result = self.copy(
            piece.parts.ends, piece.parts.ends_size, piece.parts.ends_checksums,
            piece.ends_behind,
        )
        if self.offset == piece.ends_behind:
            self.piece_at += 1
            if self.piece_at < joined.behind:
                self.offset = self.pieces[self.piece_at].ends_start
        return result

    cdef int64_t copy(
        self, uint64_t part, uint64_t size, uint64_t checksums, uint64_t behind
    ) noexcept nogil:
        """Copy from ``offset`` to the end of its block, or to ``behind``."""
        cdef Input *source = self.inputs + self.pieces[self.piece_at].source
        cdef uint64_t within = self.offset % SEGMENT_BLOCK_SIZE
        cdef uint64_t count = min(behind - self.offset, SEGMENT_BLOCK_SIZE - within)
        if not input_block(
            source, part, size, checksums, self.offset, self.block, &self.finding
        ):
            self.source_failed = True
            return 0
        self.offset += count
        return self.writer.put_blocks(self.block + within, count)

    cdef object trouble(self):
        cdef Piece *piece = self.pieces + self.piece_at
        cdef Segment segment = self.segments[piece.source]
        cdef ExtentRef extent
        segment.refer(<Py_ssize_t>piece.index, &extent)
        return segment.trouble(&extent, &self.finding)
