"""Group commit: one frame, one write and one sync for all that gathered during the last sync.

Source: docs/architecture.md, "Append"; docs/format-wal.md, "Roll". No function here needs the
GIL. There is no delay timer, so a lone writer pays one sync. After the first failed write or
sync it never touches the disk again, and nothing more becomes durable (I7). A lack of space or
descriptors for the next file, which nothing was written to, is no failure: it *stalls*, and goes
on once there is a file; until then nothing becomes durable.
"""
from libc.errno cimport EDQUOT, EMFILE, ENFILE, ENOMEM, ENOSPC
from libc.stdio cimport snprintf
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove, memset

from .wal_format cimport (
    FILE_FLAG_FILLED,
    FILE_KIND_ROLL,
    FRAME_FLAG_LINK,
    FRAME_FLAG_WATERMARK,
    WAL_PAGE_SIZE,
    WalFileHeader,
)
from .wal_writer cimport (
    FRAME_PARTS_MAX,
    FrameContent,
    wal_begin,
    wal_close,
    wal_fits,
    wal_publish,
    wal_seal_records,
    wal_sync,
    wal_write_frame,
    wal_writer_init,
)


cdef int committer_init(
    Committer *committer, const DiskOps *ops, void *context, const char *directory
) noexcept nogil:
    memset(committer, 0, sizeof(Committer))
    wal_writer_init(&committer.writer, ops, context, directory)
    return monitor_init(&committer.monitor)


cdef void committer_free(Committer *committer) noexcept nogil:
    free(committer.spans)
    free(committer.files)
    free(committer.wake_fds)
    monitor_destroy(&committer.monitor)


# -- staging ------------------------------------------------------------------------------


cdef int committer_reserve(Committer *committer) noexcept nogil:
    cdef size_t capacity
    cdef Span *grown
    cdef int code = 0
    monitor_enter(&committer.monitor)
    if committer.span_head + committer.span_count == committer.span_capacity:
        if committer.span_head > committer.span_capacity // 2:
            memmove(
                committer.spans, committer.spans + committer.span_head,
                committer.span_count * sizeof(Span),
            )
            committer.span_head = 0
        else:
            capacity = max(<size_t>64, 2 * committer.span_capacity)
            grown = <Span *>realloc(committer.spans, capacity * sizeof(Span))
            if grown == NULL:
                code = -1
            else:
                committer.spans = grown
                committer.span_capacity = capacity
    monitor_leave(&committer.monitor)
    return code


cdef void committer_push(
    Committer *committer, uint8_t *record, uint64_t size, uint64_t lsn
) noexcept nogil:
    """Queue a record for the next frame, merging it with the one staged just before it."""
    cdef Span *span = NULL
    monitor_enter(&committer.monitor)
    if committer.span_count > 0:
        span = committer.spans + committer.span_head + committer.span_count - 1
    if (
        span != NULL
        and span.data + span.size == record
        and span.size + size <= committer.frame_size_max
    ):
        span.size += size
        span.record_count += 1
    else:
        committer.spans[committer.span_head + committer.span_count] = Span(record, size, lsn, 1)
        committer.span_count += 1
    committer.queued_size += size
    if committer.sleeping:
        monitor_signal_work(&committer.monitor)
    monitor_leave(&committer.monitor)


cdef void take(Committer *committer, FrameContent *content) noexcept nogil:
    """Move what is queued into one frame, as far as one frame goes. Under the monitor."""
    cdef Span *span
    content.part_count = 0
    content.size = content.record_count = 0
    while committer.span_count > 0 and content.part_count < FRAME_PARTS_MAX:
        span = committer.spans + committer.span_head
        if content.part_count > 0 and content.size + span.size > committer.frame_size_max:
            break
        if content.part_count == 0:
            content.first_lsn = span.first_lsn
        content.part_count += 1
        content.parts[content.part_count].iov_base = span.data
        content.parts[content.part_count].iov_len = span.size
        content.size += span.size
        content.record_count += span.record_count
        committer.span_head += 1
        committer.span_count -= 1
    if committer.span_count == 0:
        committer.span_head = 0


