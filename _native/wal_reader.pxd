cimport cython
from libc.stdint cimport uint8_t, uint64_t

from .disk cimport Disk
from .wal_format cimport FrameHeader, WalFileHeader

cdef enum FrameVerdict:
    FRAME_GOOD
    FRAME_BODY_BAD                  # the headers are right, the body of some record is not
    FRAME_RECORDS_BAD               # the frame's header is right, some record's is not
    FRAME_HEADER_BAD                # no frame of this use of the file


@cython.final
cdef class WalFile:
    cdef readonly str path
    cdef readonly uint64_t sequence
    cdef readonly str problem       # why the header cannot be used; None if it can
    cdef WalFileHeader header
    cdef uint8_t *memory            # the whole file while loaded, else NULL
    cdef readonly uint64_t readable  # bytes from the start that could be read

    cdef bint fields_valid(self) noexcept
    cdef int load(self, Disk disk) except -1
    cdef void unload(self) noexcept
    cdef const FrameHeader *frame(self, uint64_t position) noexcept nogil
    cdef FrameVerdict check_frame(
        self, uint64_t position, uint64_t lsn_min, uint64_t lsn_max
    ) noexcept nogil
    cdef uint64_t find_frame(self, uint64_t position) noexcept nogil
    cdef bint reaches(self, uint64_t position) noexcept nogil
    cdef bint looks_torn(self, uint64_t position) noexcept nogil
    cdef uint64_t torn_size(self, uint64_t position) noexcept nogil
