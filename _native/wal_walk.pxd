cimport cython
from libc.stdint cimport uint8_t, uint64_t

from .disk cimport Disk
from .wal_format cimport FrameHeader
from .wal_reader cimport WalFile


@cython.final
cdef class WalWalk:
    cdef Disk disk
    cdef readonly str directory
    cdef bytes store_id
    cdef readonly dict files        # sequence -> WalFile
    cdef readonly list chain        # (sequence, bytes used, filled) of every file walked
    cdef readonly list torn, damage, harmless
    cdef WalFile file               # where the walk stands; None before the start and if fresh
    cdef readonly uint64_t position
    cdef readonly uint64_t expected_lsn
    cdef readonly uint64_t last_lsn     # of the last record walked, or the checkpoint's
    # Everything before cut_position of cut_file was certainly durable; its last record is
    # base_lsn.
    cdef readonly uint64_t base_lsn
    cdef list successors            # files whose predecessor is ``file``, oldest first
    cdef WalFile cut_file
    cdef readonly uint64_t cut_position
    # The frame that ``advance`` stopped at.
    cdef const uint8_t *records
    cdef readonly uint64_t records_size
    cdef readonly bint body_bad     # some record's body is damaged: check each

    cdef bint advance(self) except -1
    cdef void accept(self) noexcept
    cdef void mark_proven(self) noexcept
    cdef int enter(self, WalFile file) except -1
    cdef int stand_in(self, WalFile file) except -1
    cdef WalFile replacement(self)
    cdef int follow_link(self, const FrameHeader *link) except -1
    cdef int blame_file(self, str path, str what) except -1
    cdef bint proven_later(self, uint64_t position, uint64_t lsn) except -1
    cdef bint look_ahead(self) except -1
    cdef bint skip_to(self, uint64_t found) except -1
    cdef int tear(self) except -1
    cdef int blame(self, uint64_t last_lsn, str what) except -1
    cdef int leave(self) except -1