# -- one commit ---------------------------------------------------------------------------


cdef bint committer_watermark_due(Committer *committer) noexcept nogil:
    """Whether it has been quiet for long enough to prove the last frame."""
    cdef int64_t now = committer.writer.ops.monotonic_ns(committer.writer.context)
    return now - committer.last_commit >= committer.idle_delay


cdef bint committer_step(Committer *committer, bint watermark) noexcept nogil:
    """Commit what has gathered; or, if that is nothing and ``watermark``, prove the last frame.

    Returns whether anything was done.
    """
    cdef FrameContent content
    cdef uint64_t last_lsn
    cdef int64_t code
    memset(&content, 0, sizeof(content))
    monitor_enter(&committer.monitor)
    if committer.committing or committer.error or committer.writer.fd < 0:
        monitor_leave(&committer.monitor)
        return False
    if committer.held.part_count > 0:
        content = committer.held
    else:
        take(committer, &content)
    last_lsn = committer.durable_lsn
    if content.part_count == 0 and not (watermark and committer.proven_lsn < last_lsn):
        monitor_leave(&committer.monitor)
        return False
    committer.committing = True
    monitor_leave(&committer.monitor)
    content.watermark = last_lsn
    if content.part_count == 0:
        content.flags = FRAME_FLAG_WATERMARK
        content.first_lsn = committer.expected_lsn
    committer.shortage = 0
    code = write_out(committer, &content)
    if code < 0 and committer.shortage:
        hold(committer, &content)
        return False
    committer.held.part_count = 0
    publish(committer, &content, code)
    return True


cdef int64_t write_out(Committer *committer, FrameContent *content) noexcept nogil:
    cdef int64_t code
    wal_seal_records(content)
    if not wal_fits(&committer.writer, content.size) or better_file_ready(committer):
        code = roll(committer)
        if code < 0:
            return code
    code = wal_write_frame(&committer.writer, content)
    if code < 0:
        return code
    code = wal_sync(&committer.writer)
    if code < 0:
        return code
    committer.proven_lsn = content.watermark
    committer.expected_lsn = content.first_lsn + content.record_count
    committer.last_commit = committer.writer.ops.monotonic_ns(committer.writer.context)
    return 0


cdef void hold(Committer *committer, const FrameContent *content) noexcept nogil:
    """Keep what was taken until there is a file for it, and let everybody know."""
    cdef size_t i
    committer.held = content[0]
    monitor_enter(&committer.monitor)
    committer.committing = False
    if not committer.stall:
        for i in range(committer.wake_count):
            wake_descriptor(committer.wake_fds[i])
    committer.stall = committer.shortage
    monitor_leave(&committer.monitor)


cdef void publish(Committer *committer, FrameContent *content, int64_t code) noexcept nogil:
    """Make the outcome known: the new watermark, or the failure."""
    cdef size_t i
    monitor_enter(&committer.monitor)
    committer.committing = False
    committer.stall = 0
    committer.sync_count = committer.writer.sync_count
    if code < 0:
        committer.error = <int>-code
        committer.error_at = committer.writer.failed_at
        committer.error_sequence = committer.writer.header.sequence
    else:
        if content.record_count > 0:
            store_shared(
                &committer.durable_lsn, content.first_lsn + content.record_count - 1
            )
        committer.queued_size -= content.size
        committer.point_sequence = committer.writer.header.sequence
        committer.point_position = committer.writer.position
        committer.files[committer.file_count - 1].used = committer.writer.position
        committer.commit_count += 1
    if committer.waiter_count > 0:
        monitor_signal_durable(&committer.monitor)
    # Under the monitor, so that a descriptor that was removed is not written to any more.
    if content.record_count > 0 or code < 0:
        for i in range(committer.wake_count):
            wake_descriptor(committer.wake_fds[i])
    monitor_leave(&committer.monitor)


