"""What any thread may know of a committer, and ask of it, while it works. No GIL needed.

Everything here goes through the committer's monitor, for moments: nothing waits, and nothing
touches what belongs to whoever is committing.
"""
from libc.stdlib cimport realloc

from .committer cimport (
    Committer,
    monitor_enter,
    monitor_leave,
    monitor_signal_durable,
    monitor_signal_work,
)


cdef CommitterFacts committer_facts(Committer *committer) noexcept nogil:
    cdef CommitterFacts facts
    cdef size_t i
    monitor_enter(&committer.monitor)
    facts.error = committer.error
    facts.stall = committer.stall
    facts.running = committer.running
    facts.committing = committer.committing
    facts.queued_size = committer.queued_size
    facts.file_count = committer.file_count
    facts.commit_count = committer.commit_count
    facts.sync_count = committer.sync_count
    facts.used = 0
    for i in range(committer.file_count):
        facts.used += committer.files[i].used
    monitor_leave(&committer.monitor)
    return facts


cdef bint committer_begin_running(Committer *committer) noexcept nogil:
    """Become the one thread in ``committer_run``; False if there is one."""
    monitor_enter(&committer.monitor)
    cdef bint free_ = not committer.running
    committer.running = True
    monitor_leave(&committer.monitor)
    return free_


cdef void committer_end_running(Committer *committer) noexcept nogil:
    monitor_enter(&committer.monitor)
    committer.running = committer.stopping = False
    monitor_leave(&committer.monitor)


cdef void committer_stop(Committer *committer) noexcept nogil:
    """Have ``committer_run`` return once everything staged is committed."""
    monitor_enter(&committer.monitor)
    committer.stopping = True
    monitor_signal_work(&committer.monitor)
    monitor_leave(&committer.monitor)


cdef void committer_close(Committer *committer) noexcept nogil:
    """Tell whoever waits that nothing more becomes durable."""
    monitor_enter(&committer.monitor)
    committer.closed = True
    monitor_signal_durable(&committer.monitor)
    monitor_leave(&committer.monitor)


cdef int committer_add_wake_fd(Committer *committer, int fd) noexcept nogil:
    """Have a descriptor written to after each commit with records; -1: no memory."""
    cdef int *grown
    cdef int code = 0
    monitor_enter(&committer.monitor)
    if committer.wake_count == committer.wake_capacity:
        grown = <int *>realloc(
            committer.wake_fds, (2 * committer.wake_capacity + 4) * sizeof(int)
        )
        if grown == NULL:
            code = -1
        else:
            committer.wake_fds = grown
            committer.wake_capacity = 2 * committer.wake_capacity + 4
    if code == 0:
        committer.wake_fds[committer.wake_count] = fd
        committer.wake_count += 1
    monitor_leave(&committer.monitor)
    return code


cdef void committer_remove_wake_fd(Committer *committer, int fd) noexcept nogil:
    """After this returns, nobody writes to it any more."""
    cdef size_t i, kept = 0
    monitor_enter(&committer.monitor)
    for i in range(committer.wake_count):
        if committer.wake_fds[i] != fd:
            committer.wake_fds[kept] = committer.wake_fds[i]
            kept += 1
    committer.wake_count = kept
    monitor_leave(&committer.monitor)
