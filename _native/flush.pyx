"""Flush: write what a batch of log records added to streams into a new segment.

Source: docs/format-segment.md, "Flush". The rows and the records are taken exactly as given:
which of them belong together, as of one checkpoint, is the engine's to ensure. Everything per
record happens without the GIL. Arguments are checked completely before a file is made.
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, malloc, qsort

from .record cimport RecordHeader, RecordRef

import array

cdef enum:
    ENDS_AT_ONCE = 512                  # message ends gathered before they are written
    ROWS_AT_ONCE = 4096                 # taken without a break in holding the GIL


cdef int compare(const void *left, const void *right) noexcept nogil:
    cdef const Ordered *a = <const Ordered *>left
    cdef const Ordered *b = <const Ordered *>right
    if a.stream_id != b.stream_id:
        return -1 if a.stream_id < b.stream_id else 1
    return -1 if a.index < b.index else 1


cdef bint contains(const uint64_t *sorted_ids, uint64_t count, uint64_t wanted) noexcept nogil:
    cdef uint64_t low = 0, high = count, middle
    while low < high:
        middle = low + (high - low) // 2
        if sorted_ids[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low < count and sorted_ids[low] == wanted


cdef bint sizes_add_up(const RecordRef *record) noexcept nogil:
    """No message is empty, and together they are the record's data."""
    cdef uint64_t total = 0
    cdef uint32_t number
    if record.sizes == NULL:
        return record.header.message_count == 1
    for number in range(record.header.message_count):
        if record.sizes[number] == 0:
            return False
        total += record.sizes[number]
    return total == record.header.data_size


