# What any thread may know of a committer, and ask of it.
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from .committer cimport Committer

# Facts of one moment.
cdef struct CommitterFacts:
    int error
    int stall
    bint running
    bint committing
    uint64_t queued_size            # bytes, staged and not durable
    uint64_t used                   # bytes written to the files in use
    size_t file_count
    uint64_t commit_count
    uint64_t sync_count


cdef CommitterFacts committer_facts(Committer *committer) noexcept nogil
cdef bint committer_begin_running(Committer *committer) noexcept nogil
cdef void committer_end_running(Committer *committer) noexcept nogil
cdef void committer_stop(Committer *committer) noexcept nogil
cdef void committer_close(Committer *committer) noexcept nogil

cdef int committer_add_wake_fd(Committer *committer, int fd) noexcept nogil
cdef void committer_remove_wake_fd(Committer *committer, int fd) noexcept nogil
