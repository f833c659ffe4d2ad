cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from .committer cimport Committer, FileUse
from .disk cimport Disk
from .slab cimport Slab, SlabMemory
from .tail cimport Tail


@cython.final
cdef class Log:
    cdef Disk disk
    cdef readonly str directory
    cdef bytes raw_directory        # what the committer's C strings point into
    cdef bytes store_id
    cdef Committer committer
    cdef uint64_t wal_size_max      # bytes
    cdef uint64_t slab_size         # bytes
    cdef uint64_t backlog_size_max  # bytes
    cdef readonly uint64_t record_size_max
    cdef readonly uint64_t next_lsn
    cdef readonly uint64_t staged_lsn
    cdef readonly uint64_t unflushed_size   # bytes of the slabs that were not released
    cdef list slabs                 # oldest first; the last is being filled
    cdef SlabMemory slab_memory     # of these, and of those that only readers still hold
    cdef Slab current               # the last of ``slabs``, or None
    cdef uint64_t filled_size       # bytes of filling.wal that this process has synced
    cdef bint open                  # recovered, and not closed
    cdef tuple refusal              # (errno, what) of a recovery that found damage

    cdef uint8_t *room(self, uint64_t size, uint64_t lsn) except NULL
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
    ) except 0
    cdef uint64_t stage_record(
        self,
        int kind,
        uint64_t stream_id,
        uint64_t base,
        const void *meta,
        uint64_t meta_size,
        const void *data,
        uint64_t data_size,
        const uint32_t *sizes,      # NULL: one message
        uint64_t count,
        Tail tail,
    ) except 0
    cdef int check_room(self, uint64_t size) except -1
    cdef int check_open(self) except -1
    cdef int dispose(self, FileUse *file) except -1
    cdef bint drop_filling(self) except -1
