"""Read a segment: find extents, read their wire bytes, search their offset index.

Source: docs/format-segment.md. Twin: engine/segment_py.py. What is handed out was verified
first: damage raises ``SegmentDamaged``, trouble of the medium OSError, and neither concerns
more than the block that it hit. Safe to use from any number of threads. Calls that find their
blocks verified keep the GIL and do not block; others release it while they read the disk.
"""
cimport cython
from cpython cimport array
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

import array
import os

from .checksum cimport xxh64_of
from .disk cimport Disk
from .ends cimport (
    BOUNDARY_APPEND,
    end_of_append,
    end_position,
    ends_boundary,
    ends_chunk_end,
)
from .mapped_file cimport Reaper
from .segment_blocks cimport (
    CELL_SIZE,
    DATA_BLOCK,
    DAMAGED,
    ENDS_BLOCK,
    LOADED,
    NOT_LOADED,
    LoadStatus,
    blocks_check,
    blocks_message_end,
    blocks_require,
    blocks_window,
)
from .segment_format cimport SEGMENT_BLOCK_SIZE, SegmentEntry, extent_layout
from .segment_index cimport index_open, index_search, report

from .segment_types import Extent, SegmentDamaged

cdef array.array POSITIONS = array.array("Q")


cdef inline uint64_t size_within(
    const SegmentEntry *entry, uint64_t start, uint64_t end
) noexcept nogil:
    """Bytes of the file that an extent's bytes in [start, end) take; of a whole one, all."""
    if start <= entry.base and entry.end <= end:
        return extent_layout(entry).next - entry.position
    start, end = max(start, entry.base), min(end, entry.end)
    return end - start if start < end else 0


cdef inline uint64_t place_of(const ExtentRef *extent, uint64_t block) noexcept nogil:
    """About where a check stands in the file: enough to count bytes by."""
    return min(extent.entry.position + block * SEGMENT_BLOCK_SIZE, extent.parts.next)


