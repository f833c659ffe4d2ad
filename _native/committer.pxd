# The committer: takes what was staged, writes it as one frame, syncs, publishes. No GIL.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint64_t

from .disk cimport DiskOps
from .wal_writer cimport WAL_PATH_SIZE_MAX, FrameContent, WalWriter

cdef extern from "monitor.h" nogil:
    ctypedef struct Monitor:
        pass
    int monitor_init(Monitor *monitor)
    void monitor_destroy(Monitor *monitor)
    void monitor_enter(Monitor *monitor)
    void monitor_leave(Monitor *monitor)
    int monitor_wait_work(Monitor *monitor, int64_t nanoseconds)
    int monitor_wait_durable(Monitor *monitor, int64_t nanoseconds)
    void monitor_signal_work(Monitor *monitor)
    void monitor_signal_durable(Monitor *monitor)
    uint64_t load_shared(const uint64_t *value)
    void store_shared(uint64_t *value, uint64_t stored)
    void wake_descriptor(int fd)

cdef enum:
    COMMIT_FRAME_SIZE_MAX = 4194304  # bytes of records in one frame, unless one record is larger
    STALL_RETRY_DELAY = 50000000    # ns between attempts to begin a file

cdef enum SpareState:
    SPARE_NONE
    SPARE_BUSY                      # somebody is making it, or taking it
    SPARE_READY


# Records that lie back to back in one slab and wait to be written.
cdef struct Span:
    uint8_t *data
    uint64_t size
    uint64_t first_lsn
    uint64_t record_count


cdef struct FileUse:
    uint64_t sequence
    uint64_t used                   # bytes, from the start
    bint filled


# Fields are the monitor's, but those marked: the *committer's* belong to whoever has set
# ``committing``; nobody reads them else.
cdef struct Committer:
    Monitor monitor
    WalWriter writer                # committer's
    uint64_t file_size              # constant, bytes of new files
    uint64_t frame_size_max         # constant, bytes of records
    int64_t idle_delay              # constant, ns
    uint64_t expected_lsn           # committer's: the first LSN of the next frame
    int64_t last_commit             # committer's: monotonic ns
    uint64_t proven_lsn             # committer's: the watermark that the last frame carries
    int shortage                    # committer's: errno of what kept the next file from its begin
    FrameContent held               # committer's: taken, and waiting until there is a file for it
    bint committing
    bint running
    bint stopping
    bint closed                     # nothing more will become durable
    bint sleeping
    int waiter_count
    Span *spans                     # a queue: staged, not taken
    size_t span_head, span_count, span_capacity
    uint64_t queued_size            # bytes of records, staged and not durable
    uint64_t durable_lsn            # also read with load_shared, without the monitor
    uint64_t point_sequence         # where the log stands at durable_lsn
    uint64_t point_position
    uint64_t commit_count
    uint64_t sync_count
    SpareState spare
    FileUse *files                  # in use, oldest first; the last is being written
    size_t file_count, file_capacity
    int stall                       # errno of what the log lacks at present to go on, or 0
    int error                       # errno of the failure that ended it all, or 0
    const char *error_at
    uint64_t error_sequence
    int *wake_fds
    size_t wake_count, wake_capacity


cdef int committer_init(
    Committer *committer, const DiskOps *ops, void *context, const char *directory
) noexcept nogil
cdef void committer_free(Committer *committer) noexcept nogil

# Staging: reserve may fail (-1: no memory), push after it cannot.
cdef int committer_reserve(Committer *committer) noexcept nogil
cdef void committer_push(
    Committer *committer, uint8_t *record, uint64_t size, uint64_t lsn
) noexcept nogil

cdef bint committer_step(Committer *committer, bint watermark) noexcept nogil
cdef bint committer_watermark_due(Committer *committer) noexcept nogil
cdef void committer_run(Committer *committer) noexcept nogil
cdef int committer_wait(Committer *committer, uint64_t lsn, int64_t timeout) noexcept nogil

cdef int committer_add_file(
    Committer *committer, uint64_t sequence, uint64_t used, bint filled
) noexcept nogil
cdef bint committer_drop_file(
    Committer *committer, uint64_t before, FileUse *dropped
) noexcept nogil
cdef bint committer_claim_spare(Committer *committer, SpareState wanted) noexcept nogil
cdef void committer_set_spare(Committer *committer, SpareState state) noexcept nogil
cdef void spare_path(char *path, const char *directory, bint ready) noexcept nogil
