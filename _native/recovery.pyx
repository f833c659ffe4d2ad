"""Bring a log back: walk it, put its records into slabs again, go on in a fresh file.

Source: docs/format-wal.md, "Recovery". The walk comes first and only reads. Then one file is
written, which holds whatever was not certainly durable, and becomes part of the log by one
rename; so a crash anywhere in here leaves a log that recovers to the same records. Nothing may
be removed before that file is durable.
"""
from libc.errno cimport EIO
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

import os

from .committer cimport (
    COMMIT_FRAME_SIZE_MAX,
    SPARE_NONE,
    SPARE_READY,
    FileUse,
    Span,
    committer_add_file,
    committer_set_spare,
    spare_path,
    store_shared,
)
from .log cimport Log
from .record cimport RecordHeader, RecordRef, record_ref
from .slab cimport Slab
from .tail cimport Tail
from .wal_format cimport (
    FILE_FLAG_FILLED,
    FILE_KIND_RECOVERY,
    WAL_PAGE_SIZE,
    WalFileHeader,
    frame_span,
    record_body_valid,
)
from .wal_walk cimport WalWalk
from .wal_writer cimport (
    WAL_PATH_SIZE_MAX,
    FrameContent,
    WalWriter,
    wal_begin,
    wal_publish,
    wal_write_frame,
)

from .wal_types import Damage, Recovery


def recover(Log log not None, checkpoint, sink, objection):
    """See ``Log.recover``."""
    if log.open or log.slabs:
        raise ValueError("recover() comes once, before anything else")
    cdef WalWalk walk = WalWalk(log.disk, log.directory, log.store_id)
    cdef uint64_t floor = checkpoint.lsn if checkpoint is not None else 0
    cdef uint64_t count = 0, damaged_count = 0
    walk.begin(checkpoint)
    while walk.advance():
        count += restore_frame(log, walk, floor, sink, &damaged_count)
    if walk.last_lsn < floor and not walk.damage:
        walk.damage.append(Damage(
            log.directory, 0, walk.last_lsn + 1, floor, "the log ends before the checkpoint"
        ))
    if objection is not None and not walk.damage and (found := objection()) is not None:
        walk.damage.append(Damage(log.directory, 0, found[0], found[0], found[1]))
    cdef uint64_t proven_lsn = walk.base_lsn
    if walk.damage:
        first = walk.damage[0]
        log.refusal = (EIO, f"damaged log: {first.file} at {first.position}, {first.what}")
        store_shared(&log.committer.durable_lsn, walk.last_lsn)
        log.staged_lsn = walk.last_lsn
        return outcome(walk, proven_lsn, count, [])
    torn = keep_torn_aside(log, walk)
    go_on(log, walk, floor, damaged_count == 0)
    return outcome(walk, proven_lsn, count, torn)


cdef object outcome(WalWalk walk, uint64_t proven_lsn, uint64_t count, list torn):
    return Recovery(walk.last_lsn, proven_lsn, count, torn, walk.damage, walk.harmless)


# -- the records --------------------------------------------------------------------------


cdef uint64_t restore_frame(
    Log log, WalWalk walk, uint64_t floor, object sink, uint64_t *damaged_count
) except? 0xffff:
    """Give the records of one frame to the sink, as they are staged in normal operation."""
    cdef const uint8_t *record = walk.records
    cdef const uint8_t *end = record + walk.records_size
    cdef const RecordHeader *header
    cdef uint64_t count = 0
    while record < end:
        header = <const RecordHeader *>record
        record += header.size
        if header.lsn <= floor:
            continue
        count += 1
        if walk.body_bad and not record_body_valid(header):
            damaged_count[0] += 1
            sink(
                header.lsn, header.kind, header.flags, header.stream_id, header.base, b"",
                header.data_size, True,
            )
        else:
            restore_record(log, header, sink)
    return count