@cython.final
cdef class Segment:
    """An open segment, mapped. Extents are numbered from 0 in order of (stream id, base).

    Args:
        store_id: the 16 bytes that the segment must have been written with.
        number: the number that it must bear.

    Raises: SegmentDamaged if header, footer or index are not what was written; OSError.
    Views that it handed out stay valid after ``close``: the mapping ends with the last one.
    """

    def __cinit__(self, Disk disk not None, str path not None, *, bytes store_id not None,
                  uint64_t number):
        cdef MappedFile file = MappedFile(disk, path)
        cdef const uint8_t *wanted = store_id
        cdef Finding finding
        cdef bint ok
        if len(store_id) != 16:
            raise ValueError(f"store_id must be 16 bytes, not {len(store_id)}")
        with nogil:
            ok = index_open(file, wanted, number, &self.index, &finding)
        self.path = path
        if not ok:
            raise self.trouble(NULL, &finding)
        # Zero pages of the system: only those that stand for what was read cost memory.
        self.verified = <uint64_t *>calloc(file.size // (32 * CELL_SIZE) + 1, 8)
        if self.verified == NULL:
            raise MemoryError
        self.file, self.view = file, memoryview(file)

    def __dealloc__(self):
        free(self.verified)

    def close(self):
        """Let go of the file. Views that were handed out stay valid. Closing again is fine."""
        self.file = self.view = None

    def retire(self, Reaper reaper not None):
        """Have ``reaper`` give back the mapping, once nobody refers to it any more."""
        self.mapped().retire(reaper)

    # -- what it is ------------------------------------------------------------------------------

    @property
    def number(self):
        return self.index.header.number

    @property
    def level(self):
        return self.index.header.level

    @property
    def after_lsn(self):
        return self.index.header.after_lsn

    @property
    def upto_lsn(self):
        return self.index.header.upto_lsn

    @property
    def created_ms(self):
        return self.index.header.created_ms

    @property
    def extent_count(self):
        return self.index.count

    @property
    def size(self):
        return self.index.footer.file_size

    @property
    def data_size(self):
        return self.index.footer.data_size

    @property
    def message_count(self):
        return self.index.footer.message_count

    # -- finding extents -------------------------------------------------------------------------

    def find(self, uint64_t stream_id, uint64_t position):
        self.mapped()
        cdef uint64_t at = index_search(&self.index, stream_id, position + 1)
        cdef const SegmentEntry *entry = self.index.entries + at - 1
        if at == 0 or entry.stream_id != stream_id or entry.end <= position:
            return -1
        return at - 1

    def find_end(self, uint64_t stream_id, uint64_t position):
        self.mapped()
        cdef uint64_t at = index_search(&self.index, stream_id, position)
        cdef const SegmentEntry *entry = self.index.entries + at - 1
        if at == 0 or entry.stream_id != stream_id or entry.end < position:
            return -1
        return at - 1

    def extents_of(self, uint64_t stream_id):
        self.mapped()
        cdef uint64_t at = index_search(&self.index, stream_id, 0)
        cdef list found = []
        while at < self.index.count and self.index.entries[at].stream_id == stream_id:
            found.append((self.index.entries[at].base, self.index.entries[at].end, at))
            at += 1
        return found

    def extent(self, Py_ssize_t index):
        cdef ExtentRef extent
        self.refer(index, &extent)
        return Extent(
            extent.entry.stream_id, extent.entry.base, extent.entry.end,
            extent.entry.message_count, extent.entry.row_size,
        )

    def held_size(self, const uint64_t[::1] ids not None, const uint64_t[::1] starts not None,
                  const uint64_t[::1] ends not None):
        cdef uint64_t at, number, total = 0
        self.mapped()
        if not ids.shape[0] == starts.shape[0] == ends.shape[0]:
            raise ValueError("ids, starts and ends must be equally many")
        with nogil:
            for at in range(<uint64_t>ids.shape[0]):
                number = index_search(&self.index, ids[at], 0)
                while number < self.index.count and self.index.entries[number].stream_id == ids[at]:
                    total += size_within(self.index.entries + number, starts[at], ends[at])
                    number += 1
        return total

    def cut(self, Py_ssize_t index, uint64_t start, uint64_t end):
        cdef ExtentRef extent
        cdef Window window
        cdef uint64_t first
        cdef MappedFile file = self.refer_range(index, start, end, &extent)
        if start == end:
            return start, end, 0, 0
        self.window(file, &extent, start, start + 1, True, &window)
        start, first = window.first, <uint64_t>(window.ends - extent.ends)
        while True:
            self.window(file, &extent, end - 1, end, False, &window)
            end = end_position(window.ends[0])
            if end_of_append(window.ends[0]):
                break
            end += 1
            if end > extent.entry.end:
                report(&extent.finding, b"ends: do not reach the extent's end", extent.parts.ends)
                raise self.trouble(&extent, &extent.finding)
        return start, end, first, <uint64_t>(window.ends - extent.ends) + 1 - first

    # -- reading ---------------------------------------------------------------------------------

    def row(self, Py_ssize_t index):
        cdef ExtentRef extent
        cdef MappedFile file = self.refer(index, &extent)
        cdef bytes row = PyBytes_FromStringAndSize(NULL, extent.entry.row_size)
        cdef uint8_t *start = <uint8_t *>PyBytes_AS_STRING(row)
        cdef bint ok
        with nogil:
            extent.finding.what, extent.finding.position = b"row: unreadable", extent.parts.row
            extent.finding.error = file.load(start, extent.entry.row_size, extent.parts.row)
            ok = extent.finding.error == 0
            if ok:
                extent.finding.what = b"row: checksum mismatch"
                ok = xxh64_of(
                    start, extent.entry.row_size, extent.seed
                ) == extent.entry.row_checksum
        if not ok:
            raise self.trouble(&extent, &extent.finding)
        return row

    def read(self, Py_ssize_t index, uint64_t start, uint64_t end):
        cdef ExtentRef extent
        cdef MappedFile file = self.refer_range(index, start, end, &extent)
        view = self.view
        start -= extent.entry.base
        end -= extent.entry.base
        self.require(file, &extent, DATA_BLOCK, start, end)
        return view[extent.parts.data + start : extent.parts.data + end]

    def read_resident(self, Py_ssize_t index, uint64_t start, uint64_t end):
        cdef ExtentRef extent
        cdef MappedFile file = self.refer_range(index, start, end, &extent)
        start -= extent.entry.base
        end -= extent.entry.base
        if blocks_require(file, &extent, DATA_BLOCK, start, end) != LOADED:
            return None
        start += extent.parts.data
        end += extent.parts.data
        if not file.disk.ops.resident(file.disk.context, file.address + start, end - start):
            return None
        return self.view[start : end]

    def ends(self, Py_ssize_t index):
        cdef ExtentRef extent
        cdef MappedFile file = self.refer(index, &extent)
        view = self.view
        self.require(file, &extent, ENDS_BLOCK, 0, extent.parts.ends_size)
        return view[extent.parts.ends : extent.parts.ends + extent.parts.ends_size].cast("Q")

    def resident(self, Py_ssize_t index, uint64_t start, uint64_t end):
        cdef ExtentRef extent
        cdef Window window
        cdef MappedFile file = self.refer_range(index, start, end, &extent)
        cdef uint64_t base = extent.entry.base
        return (
            blocks_require(file, &extent, DATA_BLOCK, start - base, end - base) == LOADED
            and blocks_window(file, &extent, start, end, True, &window) == LOADED
        )

    # -- the offset index ------------------------------------------------------------------------

    def boundary(self, Py_ssize_t index, uint64_t position):
        cdef ExtentRef extent
        cdef Window window
        cdef MappedFile file = self.refer_range(index, position, position, &extent)
        if position == extent.entry.base:
            return BOUNDARY_APPEND
        self.window(file, &extent, position - 1, position, False, &window)
        return ends_boundary(window.ends, window.count, window.first, position)

    def append_start(self, Py_ssize_t index, uint64_t position):
        cdef ExtentRef extent
        cdef Window window
        cdef MappedFile file = self.refer_range(index, position, position, &extent)
        self.window(file, &extent, position, position, True, &window)
        return window.first

    def chunk_end(self, Py_ssize_t index, uint64_t start, uint64_t limit, uint64_t size_max,
                  bint whole_messages):
        cdef ExtentRef extent
        cdef Window window
        cdef MappedFile file = self.refer_range(index, start, start, &extent)
        if size_max == 0:
            raise ValueError("size_max must be at least 1")
        limit = min(limit, extent.entry.end)
        if start >= limit:
            return start
        cdef uint64_t stop = start + min(limit - start, size_max)
        self.window(file, &extent, start, stop, not whole_messages, &window)
        return ends_chunk_end(
            window.ends, window.count, window.first, start, limit, size_max, whole_messages
        )

    def message_end(self, Py_ssize_t index, uint64_t start, uint64_t count):
        cdef ExtentRef extent
        cdef uint64_t end
        cdef MappedFile file = self.refer_range(index, start, start, &extent)
        cdef LoadStatus status = blocks_message_end(file, &extent, start, count, &end)
        if status == NOT_LOADED:
            extent.load = True
            with nogil:
                status = blocks_message_end(file, &extent, start, count, &end)
        if status == DAMAGED:
            raise self.trouble(&extent, &extent.finding)
        return -1 if end == <uint64_t>-1 else end

    def append_ends(self, Py_ssize_t index, uint64_t start, uint64_t end):
        cdef ExtentRef extent
        cdef Window window
        cdef uint64_t at, position
        cdef Py_ssize_t found = 0
        cdef MappedFile file = self.refer_range(index, start, end, &extent)
        self.window(file, &extent, start, end, False, &window)
        cdef array.array positions = array.clone(POSITIONS, <Py_ssize_t>window.count, False)
        for at in range(window.count):
            position = end_position(window.ends[at])
            if end_of_append(window.ends[at]) and start < position <= end:
                positions.data.as_ulonglongs[found] = position
                found += 1
        array.resize(positions, found)
        return positions

    # -- everything ------------------------------------------------------------------------------

    def verify(self):
        """Check every byte through the disk seam, verified before or not.

        A generator: each step checks at most one block, or the index, and yields what is
        damaged, a ``SegmentDamaged``, or None, so that the caller can pace it.
        """
        cdef MappedFile file = self.mapped()
        cdef ExtentRef extent
        cdef SegmentIndex again
        cdef Finding finding
        cdef uint64_t index, number
        cdef bint ok, more
        with nogil:
            ok = index_open(
                file, self.index.header.store_id, self.index.header.number, &again, &finding
            )
        yield None if ok else self.trouble(NULL, &finding)
        for index in range(self.index.count):
            number, more = 0, True
            while more:
                file = self.refer(<Py_ssize_t>index, &extent)
                extent.load = True
                with nogil:
                    ok = blocks_check(file, &extent, number, &more)
                yield None if ok else self.trouble(&extent, &extent.finding)
                number += 1

    def check(self, uint64_t index, uint64_t block, uint64_t size_max):
        cdef MappedFile file = self.mapped()
        cdef ExtentRef extent
        cdef uint64_t start, at
        cdef bint ok = True, more
        if index >= self.index.count:
            raise IndexError(f"{self.path}: extent {index} of {self.index.count}")
        with nogil:
            self.describe(file, index, &extent)
            start = at = place_of(&extent, block)
            file.disk.ops.forget(
                file.disk.context, file.fd, start, size_max + SEGMENT_BLOCK_SIZE
            )
            while ok and index < self.index.count and at - start < size_max:
                self.describe(file, index, &extent)
                extent.load = True
                ok = blocks_check(file, &extent, block, &more)
                block += 1
                at = place_of(&extent, block) if more else extent.parts.next
                if not more:
                    index, block = index + 1, 0
            file.disk.ops.forget(file.disk.context, file.fd, start, at - start)
        damage = None if ok else self.trouble(&extent, &extent.finding)
        return index, block, at - start, damage

    # -- inside ----------------------------------------------------------------------------------

    cdef MappedFile mapped(self):
        """The file, which the caller refers to while it works without the GIL."""
        if self.file is None:
            raise ValueError(f"{self.path}: the segment was closed")
        return self.file

    cdef MappedFile refer(self, Py_ssize_t index, ExtentRef *extent):
        cdef MappedFile file = self.mapped()
        if index < 0 or <uint64_t>index >= self.index.count:
            raise IndexError(f"{self.path}: extent {index} of {self.index.count}")
        self.describe(file, <uint64_t>index, extent)
        return file

    cdef void describe(self, MappedFile file, uint64_t index, ExtentRef *extent) noexcept nogil:
        memset(extent, 0, sizeof(ExtentRef))
        extent.entry = self.index.entries + index
        extent.parts = extent_layout(extent.entry)
        extent.ends = <const uint64_t *>(file.address + extent.parts.ends)
        extent.verified, extent.seed = self.verified, self.index.seed

    cdef MappedFile refer_range(
        self, Py_ssize_t index, uint64_t start, uint64_t end, ExtentRef *extent
    ):
        cdef MappedFile file = self.refer(index, extent)
        if not extent.entry.base <= start <= end <= extent.entry.end:
            raise ValueError(
                f"[{start}, {end}] is not within [{extent.entry.base}, {extent.entry.end}]"
                f" of extent {index}, stream {extent.entry.stream_id}"
            )
        return file

    cdef int require(
        self, MappedFile file, ExtentRef *extent, BlockKind kind, uint64_t start, uint64_t end
    ) except -1:
        cdef LoadStatus status = blocks_require(file, extent, kind, start, end)
        if status == NOT_LOADED:
            extent.load = True
            with nogil:
                status = blocks_require(file, extent, kind, start, end)
        if status == DAMAGED:
            raise self.trouble(extent, &extent.finding)
        return 0

    cdef int window(
        self,
        MappedFile file,
        ExtentRef *extent,
        uint64_t start,
        uint64_t stop,
        bint whole_append,
        Window *window,
    ) except -1:
        cdef LoadStatus status = blocks_window(file, extent, start, stop, whole_append, window)
        if status == NOT_LOADED:
            extent.load = True
            with nogil:
                status = blocks_window(file, extent, start, stop, whole_append, window)
        if status == DAMAGED:
            raise self.trouble(extent, &extent.finding)
        return 0

    cdef object trouble(self, const ExtentRef *extent, const Finding *finding):
        """The exception for a finding: OSError if it could not be read, else the damage."""
        what = finding.what.decode()
        if finding.error < 0:
            where = f"{self.path}, byte {finding.position}: {what}"
            return OSError(-finding.error, os.strerror(-finding.error), where)
        if extent == NULL:
            return SegmentDamaged(self.path, finding.position, what)
        stream_position = None
        if extent.parts.data <= finding.position < extent.parts.data_checksums:
            stream_position = extent.entry.base + finding.position - extent.parts.data
        return SegmentDamaged(
            self.path, finding.position, what, extent.entry.stream_id, stream_position
        )
