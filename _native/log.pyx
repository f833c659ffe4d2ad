"""The write-ahead log: stage records, wait until they are durable, hand them to the flusher.

Source: docs/architecture.md, "Append"; docs/format-wal.md. Records are copied into slabs under
the GIL; the committer (committer.pyx) writes them without it. This module must never call an
LSN durable that the committer did not sync (I1), nor let go of a slab that was not flushed.
"""
cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_SIMPLE
from cpython.buffer cimport PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset

import os

from .committer cimport (
    COMMIT_FRAME_SIZE_MAX,
    SPARE_NONE,
    SPARE_READY,
    committer_claim_spare,
    committer_drop_file,
    committer_free,
    committer_init,
    committer_push,
    committer_reserve,
    committer_run,
    committer_set_spare,
    committer_step,
    committer_wait,
    committer_watermark_due,
    load_shared,
    monitor_enter,
    monitor_leave,
)
from .committer_control cimport (
    CommitterFacts,
    committer_add_wake_fd,
    committer_begin_running,
    committer_close,
    committer_end_running,
    committer_facts,
    committer_remove_wake_fd,
    committer_stop,
)
from .record cimport (
    RECORD_FLAG_SIZES,
    RECORD_HEADER_SIZE,
    RecordBatch,
    RecordHeader,
    check_sizes,
    copy_padded,
    padded,
)
from .tail cimport Tail
from .wal_format cimport FRAME_HEADER_SIZE, WAL_PAGE_SIZE, WAL_STORE_ID_SIZE
from .wal_writer cimport WAL_PATH_SIZE_MAX, wal_close

from .errors import LogClosed, LogFailed, LogFull, RecordTooLarge
from .wal_types import Checkpoint

cdef enum:
    FILL_SLICE_SIZE = 1048576       # bytes
    WAIT_SLICE = 250000000          # ns: how often a waiting main thread looks for signals