cdef int restore_record(Log log, const RecordHeader *header, object sink) except -1:
    cdef uint8_t *record = log.room(header.size, header.lsn)
    memcpy(record, header, header.size)
    log.unflushed_size += header.size
    cdef RecordRef ref = record_ref(record)
    cdef Tail tail = sink(
        header.lsn, header.kind, header.flags, header.stream_id, header.base,
        (<const char *>ref.meta)[: header.meta_size], header.data_size, False,
    )
    if tail is not None and header.data_size > 0:
        tail.reserve(header.base, header.message_count)
        tail.add(log.current, ref.data, header.data_size, ref.sizes, header.message_count)
    return 0


cdef list keep_torn_aside(Log log, WalWalk walk):
    """Save what is about to be cut off; nobody was promised it, but somebody may look for it."""
    kept = []
    for torn in walk.torn:
        path = f"{log.directory}/torn-{walk.file.sequence}-{torn.position}.bin"
        fd = log.disk.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            log.disk.pwrite(fd, walk.frame_bytes(torn.position, torn.size), 0)
            log.disk.sync(fd)
        finally:
            log.disk.close(fd)
        kept.append(torn._replace(kept_as=path))
    return kept


# -- the recovery file --------------------------------------------------------------------


cdef int go_on(Log log, WalWalk walk, uint64_t floor, bint whole) except -1:
    """Make the recovery file, take up the log behind it, and clear away what it replaces."""
    # Little enough: rewrite all behind the checkpoint, so that no older file is needed.
    cdef bint alone = whole and log.unflushed_size <= min(
        <uint64_t>COMMIT_FRAME_SIZE_MAX, log.committer.file_size // 2
    )
    cdef uint64_t base = floor if alone else walk.base_lsn
    cdef bint clean = walk.base_lsn == walk.last_lsn and not walk.torn
    cdef uint64_t resume = walk.expected_lsn if clean else walk.expected_lsn + LSN_JUMP
    cdef WalFileHeader header
    memset(&header, 0, sizeof(header))
    memcpy(header.store_id, <const uint8_t *>log.store_id, sizeof(header.store_id))
    header.kind = FILE_KIND_RECOVERY
    header.sequence = max(walk.files, default=0) + 1
    header.base_lsn = header.kept_lsn = base
    header.first_lsn = header.resume_lsn = resume
    if not alone:
        header.predecessor_sequence = walk.cut_file.header.sequence
        header.predecessor_incarnation = walk.cut_file.header.incarnation
        header.predecessor_cut = walk.cut_position
    look_after_spare(log)
    write_file(log, &header)
    take_up(log, walk, alone, resume)
    clear_away(log, walk, alone)
    return 0


cdef int write_file(Log log, WalFileHeader *header) except -1:
    cdef WalWriter *writer = &log.committer.writer
    cdef char source[WAL_PATH_SIZE_MAX]
    cdef FrameContent content
    cdef Span run
    cdef Py_ssize_t slab_index = 0
    cdef uint64_t offset = 0, needed = 2 * WAL_PAGE_SIZE
    while next_run(log, &slab_index, &offset, header.base_lsn, &run):
        needed += frame_span(run.size)
        header.first_lsn = min(header.first_lsn, run.first_lsn)
    # Written under a larger file_size, a record may need a larger file than is usual now.
    header.size = max(log.committer.file_size, needed)
    cdef bint ready = (
        log.committer.spare == SPARE_READY and header.size == log.committer.file_size
    )
    spare_path(source, writer.directory, ready)
    check(log, wal_begin(writer, header, source, ready))
    slab_index, offset = 0, 0
    while next_run(log, &slab_index, &offset, header.base_lsn, &run):
        memset(&content, 0, sizeof(content))
        content.first_lsn = run.first_lsn
        content.watermark = header.base_lsn
        content.size = content.parts[1].iov_len = run.size
        content.parts[1].iov_base = run.data
        content.record_count = run.record_count
        content.part_count = 1
        check(log, wal_write_frame(writer, &content))
        writer.header.kept_lsn = run.first_lsn + run.record_count - 1
    writer.header.kept_end = writer.position
    check(log, wal_publish(writer, source))
    if ready:
        committer_set_spare(&log.committer, SPARE_NONE)
    return 0