@cython.final
cdef class Flush:
    """One flush, in steps. ``finish`` it or ``abandon`` it.

    Args:
        batch: the records, in LSN order; those without data are skipped.
        rows: (stream id, row) of every stream that changed, ascending; each gets an extent,
            without data if the batch holds none of its.
        dropped: streams whose records are skipped, because they were deleted since.
        sync_slices: as for ``SegmentWriter``.

    Raises: ValueError if records of a stream are not adjacent, or it has no row.
    """

    def __cinit__(
        self,
        disk,
        path,
        RecordBatch batch not None,
        rows,
        dropped,
        *,
        store_id,
        number,
        after_lsn,
        upto_lsn,
        level=0,
        sync_slices=False,
    ):
        self.batch = batch
        self.take_rows(rows)
        self.take_records(dropped)
        self.check_runs()
        self.writer = SegmentWriter(
            disk, path, store_id=store_id, number=number, level=level, after_lsn=after_lsn,
            upto_lsn=upto_lsn, sync_slices=sync_slices,
        )

    def __dealloc__(self):
        free(self.row_refs)
        free(self.order)
        free(self.runs)

    def step(self):
        """Write until one slice (at most 1 MiB) went to the disk. False when all is written."""
        cdef int64_t result
        self.writer.check_open()
        with nogil:
            result = self.advance()
        self.writer.check(result)
        return self.phase != WRITTEN

    def finish(self):
        """Write what is left, sync and give the segment its name. Returns its SegmentInfo."""
        while self.step():
            pass
        return self.writer.finish()

    def abandon(self):
        """Remove the temporary file."""
        self.writer.abandon()

    # -- taking the arguments --------------------------------------------------------------------

    cdef int take_rows(self, rows) except -1:
        cdef RowRef *ref
        cdef bytes row
        self.rows = list(rows)
        self.row_refs = <RowRef *>calloc(len(self.rows) + 1, sizeof(RowRef))
        if self.row_refs == NULL:
            raise MemoryError
        for stream_id, row in self.rows:
            if row is None:
                raise ValueError(f"the row of stream {stream_id} is None")
            ref = self.row_refs + self.row_count
            ref.stream_id, ref.row = stream_id, <const uint8_t *>PyBytes_AS_STRING(row)
            ref.row_size = <uint64_t>PyBytes_GET_SIZE(row)
            if self.row_count > 0 and ref.stream_id <= self.row_refs[self.row_count - 1].stream_id:
                raise ValueError(f"the row of stream {stream_id} is out of order")
            self.row_count += 1
            if self.row_count % ROWS_AT_ONCE == 0:
                with nogil:
                    pass                # let a thread that waits for the GIL have it
        return 0

    cdef int take_records(self, dropped) except -1:
        cdef const uint64_t[::1] ids = array.array("Q", sorted(dropped))
        cdef uint64_t dropped_count = <uint64_t>ids.shape[0], index = 0
        cdef const uint64_t *first = &ids[0] if dropped_count else NULL
        cdef const RecordHeader *header
        cdef const char *wrong
        cdef size_t count = <size_t>self.batch.count
        self.order = <Ordered *>malloc((count + 1) * sizeof(Ordered))
        self.runs = <Run *>malloc((count + 1) * sizeof(Run))
        if self.order == NULL or self.runs == NULL:
            raise MemoryError
        with nogil:
            wrong = self.sort(first, dropped_count, &index)
        if wrong != NULL:
            header = self.batch.refs[index].header
            raise ValueError(
                f"stream {header.stream_id}, LSN {header.lsn}, position {header.base}:"
                f" {wrong.decode()}"
            )
        return 0

    cdef const char *sort(
        self, const uint64_t *dropped, uint64_t dropped_count, uint64_t *index
    ) noexcept nogil:
        """Order the records that have data. Returns what is wrong with ``index``, or NULL."""
        cdef uint64_t at
        cdef const RecordHeader *header
        cdef const char *wrong
        for at in range(<uint64_t>self.batch.count):
            header = self.batch.refs[at].header
            if header.data_size == 0 or contains(dropped, dropped_count, header.stream_id):
                continue
            self.order[self.order_count].stream_id = header.stream_id
            self.order[self.order_count].index = at
            self.order_count += 1
        qsort(self.order, self.order_count, sizeof(Ordered), compare)
        for at in range(self.order_count):
            index[0] = self.order[at].index
            wrong = self.append_record(at)
            if wrong != NULL:
                return wrong
        return NULL

    cdef const char *append_record(self, uint64_t at) noexcept nogil:
        cdef const RecordRef *record = self.batch.refs + self.order[at].index
        cdef const RecordHeader *header = record.header
        cdef Run *run = self.runs + self.run_count - 1
        if not sizes_add_up(record):
            return b"the message sizes are not those of the data"
        if self.run_count == 0 or run.stream_id != header.stream_id:
            run = self.runs + self.run_count
            self.run_count += 1
            run.stream_id, run.first, run.message_count = header.stream_id, at, 0
            run.base = run.end = header.base
        elif header.base != run.end:
            return b"not where the stream's record before it ends"
        run.end += header.data_size
        run.message_count += header.message_count
        run.behind = at + 1
        return NULL

    cdef int check_runs(self) except -1:
        """Each run of records needs a row; both are sorted."""
        cdef uint64_t at, row_at = 0
        for at in range(self.run_count):
            while (
                row_at < self.row_count
                and self.row_refs[row_at].stream_id < self.runs[at].stream_id
            ):
                row_at += 1
            if (
                row_at == self.row_count
                or self.row_refs[row_at].stream_id != self.runs[at].stream_id
            ):
                raise ValueError(f"stream {self.runs[at].stream_id} has records, but no row")
        return 0

    # -- writing ---------------------------------------------------------------------------------

    cdef int64_t advance(self) noexcept nogil:
        cdef uint64_t slices = self.writer.slice_count
        cdef int64_t result = 0
        while result == 0 and self.phase != WRITTEN and self.writer.slice_count == slices:
            if self.phase == NEXT_EXTENT:
                result = self.next_extent()
            elif self.phase == WIRE_BYTES:
                result = self.wire_bytes()
            else:
                result = self.message_ends()
        return result

    cdef int64_t next_extent(self) noexcept nogil:
        cdef RowRef *row = self.row_refs + self.row_at
        cdef Run *run = self.runs + self.run_at
        cdef int64_t result
        if self.row_at == self.row_count:
            self.phase = WRITTEN
            return 0
        if self.run_at < self.run_count and run.stream_id == row.stream_id:
            self.order_at, self.offset, self.phase = run.first, 0, WIRE_BYTES
            return self.writer.begin_extent(
                row.stream_id, run.base, run.end, run.message_count, row.row, row.row_size
            )
        self.row_at += 1
        result = self.writer.begin_extent(row.stream_id, 0, 0, 0, row.row, row.row_size)
        return self.writer.end_extent(row.row, row.row_size) if result == 0 else result

    cdef int64_t wire_bytes(self) noexcept nogil:
        """One record's bytes, or 64 KiB of them."""
        cdef Run *run = self.runs + self.run_at
        cdef const RecordRef *record
        cdef uint64_t size
        cdef int64_t result
        if self.order_at == run.behind:
            self.order_at, self.offset, self.phase = run.first, 0, MESSAGE_ENDS
            self.position = run.base
            return self.writer.begin_ends()
        record = self.batch.refs + self.order[self.order_at].index
        size = min(<uint64_t>record.header.data_size - self.offset, <uint64_t>64 * 1024)
        result = self.writer.put_blocks(record.data + self.offset, size)
        self.offset += size
        if self.offset == record.header.data_size:
            self.order_at += 1
            self.offset = 0
        return result

    cdef int64_t message_ends(self) noexcept nogil:
        """Some hundred ends of one run; behind the last the row."""
        cdef uint64_t[ENDS_AT_ONCE] ends
        cdef Run *run = self.runs + self.run_at
        cdef RowRef *row = self.row_refs + self.row_at
        cdef const RecordRef *record
        cdef uint64_t count = 0
        cdef bint last
        while count < ENDS_AT_ONCE and self.order_at < run.behind:
            record = self.batch.refs + self.order[self.order_at].index
            last = self.offset + 1 == record.header.message_count
            self.position += (
                record.header.data_size if record.sizes == NULL else record.sizes[self.offset]
            )
            ends[count] = self.position << 1 | last
            count += 1
            self.offset += 1
            if last:
                self.order_at += 1
                self.offset = 0
        if count > 0:
            return self.writer.put_blocks(ends, 8 * count)
        self.row_at += 1
        self.run_at += 1
        self.phase = NEXT_EXTENT
        return self.writer.end_extent(row.row, row.row_size)


def flush(disk, path, batch, rows, dropped, *, store_id, number, after_lsn, upto_lsn):
    """Write a segment in one go. See ``Flush``; whatever fails, no file stays."""
    whole = Flush(
        disk, path, batch, rows, dropped, store_id=store_id, number=number,
        after_lsn=after_lsn, upto_lsn=upto_lsn,
    )
    return whole.finish()
