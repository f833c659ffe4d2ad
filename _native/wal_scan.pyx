"""Look at every record of the log behind a checkpoint, without recovering it.

Source: docs/format-wal.md, "Recovery", whose walk this is. For tools that verify and inspect:
it only reads, and keeps nothing but the file that it stands in.
"""
cimport cython
from libc.stdint cimport uint8_t, uint64_t

from .disk cimport Disk
from .record cimport RecordHeader, RecordRef, record_ref
from .wal_format cimport FRAME_HEADER_SIZE, FrameHeader, record_body_valid
from .wal_reader cimport WalFile
from .wal_walk cimport WalWalk

from .wal_types import Damage, ScannedFrame, ScannedRecord


@cython.final
cdef class WalScan:
    """See the stub."""
    cdef readonly WalWalk walk
    cdef uint64_t floor
    cdef bint ended

    def __cinit__(
        self, Disk disk not None, str directory not None, bytes store_id not None, checkpoint
    ):
        self.walk = WalWalk(disk, directory, store_id)
        self.floor = checkpoint.lsn if checkpoint is not None else 0
        self.walk.begin(checkpoint)

    def __iter__(self):
        return self

    def __next__(self):
        if self.ended or not self.walk.advance():
            self.end()
            raise StopIteration
        return self.scanned()

    cdef int end(self) except -1:
        cdef WalWalk walk = self.walk
        if not self.ended and walk.last_lsn < self.floor and not walk.damage:
            walk.damage.append(Damage(
                walk.directory, 0, walk.last_lsn + 1, self.floor,
                "the log ends before the checkpoint",
            ))
        self.ended = True
        return 0

    cdef object scanned(self):
        """The frame that the walk stands behind."""
        cdef WalFile file = self.walk.file
        cdef const uint8_t *record = self.walk.records
        cdef const uint8_t *end = record + self.walk.records_size
        cdef const FrameHeader *frame = <const FrameHeader *>(record - FRAME_HEADER_SIZE)
        records = []
        while record < end:
            if (<const RecordHeader *>record).lsn > self.floor:
                records.append(self.scanned_record(record, record - file.memory))
            record += (<const RecordHeader *>record).size
        return ScannedFrame(
            file.path, <const uint8_t *>frame - file.memory, frame.first_lsn, frame.watermark,
            frame.size, frame.record_count, records,
        )

    cdef object scanned_record(self, const uint8_t *record, uint64_t position):
        cdef RecordRef ref = record_ref(record)
        cdef bint damaged = self.walk.body_bad and not record_body_valid(ref.header)
        cdef bytes meta = b""
        if not damaged:
            meta = (<const char *>ref.meta)[: ref.header.meta_size]
        return ScannedRecord(
            ref.header.lsn, ref.header.kind, ref.header.stream_id, ref.header.base,
            ref.header.data_size, ref.header.message_count, meta, position, damaged,
        )