# no_gc_clear: the disk must still be there when __dealloc__ closes the file through it.
@cython.no_gc_clear
@cython.final
cdef class Log:
    def __cinit__(
        self,
        Disk disk not None,
        directory,
        bytes store_id not None,
        *,
        uint64_t file_size,
        uint64_t wal_size_max,
        uint64_t slab_size,
        uint64_t backlog_size_max,
        double idle_watermark_delay,
    ):
        self.disk = disk
        self.directory = os.fspath(directory)
        self.raw_directory = os.fsencode(directory)
        if len(self.raw_directory) > WAL_PATH_SIZE_MAX - 64:
            raise ValueError(f"{self.directory}: path too long for the log")
        if len(store_id) != WAL_STORE_ID_SIZE:
            raise ValueError(f"a store id has {WAL_STORE_ID_SIZE} bytes, not {len(store_id)}")
        if file_size % WAL_PAGE_SIZE or not 4 * WAL_PAGE_SIZE <= file_size < 2**32:
            raise ValueError(
                f"file_size {file_size} is not a multiple of {WAL_PAGE_SIZE} bytes"
                f" from {4 * WAL_PAGE_SIZE} up to 4 GiB"
            )
        # The header page, the page kept for the LINK frame, and the frame's own header.
        self.record_size_max = file_size - 2 * WAL_PAGE_SIZE - FRAME_HEADER_SIZE
        if not RECORD_HEADER_SIZE <= slab_size <= self.record_size_max:
            raise ValueError(
                f"slab_size {slab_size} does not fit into a file of {file_size} bytes"
                f" (file_size): at most {self.record_size_max}"
            )
        self.store_id = store_id
        self.wal_size_max = wal_size_max
        self.slab_size = slab_size
        self.backlog_size_max = backlog_size_max
        if committer_init(
            &self.committer, &disk.ops, disk.context, PyBytes_AS_STRING(self.raw_directory)
        ):
            raise MemoryError("no memory for the log's monitor")
        self.committer.file_size = file_size
        self.committer.frame_size_max = min(<uint64_t>COMMIT_FRAME_SIZE_MAX, self.record_size_max)
        self.committer.idle_delay = <int64_t>(idle_watermark_delay * 1e9)
        self.slabs = []
        self.slab_memory = SlabMemory()
        self.current = None
        self.next_lsn = 1
        self.open = False

    def __dealloc__(self):
        if self.disk is not None and self.committer.writer.ops != NULL:
            wal_close(&self.committer.writer)
            committer_free(&self.committer)

    def recover(self, checkpoint, sink, objection=None):
        from .recovery import recover       # it needs this type in turn

        return recover(self, checkpoint, sink, objection)

    # -- staging --------------------------------------------------------------------------

    @staticmethod
    def record_size(uint64_t meta_size, uint64_t data_size, uint64_t message_count=1):
        cdef uint64_t sizes = padded(4 * message_count) if message_count > 1 else 0
        return RECORD_HEADER_SIZE + sizes + padded(meta_size) + padded(data_size)

    def stage(
        self,
        int kind,
        uint64_t stream_id,
        uint64_t base,
        bytes meta not None,
        data=None,
        message_sizes=None,
        Tail tail=None,
    ):
        cdef Py_buffer view
        PyObject_GetBuffer(b"" if data is None else data, &view, PyBUF_SIMPLE)
        try:
            return self.stage_data(
                kind, stream_id, base, PyBytes_AS_STRING(meta), <uint64_t>PyBytes_GET_SIZE(meta),
                view.buf, view.len, message_sizes, tail,
            )
        finally:
            PyBuffer_Release(&view)

    cdef uint64_t stage_data(
        self,
        int kind,
        uint64_t stream_id,
        uint64_t base,
        const void *meta,
        uint64_t meta_size,
        const void *data,
        uint64_t data_size,
        object message_sizes,
        Tail tail,
    ) except 0:
        cdef Py_buffer view
        if message_sizes is None:
            return self.stage_record(
                kind, stream_id, base, meta, meta_size, data, data_size, NULL, data_size > 0, tail
            )
        PyObject_GetBuffer(message_sizes, &view, PyBUF_FORMAT | PyBUF_ND)
        try:
            check_sizes(&view, data_size)
            return self.stage_record(
                kind, stream_id, base, meta, meta_size, data, data_size,
                <const uint32_t *>view.buf, <uint64_t>(view.len // 4), tail,
            )
        finally:
            PyBuffer_Release(&view)

    cdef uint64_t stage_record(
        self,
        int kind,
        uint64_t stream_id,
        uint64_t base,
        const void *meta,
        uint64_t meta_size,
        const void *data,
        uint64_t data_size,
        const uint32_t *sizes,
        uint64_t count,
        Tail tail,
    ) except 0:
        cdef uint64_t sizes_size = padded(4 * count) if count > 1 else 0
        cdef uint64_t size = RECORD_HEADER_SIZE + sizes_size + padded(meta_size)
        cdef uint64_t data_at = size
        size += padded(data_size)
        self.check_open()
        if not 1 <= kind <= 255:
            raise ValueError(f"record kind {kind} is not within 1 and 255")
        self.check_room(size)
        # All that can fail comes before the first change.
        if tail is not None and data_size > 0:
            tail.reserve(base, count)
        if committer_reserve(&self.committer):
            raise MemoryError("no memory for the queue of the log")
        cdef uint64_t lsn = self.next_lsn
        cdef uint8_t *record = self.room(size, lsn)
        cdef RecordHeader *header = <RecordHeader *>record
        memset(record, 0, RECORD_HEADER_SIZE)
        header.lsn = lsn
        header.stream_id = stream_id
        header.base = base
        header.size = <uint32_t>size
        header.data_size = <uint32_t>data_size
        header.meta_size = <uint32_t>meta_size
        header.message_count = <uint32_t>count
        header.kind = <uint8_t>kind
        header.flags = RECORD_FLAG_SIZES if count > 1 else 0
        copy_padded(record + RECORD_HEADER_SIZE, sizes, 4 * count if count > 1 else 0)
        copy_padded(record + RECORD_HEADER_SIZE + sizes_size, meta, meta_size)
        copy_padded(record + data_at, data, data_size)
        if tail is not None and data_size > 0:
            tail.add(
                self.current, record + data_at, data_size,
                sizes if count > 1 else NULL, <uint32_t>count,
            )
        self.unflushed_size += size
        self.staged_lsn = lsn
        self.next_lsn = lsn + 1
        committer_push(&self.committer, record, size, lsn)
        return lsn

    cdef int check_open(self) except -1:
        if self.open and not committer_facts(&self.committer).error:
            return 0
        failure = self.failure
        if failure is not None:
            raise LogFailed(*failure)
        raise LogClosed("the log is not open: recover() comes first, and nothing after close()")

    @property
    def stall(self):
        return committer_facts(&self.committer).stall

    cdef int check_room(self, uint64_t size) except -1:
        if size > self.record_size_max:
            raise RecordTooLarge(
                f"a record of {size} bytes does not fit into a log file of"
                f" {self.committer.file_size}: at most {self.record_size_max} (file_size)"
            )
        cdef CommitterFacts facts = committer_facts(&self.committer)
        if facts.stall:
            raise LogFull(f"no next file of the log: {os.strerror(facts.stall)}")
        if self.unflushed_size > 0 and self.unflushed_size + size > self.backlog_size_max:
            raise LogFull(
                f"{self.unflushed_size} bytes wait to be flushed; {self.backlog_size_max} may"
                " (backlog_size_max)"
            )
        cdef uint64_t used = facts.used + facts.queued_size
        if used + size > self.wal_size_max and facts.file_count > 1:
            raise LogFull(
                f"the log's files hold {used} bytes; {self.wal_size_max} may (wal_size_max):"
                " a flush frees them"
            )
        return 0

    cdef uint8_t *room(self, uint64_t size, uint64_t lsn) except NULL:
        """Memory for a record, in a new slab if the current one is full."""
        cdef uint8_t *record = NULL
        if self.current is not None:
            record = self.current.take(size, lsn)
        if record == NULL:
            slab = Slab(max(self.slab_size, size), self.slab_memory)
            self.slabs.append(slab)
            self.current = slab
            record = self.current.take(size, lsn)
        return record

    # -- durability -----------------------------------------------------------------------

    @property
    def durable_lsn(self):
        return load_shared(&self.committer.durable_lsn)

    def wait(self, uint64_t lsn, timeout=None):
        cdef int64_t left = -1 if timeout is None else <int64_t>(max(0.0, timeout) * 1e9)
        cdef int64_t slice_
        cdef int outcome
        if load_shared(&self.committer.durable_lsn) >= lsn:
            return True
        if self.refusal is not None:
            raise LogFailed(*self.refusal)
        while True:
            slice_ = WAIT_SLICE if left < 0 else min(left, <int64_t>WAIT_SLICE)
            with nogil:
                outcome = committer_wait(&self.committer, lsn, slice_)
            if outcome < 0:
                self.check_open()       # says why nothing will come any more
            if outcome > 0:
                return True
            if left >= 0:
                left -= slice_
                if left <= 0:
                    return False
            PyErr_CheckSignals()

    def commit_step(self, *, bint idle=False):
        cdef bint worked
        if committer_facts(&self.committer).running:
            raise RuntimeError("run() is committing in another thread")
        with nogil:
            worked = committer_step(
                &self.committer, idle and committer_watermark_due(&self.committer)
            )
        return worked

    def run(self):
        if not self.open:
            raise ValueError("the log is not open: recover() comes first")
        if not committer_begin_running(&self.committer):
            raise RuntimeError("run() is committing in another thread")
        try:
            with nogil:
                committer_run(&self.committer)
        finally:
            committer_end_running(&self.committer)

    def stop(self):
        committer_stop(&self.committer)

    @property
    def failure(self):
        if self.refusal is not None:
            return self.refusal
        monitor_enter(&self.committer.monitor)
        cdef int error = self.committer.error
        cdef const char *at = self.committer.error_at
        cdef uint64_t sequence = self.committer.error_sequence
        monitor_leave(&self.committer.monitor)
        if not error:
            return None
        what = (<bytes>at).decode() if at != NULL else "the log"
        return (error, f"{what} ({self.directory}/{sequence:020d}.wal)")

    def add_wake_fd(self, int fd):
        if committer_add_wake_fd(&self.committer, fd):
            raise MemoryError("no memory for one more descriptor to wake")

    def remove_wake_fd(self, int fd):
        committer_remove_wake_fd(&self.committer, fd)

    # -- flushing -------------------------------------------------------------------------

    def durable_point(self):
        monitor_enter(&self.committer.monitor)
        cdef uint64_t lsn = self.committer.durable_lsn
        cdef uint64_t sequence = self.committer.point_sequence
        cdef uint64_t position = self.committer.point_position
        monitor_leave(&self.committer.monitor)
        return Checkpoint(lsn, sequence, position)

    def collect(self, uint64_t after_lsn, uint64_t upto_lsn):
        if upto_lsn > load_shared(&self.committer.durable_lsn):
            raise ValueError(f"LSN {upto_lsn} is not durable yet")
        cdef RecordBatch batch = RecordBatch()
        cdef Slab slab
        cdef const RecordHeader *header
        cdef uint64_t position
        for slab in self.slabs:
            if slab.last_lsn <= after_lsn or slab.first_lsn > upto_lsn:
                continue
            batch.owners.append(slab)
            position = 0
            while position < slab.used:
                header = <const RecordHeader *>(slab.memory + position)
                if header.lsn > upto_lsn:
                    break
                if header.lsn > after_lsn:
                    batch.push(slab.memory + position)
                position += header.size
        return batch

    def release(self, checkpoint):
        cdef uint64_t lsn = checkpoint.lsn
        cdef uint64_t sequence = checkpoint.file_sequence
        cdef Slab slab
        cdef FileUse dropped
        if lsn > load_shared(&self.committer.durable_lsn):
            raise ValueError(f"LSN {lsn} is not durable yet")
        while self.slabs and (<Slab>self.slabs[0]).last_lsn <= lsn:
            slab = self.slabs.pop(0)
            self.unflushed_size -= slab.used
            if slab is self.current:
                self.current = None
        while committer_drop_file(&self.committer, sequence, &dropped):
            self.dispose(&dropped)

    @property
    def pinned_size(self):
        cdef Slab slab
        cdef uint64_t size = self.slab_memory.size
        for slab in self.slabs:
            size -= slab.capacity
        return size

    cdef int dispose(self, FileUse *file) except -1:
        """A file that nobody needs becomes the spare, or goes."""
        path = f"{self.directory}/{file.sequence:020d}.wal"
        if not file.filled or not committer_claim_spare(&self.committer, SPARE_NONE):
            self.disk.unlink(path)
            return 0
        cdef bint renamed = False
        try:
            self.disk.rename(path, f"{self.directory}/spare.wal")
            renamed = True
            self.drop_filling()
        finally:
            committer_set_spare(&self.committer, SPARE_READY if renamed else SPARE_NONE)
        return 0

    def prepare_spare_step(self):
        if not self.open or committer_facts(&self.committer).error:
            return False
        if not committer_claim_spare(&self.committer, SPARE_NONE):
            return False
        cdef bint done = False
        try:
            done = self.fill_spare_slice()
        finally:
            committer_set_spare(&self.committer, SPARE_READY if done else SPARE_NONE)
        return not done

    def discard_unfinished_spare(self):
        if not committer_claim_spare(&self.committer, SPARE_NONE):
            return False
        try:
            return self.drop_filling()
        finally:
            committer_set_spare(&self.committer, SPARE_NONE)

    cdef bint drop_filling(self) except -1:
        """Unlink a spare that is not whole; False if there is none. For who claimed the spare."""
        path = f"{self.directory}/filling.wal"
        found = self.disk.exists(path)
        if found:
            self.disk.unlink(path)
        self.filled_size = 0
        return found

    def fill_spare_slice(self):
        """Write the next zeroes; True if the spare is whole, and so has its name."""
        cdef uint64_t start = self.filled_size
        cdef uint64_t end = min(start + FILL_SLICE_SIZE, self.committer.file_size)
        path = f"{self.directory}/filling.wal"
        fd = self.disk.open(path, os.O_RDWR | os.O_CREAT | (0 if start else os.O_TRUNC))
        try:
            self.disk.pwrite(fd, bytes(end - start), start)
            self.disk.sync(fd)          # if it fails, they are all written again
        finally:
            self.disk.close(fd)
        self.filled_size = end if end < self.committer.file_size else 0
        if self.filled_size:
            return False
        self.disk.rename(path, f"{self.directory}/spare.wal")
        return True

    @property
    def wal_size(self):
        return committer_facts(&self.committer).used

    @property
    def file_count(self):
        return committer_facts(&self.committer).file_count

    @property
    def commits(self):
        return committer_facts(&self.committer).commit_count

    @property
    def syncs(self):
        return committer_facts(&self.committer).sync_count

    def close(self):
        cdef CommitterFacts facts = committer_facts(&self.committer)
        if facts.running or facts.committing:
            raise RuntimeError("run() is still committing: stop() it and join its thread first")
        self.open = False
        committer_close(&self.committer)
        self.slabs = []
        self.current = None
        wal_close(&self.committer.writer)