# -- roll ---------------------------------------------------------------------------------


cdef bint better_file_ready(Committer *committer) noexcept nogil:
    """Whether to leave a file whose blocks were never written, since a filled one is ready."""
    if committer.writer.header.flags & FILE_FLAG_FILLED:
        return False
    monitor_enter(&committer.monitor)
    cdef bint ready = committer.spare == SPARE_READY
    monitor_leave(&committer.monitor)
    return ready


cdef int64_t roll(Committer *committer) noexcept nogil:
    """Go on in a new file: make it durable first, then name it in the old one's last frame."""
    cdef WalWriter *old = &committer.writer
    cdef WalWriter successor
    cdef FrameContent link
    cdef int64_t code = begin_successor(committer, &successor)
    if code == 0:
        memset(&link, 0, sizeof(link))
        link.flags = FRAME_FLAG_LINK
        link.first_lsn = committer.expected_lsn
        link.watermark = committer.durable_lsn
        link.successor_sequence = successor.header.sequence
        link.successor_incarnation = successor.header.incarnation
        code = wal_write_frame(old, &link)
    if code == 0:
        code = wal_sync(old)
    if code == 0:
        code = committer_add_file(
            committer, successor.header.sequence, WAL_PAGE_SIZE,
            successor.header.flags & FILE_FLAG_FILLED,
        )
    if code < 0:
        wal_close(&successor)
        return code
    wal_close(old)
    successor.sync_count += old.sync_count
    committer.proven_lsn = committer.durable_lsn
    committer.writer = successor
    return 0


cdef int64_t begin_successor(Committer *committer, WalWriter *successor) noexcept nogil:
    cdef WalWriter *old = &committer.writer
    cdef char source[WAL_PATH_SIZE_MAX]
    cdef WalFileHeader header
    cdef bint ready = committer_claim_spare(committer, SPARE_READY)
    spare_path(source, old.directory, ready)
    memset(&header, 0, sizeof(header))
    memcpy(header.store_id, old.header.store_id, sizeof(header.store_id))
    header.kind = FILE_KIND_ROLL
    header.sequence = old.header.sequence + 1
    header.size = committer.file_size
    header.predecessor_sequence = old.header.sequence
    header.predecessor_incarnation = old.header.incarnation
    header.base_lsn = header.kept_lsn = committer.durable_lsn
    header.first_lsn = header.resume_lsn = committer.expected_lsn
    header.kept_end = WAL_PAGE_SIZE
    wal_writer_init(successor, old.ops, old.context, old.directory)
    cdef int64_t code = wal_begin(successor, &header, source, ready)
    if is_shortage(code):
        committer.shortage = <int>-code
        wal_close(successor)
        if ready:
            committer_set_spare(committer, SPARE_READY)
        else:
            old.ops.unlink(old.context, source)     # the space that it got
        return code
    if code == 0:
        code = wal_publish(successor, source)
    if ready:
        committer_set_spare(committer, SPARE_NONE)
    if code < 0:
        old.failed_at = successor.failed_at
    return code


cdef inline bint is_shortage(int64_t code) noexcept nogil:
    """Whether a file could not be begun for want of something that may come back."""
    return code in (-ENOSPC, -EDQUOT, -EMFILE, -ENFILE, -ENOMEM)


cdef void spare_path(char *path, const char *directory, bint ready) noexcept nogil:
    """The spare; or the name under which a file is made in a hurry, since there is none."""
    snprintf(
        path, WAL_PATH_SIZE_MAX, "%s/%s", directory, b"spare.wal" if ready else b"next.wal"
    )


# -- running and waiting ------------------------------------------------------------------


