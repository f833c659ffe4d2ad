"""Write a segment: an immutable, sorted table of extents, whole or not at all.

Source: docs/format-segment.md. Twin: engine/segment_py.py reads what this writes. The file
has its final name only when all of it is synced; it is never changed afterwards. What goes
into it, and when, is for the callers (flush, compaction) to say.
"""
cimport cython
from libc.errno cimport ENOMEM
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

import contextlib
import os

from .checksum cimport xxh64_of
from .disk cimport disk_write_all
from .segment_format cimport (
    SEGMENT_BLOCK_SIZE,
    SEGMENT_ENTRY_SIZE,
    SEGMENT_FOOTER_MAGIC,
    SEGMENT_FOOTER_SIZE,
    SEGMENT_HEADER_MAGIC,
    SEGMENT_HEADER_SIZE,
    SEGMENT_VERSION,
    SegmentFooter,
    SegmentHeader,
    block_checksum,
    block_size,
    entry_checksum,
    footer_checksum,
    header_checksum,
    padded_size,
)

from .segment_types import SegmentInfo

cdef uint8_t[8] ZEROES          # what parts are padded with


@cython.final
cdef class SegmentWriter:
    """Write one segment, extent by extent; then ``finish`` or ``abandon`` it.

    Args:
        path: the final name. Until ``finish`` the file is called ``path`` + ``.tmp``.
        store_id: the store's 16 bytes.
        number, level, after_lsn, upto_lsn: see docs/format-segment.md, "Header".
        slice_size: bytes written at once, from one block to 1 MiB.
        sync_slices: sync after each write of a slice, which keeps the log's own syncs short
            while a segment is written in the background.

    Raises: OSError; FileExistsError if ``path`` exists. Whatever fails, nothing stays under
    either name. Not thread-safe.
    """

    def __cinit__(
        self,
        Disk disk not None,
        str path not None,
        *,
        bytes store_id not None,
        uint64_t number,
        unsigned int level,
        uint64_t after_lsn,
        uint64_t upto_lsn,
        uint64_t slice_size=SEGMENT_SLICE_SIZE,
        bint sync_slices=False,
    ):
        if not SEGMENT_BLOCK_SIZE <= slice_size <= SEGMENT_SLICE_SIZE:
            raise ValueError(f"slice_size {slice_size} is not from one block to 1 MiB")
        if len(store_id) != 16:
            raise ValueError(f"store_id must be 16 bytes, not {len(store_id)}")
        if disk.exists(path):
            raise FileExistsError(f"{path}: segments are never overwritten")
        self.disk, self.path, self.temporary = disk, path, path + ".tmp"
        self.sync_slices = sync_slices
        self.identity = {
            "number": number, "level": level, "after_lsn": after_lsn, "upto_lsn": upto_lsn
        }
        self.slice_size = slice_size
        self.slice = <uint8_t *>malloc(slice_size)
        if self.slice == NULL:
            raise MemoryError
        self.fd = disk.open(self.temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self.writing = True
        self.put_header(store_id)

    def __dealloc__(self):
        free(self.slice)
        free(self.entries)
        free(self.checksums)

    def __del__(self):
        self.abandon()

    cdef put_header(self, bytes store_id):
        cdef SegmentHeader header
        memset(&header, 0, SEGMENT_HEADER_SIZE)
        header.magic = SEGMENT_HEADER_MAGIC
        header.version = SEGMENT_VERSION
        header.level = self.identity["level"]
        memcpy(header.store_id, <const char *>store_id, 16)
        header.number = self.identity["number"]
        header.after_lsn = self.identity["after_lsn"]
        header.upto_lsn = self.identity["upto_lsn"]
        header.created_ms = self.disk.wall_ms()
        self.seed = header.checksum = header_checksum(&header)
        self.check(self.put(&header, SEGMENT_HEADER_SIZE))

    # -- slices --------------------------------------------------------------------------------

    cdef int64_t write_slice(self) noexcept nogil:
        cdef int64_t result = disk_write_all(
            &self.disk.ops, self.disk.context, self.fd, self.slice, self.used, self.position
        )
        if result == 0 and self.sync_slices:
            result = self.disk.ops.sync(self.disk.context, self.fd)
        self.position += self.used
        self.used = 0
        self.slice_count += 1
        return result if result < 0 else 0

    cdef int64_t make_room(self, uint64_t size) noexcept nogil:
        """Let the next ``size`` bytes, at most a slice, stand in one piece in memory."""
        return 0 if size <= self.slice_size - self.used else self.write_slice()

    cdef int64_t put(self, const void *data, uint64_t size) noexcept nogil:
        cdef const uint8_t *at = <const uint8_t *>data
        cdef uint64_t piece
        cdef int64_t result
        while size > 0:
            result = self.make_room(1)
            if result < 0:
                return result
            piece = min(size, self.slice_size - self.used)
            memcpy(self.slice + self.used, at, piece)
            self.used += piece
            at += piece
            size -= piece
        return 0

    # -- parts: blocks, then the checksum of each ----------------------------------------------

    cdef void begin_part(self, uint64_t size) noexcept nogil:
        self.part_size = size
        self.part_done = self.checksum_count = 0

    cdef int64_t put_blocks(self, const void *data, uint64_t size) noexcept nogil:
        """Append to the part; the pieces together must be as long as ``begin_part`` was told."""
        cdef const uint8_t *at = <const uint8_t *>data
        cdef uint64_t offset, whole, piece
        cdef int64_t result
        while size > 0:
            offset = self.part_done % SEGMENT_BLOCK_SIZE
            whole = block_size(self.part_size, self.part_done // SEGMENT_BLOCK_SIZE)
            if offset == 0:
                result = self.make_room(whole)
                if result < 0:
                    return result
            piece = min(size, whole - offset)
            result = self.put_block_piece(at, piece)
            if result < 0:
                return result
            at += piece
            size -= piece
        return 0

    cdef int64_t put_block_piece(self, const uint8_t *data, uint64_t size) noexcept nogil:
        """The block's room was made when it began, so all of it stands in the slice."""
        cdef uint64_t number = self.part_done // SEGMENT_BLOCK_SIZE
        cdef uint64_t whole = block_size(self.part_size, number)
        cdef uint64_t capacity
        cdef uint64_t *grown
        memcpy(self.slice + self.used, data, size)
        self.used += size
        self.part_done += size
        if self.part_done != number * SEGMENT_BLOCK_SIZE + whole:
            return 0
        if self.checksum_count == self.checksum_capacity:
            capacity = max(<uint64_t>64, 2 * self.checksum_capacity)
            grown = <uint64_t *>realloc(self.checksums, 8 * capacity)
            if grown == NULL:
                return -ENOMEM
            self.checksums, self.checksum_capacity = grown, capacity
        self.checksums[self.checksum_count] = block_checksum(
            self.slice + self.used - whole, whole, self.seed, self.position + self.used - whole
        )
        self.checksum_count += 1
        return 0

    cdef int64_t end_part(self) noexcept nogil:
        return self.put(self.checksums, 8 * self.checksum_count)

    # -- extents -------------------------------------------------------------------------------

    cdef int64_t begin_extent(
        self,
        uint64_t stream_id,
        uint64_t base,
        uint64_t end,
        uint64_t message_count,
        const uint8_t *row,
        uint64_t row_size,
    ) noexcept nogil:
        """Then ``put_blocks`` (wire bytes), ``begin_ends``, ``put_blocks``, ``end_extent``."""
        cdef SegmentEntry *entry
        cdef uint64_t capacity
        if self.entry_count == self.entry_capacity:
            capacity = max(<uint64_t>64, 2 * self.entry_capacity)
            entry = <SegmentEntry *>realloc(self.entries, SEGMENT_ENTRY_SIZE * capacity)
            if entry == NULL:
                return -ENOMEM
            self.entries, self.entry_capacity = entry, capacity
        entry = self.entries + self.entry_count
        memset(entry, 0, SEGMENT_ENTRY_SIZE)
        entry.stream_id, entry.base, entry.end = stream_id, base, end
        entry.position = self.position + self.used
        entry.message_count, entry.row_size = message_count, <unsigned int>row_size
        entry.row_checksum = xxh64_of(row, row_size, self.seed)
        entry.checksum = entry_checksum(entry, self.seed)
        self.entry_count += 1
        self.data_size += end - base
        self.message_count += message_count
        self.begin_part(padded_size(end - base))
        return self.put(entry, SEGMENT_ENTRY_SIZE)

    cdef int64_t begin_ends(self) noexcept nogil:
        cdef int64_t result = self.put_blocks(&ZEROES[0], self.part_size - self.part_done)
        if result == 0:
            result = self.end_part()
        self.begin_part(8 * self.entries[self.entry_count - 1].message_count)
        return result

    cdef int64_t end_extent(self, const uint8_t *row, uint64_t row_size) noexcept nogil:
        cdef int64_t result = self.end_part()
        if result == 0:
            result = self.put(row, row_size)
        if result == 0:
            result = self.put(&ZEROES[0], padded_size(row_size) - row_size)
        return result

    def add(self, uint64_t stream_id, uint64_t base, data, const uint64_t[::1] ends not None,
            bytes row not None):
        """Add one extent; extents come in ascending order of (stream id, base).

        Args:
            base: position in the stream of the first byte of ``data``.
            data: the wire bytes, a sequence of bytes-like pieces.
            ends: the offset index, u64, shape (message count,): (position behind the message
                << 1) | whether an append ends there, which it does at the last.
            row: the stream's row, opaque here; may be empty.

        Raises: ValueError, and nothing was written; OSError, and the segment was abandoned.
        """
        cdef list views = [memoryview(piece).cast("B") for piece in data]
        cdef uint64_t size = sum([view.nbytes for view in views])
        cdef uint64_t count = <uint64_t>ends.shape[0]
        cdef const uint64_t *first_end = &ends[0] if count else NULL
        cdef const uint8_t *row_start = row
        cdef const uint8_t[::1] piece_view
        self.check_open()
        self.check_order(stream_id, base)
        check_ends(base, base + size, first_end, count)
        self.check(
            self.begin_extent(stream_id, base, base + size, count, row_start, len(row))
        )
        for view in views:
            if view.nbytes:
                piece_view = view
                self.check(self.put_blocks(&piece_view[0], <uint64_t>piece_view.shape[0]))
        self.check(self.begin_ends())
        self.check(self.put_blocks(first_end, 8 * count))
        self.check(self.end_extent(row_start, len(row)))

    cdef int check_order(self, uint64_t stream_id, uint64_t base) except -1:
        cdef SegmentEntry *last
        if self.entry_count == 0:
            return 0
        last = self.entries + self.entry_count - 1
        if stream_id < last.stream_id or (stream_id == last.stream_id and base < last.end):
            raise ValueError(
                f"extent ({stream_id}, {base}) must come behind ({last.stream_id}, {last.end})"
            )
        return 0

    # -- the end -------------------------------------------------------------------------------

    def finish(self):
        """Write the index, sync, give the file its name, sync the directory."""
        cdef int64_t result
        self.check_open()
        with nogil:
            result = self.put_index()
        self.check(result)
        info = SegmentInfo(
            path=self.path, **self.identity, size=self.position, extent_count=self.entry_count,
            data_size=self.data_size, message_count=self.message_count,
        )
        failures = self.disk.directory_failures
        try:
            self.disk.sync(self.fd)
            self.disk.rename(self.temporary, self.path)
            self.disk.sync_directory(os.path.dirname(self.path) or ".", failures)
        except BaseException:
            self.abandon()
            # The rename may have happened, and may or may not survive: take it back.
            with contextlib.suppress(OSError):
                self.disk.unlink(self.path)
            raise
        self.writing = False
        with contextlib.suppress(OSError):      # synced: a failing close loses nothing
            self.disk.close(self.fd)
        return info

    cdef int64_t put_index(self) noexcept nogil:
        cdef SegmentFooter footer
        cdef int64_t result
        memset(&footer, 0, SEGMENT_FOOTER_SIZE)
        footer.magic = SEGMENT_FOOTER_MAGIC
        footer.version = SEGMENT_VERSION
        footer.header_checksum = self.seed
        footer.index_position = self.position + self.used
        footer.extent_count = self.entry_count
        footer.data_size = self.data_size
        footer.message_count = self.message_count
        footer.file_size = (
            footer.index_position + SEGMENT_ENTRY_SIZE * self.entry_count + SEGMENT_FOOTER_SIZE
        )
        footer.checksum = footer_checksum(&footer)
        result = self.put(self.entries, SEGMENT_ENTRY_SIZE * self.entry_count)
        if result == 0:
            result = self.put(&footer, SEGMENT_FOOTER_SIZE)
        return self.write_slice() if result == 0 else result

    def abandon(self):
        """Remove the temporary file. Fine at any time; after ``finish`` it does nothing.

        If removing fails, the file stays behind as ``.tmp``, which opening a store removes.
        """
        if not self.writing:
            return
        self.writing = False
        with contextlib.suppress(OSError):
            self.disk.close(self.fd)
        with contextlib.suppress(OSError):
            self.disk.unlink(self.temporary)

    cdef int check_open(self) except -1:
        if not self.writing:
            raise ValueError(f"{self.path}: finished or abandoned")
        return 0

    cdef int check(self, int64_t result) except -1:
        if result < 0:
            self.abandon()
            self.disk.check(result, self.temporary)
        return 0


cdef int check_ends(
    uint64_t base, uint64_t end, const uint64_t *ends, uint64_t count
) except -1:
    """Positions must ascend strictly from ``base`` to ``end``, the last one an append's end."""
    cdef uint64_t index, low = base
    for index in range(count):
        if ends[index] >> 1 <= low:
            raise ValueError(f"end {index} is {ends[index] >> 1}, not behind {low}")
        low = ends[index] >> 1
    if low != end:
        raise ValueError(f"the ends reach {low}, the wire bytes {end}")
    if count and not ends[count - 1] & 1:
        raise ValueError("an extent must end where an append ends")
    return 0