cdef bint next_run(
    Log log, Py_ssize_t *slab_index, uint64_t *offset, uint64_t after, Span *run
) except -1:
    """The next records behind LSN ``after`` that one frame can hold: adjacent, LSNs too."""
    cdef Slab slab
    cdef RecordHeader *header
    run.size = run.record_count = 0
    while slab_index[0] < len(log.slabs):
        slab = log.slabs[slab_index[0]]
        while offset[0] < slab.used:
            header = <RecordHeader *>(slab.memory + offset[0])
            if run.record_count and (
                header.lsn != run.first_lsn + run.record_count
                or run.size + header.size > log.committer.frame_size_max
            ):
                return True
            if header.lsn > after:
                if run.record_count == 0:
                    run.data, run.first_lsn = <uint8_t *>header, header.lsn
                run.size += header.size
                run.record_count += 1
            offset[0] += header.size
        slab_index[0] += 1
        offset[0] = 0
        if run.record_count:
            return True
    return False


cdef int take_up(Log log, WalWalk walk, bint alone, uint64_t resume) except -1:
    """Set the committer behind what was just written."""
    cdef WalWriter *writer = &log.committer.writer
    if not alone:
        for sequence, used, filled in walk.chain:
            if committer_add_file(&log.committer, sequence, used, filled):
                raise MemoryError("no memory for the list of log files")
    if committer_add_file(
        &log.committer, writer.header.sequence, writer.position,
        writer.header.flags & FILE_FLAG_FILLED,
    ):
        raise MemoryError("no memory for the list of log files")
    store_shared(&log.committer.durable_lsn, walk.last_lsn)
    log.committer.proven_lsn = walk.last_lsn
    log.committer.expected_lsn = log.next_lsn = resume
    log.staged_lsn = walk.last_lsn
    log.committer.point_sequence = writer.header.sequence
    log.committer.point_position = writer.position
    log.committer.sync_count = writer.sync_count
    log.committer.last_commit = writer.ops.monotonic_ns(writer.context)
    log.open = True
    return 0


cdef int check(Log log, int64_t code) except -1:
    cdef WalWriter *writer = &log.committer.writer
    if code < 0:
        what = (<bytes>writer.failed_at).decode()
        raise OSError(-code, f"{what}: {os.strerror(-code)}", log.directory)
    return 0


# -- files that are not needed ------------------------------------------------------------


cdef int look_after_spare(Log log) except -1:
    """Use a whole spare that is there, and drop what was left unfinished, with unknown syncs."""
    spare = f"{log.directory}/spare.wal"
    for unfinished in (f"{log.directory}/next.wal", f"{log.directory}/filling.wal"):
        if log.disk.exists(unfinished):
            log.disk.unlink(unfinished)
    if not log.disk.exists(spare):
        return 0
    fd = log.disk.open(spare, os.O_RDONLY)
    try:
        size = log.disk.size(fd)
    finally:
        log.disk.close(fd)
    if size == log.committer.file_size:
        log.committer.spare = SPARE_READY
    else:
        log.disk.unlink(spare)
    return 0


cdef int clear_away(Log log, WalWalk walk, bint alone) except -1:
    """Remove every file that the chain no longer leads through."""
    cdef FileUse dropped
    needed = set() if alone else {sequence for sequence, _, _ in walk.chain}
    for sequence, file in walk.files.items():
        if sequence not in needed:
            dropped.sequence = sequence
            dropped.filled = (
                file.problem is None and file.filled and file.size == log.committer.file_size
            )
            log.dispose(&dropped)
    return 0