cdef void committer_run(Committer *committer) noexcept nogil:
    """Commit until stopped and everything is durable and proven, or until the log fails.

    Stopped while it stalls, it tries once more and gives up.
    """
    cdef bint prove, stopping
    while True:
        prove = False
        monitor_enter(&committer.monitor)
        while not has_work(committer):
            committer.sleeping = True
            prove = monitor_wait_work(&committer.monitor, patience(committer))
            committer.sleeping = False
            if prove or committer.stall:
                break
        stopping = committer.stopping
        monitor_leave(&committer.monitor)
        if not committer_step(committer, prove or stopping) and (stopping or committer.error):
            return


cdef bint has_work(const Committer *committer) noexcept nogil:
    if committer.stopping or committer.error:
        return True
    return committer.span_count > 0 and not committer.stall


cdef int64_t patience(const Committer *committer) noexcept nogil:
    """After how many ns of quiet there is something to do all the same; -1: never."""
    if committer.stall:
        return STALL_RETRY_DELAY
    return committer.idle_delay if committer.proven_lsn < committer.durable_lsn else -1


cdef int committer_wait(Committer *committer, uint64_t lsn, int64_t timeout) noexcept nogil:
    """Wait, at most so many ns if not negative. 1: durable, 0: timeout, -1: it never will."""
    cdef bint timed_out = False
    cdef int outcome
    monitor_enter(&committer.monitor)
    committer.waiter_count += 1
    while (
        committer.durable_lsn < lsn
        and not committer.error
        and not committer.closed
        and not timed_out
    ):
        timed_out = monitor_wait_durable(&committer.monitor, timeout)
    committer.waiter_count -= 1
    if committer.durable_lsn >= lsn:
        outcome = 1
    else:
        outcome = -1 if committer.error or committer.closed else 0
    monitor_leave(&committer.monitor)
    return outcome


# -- files --------------------------------------------------------------------------------


cdef int committer_add_file(
    Committer *committer, uint64_t sequence, uint64_t used, bint filled
) noexcept nogil:
    """Count a file as the one being written; 0 or -ENOMEM."""
    cdef FileUse *grown
    cdef int code = 0
    monitor_enter(&committer.monitor)
    if committer.file_count == committer.file_capacity:
        grown = <FileUse *>realloc(
            committer.files, (committer.file_capacity + 16) * sizeof(FileUse)
        )
        if grown == NULL:
            code = -ENOMEM
            committer.writer.failed_at = b"counting the files of the log"
        else:
            committer.files = grown
            committer.file_capacity += 16
    if code == 0:
        if committer.file_count > 0:    # what the last frame said of it is known by now
            committer.files[committer.file_count - 1].used = max(
                committer.files[committer.file_count - 1].used, committer.writer.position
            )
        committer.files[committer.file_count] = FileUse(sequence, used, filled)
        committer.file_count += 1
    monitor_leave(&committer.monitor)
    return code


cdef bint committer_drop_file(
    Committer *committer, uint64_t before, FileUse *dropped
) noexcept nogil:
    """Take the oldest file off the list if its sequence is lower than ``before``."""
    cdef bint found = False
    monitor_enter(&committer.monitor)
    if committer.file_count > 1 and committer.files[0].sequence < before:
        dropped[0] = committer.files[0]
        committer.file_count -= 1
        memmove(committer.files, committer.files + 1, committer.file_count * sizeof(FileUse))
        found = True
    monitor_leave(&committer.monitor)
    return found


cdef bint committer_claim_spare(Committer *committer, SpareState wanted) noexcept nogil:
    """Become the only one to touch the spare, if it is in the ``wanted`` state."""
    monitor_enter(&committer.monitor)
    cdef bint claimed = committer.spare == wanted
    if claimed:
        committer.spare = SPARE_BUSY
    monitor_leave(&committer.monitor)
    return claimed


cdef void committer_set_spare(Committer *committer, SpareState state) noexcept nogil:
    monitor_enter(&committer.monitor)
    committer.spare = state
    if committer.stall and committer.sleeping:
        monitor_signal_work(&committer.monitor)
    monitor_leave(&committer.monitor)
