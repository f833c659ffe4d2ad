"""Read one file of the log: is its header right, is this a frame, is there one further on.

Source: docs/format-wal.md, "Reading". It judges bytes only: what a bad frame means depends on
what comes after it, in this file and in others, and is for wal_walk to say. Nothing read here
is trusted before its checksum and its bounds were checked.
"""
cimport cython
from libc.errno cimport EIO
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

import os

from .checksum cimport xxh64_of
from .disk cimport disk_read_all
from .record cimport RecordHeader
from .wal_format cimport (
    FILE_FLAG_FILLED,
    FILE_KIND_RECOVERY,
    FILE_KIND_ROLL,
    FRAME_HEADER_SIZE,
    FRAME_MAGIC,
    WAL_PAGE_SIZE,
    WAL_SEALED_SIZE,
    WAL_VERSION,
    frame_header_valid,
    frame_shape_valid,
    frame_span,
    record_body_valid,
    record_header_valid,
    wal_magic,
)

cdef enum:
    READ_PIECE_SIZE = 1048576       # bytes: an unreadable place costs the rest from there on


@cython.final
cdef class WalFile:
    def __cinit__(self):
        self.memory = NULL

    def __dealloc__(self):
        free(self.memory)

    @staticmethod
    def examine(Disk disk, str path, uint64_t sequence, bytes store_id):
        """Read and judge the header only; trouble with it ends up in ``problem``."""
        cdef WalFile file = WalFile()
        file.path = path
        file.sequence = sequence
        fd = disk.open(path, os.O_RDONLY)
        try:
            page = disk.pread(fd, WAL_PAGE_SIZE, 0)
            file.problem = file.judge(page, disk.size(fd), store_id)
        except OSError as error:
            if error.errno != EIO:
                raise
            file.problem = "header cannot be read"
        finally:
            disk.close(fd)
        return file

    def judge(self, bytes page, uint64_t size, bytes store_id):
        cdef const uint8_t *raw = page
        if len(page) < WAL_PAGE_SIZE:
            return "shorter than its header"
        memcpy(&self.header, raw, sizeof(self.header))
        if self.header.magic != wal_magic():
            return "not a file of the log"
        if self.header.checksum != xxh64_of(raw, WAL_SEALED_SIZE - 8, 0):
            return "header checksum mismatch"
        if self.header.version != WAL_VERSION:
            return f"format version {self.header.version} is not known"
        if memcmp(self.header.store_id, <const uint8_t *>store_id, 16) != 0:
            return "belongs to another store"
        if self.header.sequence != self.sequence:
            return f"is file {self.header.sequence} under another name"
        if size < self.header.size:
            return f"cut off: {size} of {self.header.size} bytes"
        return None if self.fields_valid() else "header fields contradict each other"

    cdef bint fields_valid(self) noexcept:
        cdef const WalFileHeader *header = &self.header
        if header.kind != FILE_KIND_ROLL and header.kind != FILE_KIND_RECOVERY:
            return False
        if header.flags & ~FILE_FLAG_FILLED or header.size % WAL_PAGE_SIZE:
            return False
        if header.kept_end % WAL_PAGE_SIZE or header.kept_end < WAL_PAGE_SIZE:
            return False
        return (
            header.kept_end <= header.size
            and header.predecessor_sequence < header.sequence
            and header.base_lsn < header.first_lsn
            and header.base_lsn <= header.kept_lsn < header.resume_lsn
        )

    # What Python callers (tools, tests) may see of the header.

    @property
    def kind(self):
        return self.header.kind

    @property
    def size(self):
        return self.header.size

    @property
    def incarnation(self):
        return self.header.incarnation

    @property
    def base_lsn(self):
        return self.header.base_lsn

    @property
    def first_lsn(self):
        return self.header.first_lsn

    @property
    def filled(self):
        return bool(self.header.flags & FILE_FLAG_FILLED)

    # -- contents -------------------------------------------------------------------------

    cdef int load(self, Disk disk) except -1:
        """Read the whole file. What cannot be read is zero, and behind ``readable``."""
        cdef uint64_t size = self.header.size, done = 0
        cdef int64_t got = 0
        cdef int fd
        self.unload()
        self.memory = <uint8_t *>malloc(size)
        if self.memory == NULL:
            raise MemoryError(f"no memory to read {self.path}, {size} bytes")
        fd = disk.open(self.path, os.O_RDONLY)
        with nogil:
            while done < size:
                got = disk_read_all(
                    &disk.ops, disk.context, fd, self.memory + done,
                    min(<uint64_t>READ_PIECE_SIZE, size - done), done,
                )
                if got <= 0:
                    break
                done += <uint64_t>got
            memset(self.memory + done, 0, size - done)
        self.readable = done
        disk.close(fd)
        return 0

    cdef void unload(self) noexcept:
        free(self.memory)
        self.memory = NULL

    cdef const FrameHeader *frame(self, uint64_t position) noexcept nogil:
        return <const FrameHeader *>(self.memory + position)

    cdef FrameVerdict check_frame(
        self, uint64_t position, uint64_t lsn_min, uint64_t lsn_max
    ) noexcept nogil:
        """Judge the frame at ``position``, whose first LSN must be within the two bounds."""
        cdef const FrameHeader *header
        cdef const uint8_t *record
        cdef uint64_t left, lsn
        cdef uint32_t _
        cdef bint bodies_valid = True
        if position >= self.header.size:
            return FRAME_HEADER_BAD
        header = self.frame(position)
        if not frame_header_valid(header, position, self.header.incarnation):
            return FRAME_HEADER_BAD
        if not frame_shape_valid(header, position, self.header.size):
            return FRAME_HEADER_BAD
        if not lsn_min <= header.first_lsn <= lsn_max:
            return FRAME_HEADER_BAD
        record = <const uint8_t *>header + FRAME_HEADER_SIZE
        left, lsn = header.size, header.first_lsn
        for _ in range(header.record_count):
            if not record_header_valid(<const RecordHeader *>record, left, lsn):
                return FRAME_RECORDS_BAD
            if not record_body_valid(<const RecordHeader *>record):
                bodies_valid = False
            left -= (<const RecordHeader *>record).size
            record += (<const RecordHeader *>record).size
            lsn += 1
        if left != 0:
            return FRAME_RECORDS_BAD
        return FRAME_GOOD if bodies_valid else FRAME_BODY_BAD

    cdef uint64_t find_frame(self, uint64_t position) noexcept nogil:
        """The first place at or behind ``position`` with a valid frame header; 0 if none."""
        while position < self.header.size:
            if frame_header_valid(self.frame(position), position, self.header.incarnation):
                return position
            position += WAL_PAGE_SIZE
        return 0

    cdef bint reaches(self, uint64_t position) noexcept nogil:
        """Whether frames of this use of the file, damaged or not, lead up to ``position``."""
        cdef uint64_t at = WAL_PAGE_SIZE, end = WAL_PAGE_SIZE
        while at < position:
            if frame_header_valid(self.frame(at), at, self.header.incarnation):
                end = at = at + frame_span(self.frame(at).size)
            else:
                at += WAL_PAGE_SIZE
        return end == position or (end < position and self.looks_torn(end))

    cdef bint looks_torn(self, uint64_t position) noexcept nogil:
        """Whether a write was begun here in this use of the file."""
        if position >= self.header.size:
            return False
        cdef const FrameHeader *header = self.frame(position)
        return header.magic == FRAME_MAGIC and header.incarnation == self.header.incarnation

    cdef uint64_t torn_size(self, uint64_t position) noexcept nogil:
        """How much of the file the write begun at ``position`` may have reached."""
        cdef uint64_t rest = self.header.size - position
        return min(rest, frame_span(self.frame(position).size))
