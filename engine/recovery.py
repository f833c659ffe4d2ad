"""Open a data directory: rows as of the checkpoint, then the log replayed over them (I2, I6).

Replay applies each record to the states that it changes, exactly as the step did that logged
it; the projection is then as if every record had just become durable. Rows are loaded only for
streams that the log names, so the cost is bounded by the log's size. Nothing is written before
the log was found to be whole; where acknowledged records are damaged and it cannot be told
whose they are, the store opens read-only.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lmdb
from msgspec.structs import replace

from .._native.disk import Disk
from .._native.log import Log
from .._native.segment import Segment, SegmentDamaged
from .._native.tail import Tail
from .._native.wal_types import Checkpoint as LogPosition
from .._native.wal_types import Recovery
from ..protocol.retention import noted_append, trimmed
from ..protocol.state import ClosedBy, ProducerState, StreamState
from .catalog import Catalog, Change, Cold
from .directory import (
    DataDirectory,
    make_folders,
    open_directory,
    open_error,
    sync_changed,
)
from .entry import Binding, Entry
from .errors import Damaged, OpenError, ReadOnly, StorageError
from .leftovers import Leftovers
from .metadata import Checkpoint, Metadata, SegmentEntry
from .operations import Operations
from .options import KIB, MIB, FileStoreOptions, Limits
from .projection import Projection
from .records import (
    AppendMeta,
    CreateMeta,
    DeleteMeta,
    Kind,
    QuarantineMeta,
    Row,
    TouchMeta,
    TrimMeta,
    decode_meta,
    touch_interval_ms,
)
from .reserve import Reserve, is_disk_full

logger = logging.getLogger("durastream.recovery")

_META_SIZE_MAX = 32 * KIB  # of a record: paths, content type and names at their limits

FIRST = Checkpoint(lsn=0, file_seq=0, position=0, next_stream_id=1, next_segment=1, clean=True)


@dataclass(slots=True)
class Opened:
    """Everything that an open data directory consists of."""

    directory: DataDirectory
    metadata: Metadata
    log: Log
    catalog: Catalog
    projection: Projection
    operations: Operations
    checkpoint: Checkpoint
    segments: tuple[Segment, ...]  # newest first
    listed: dict[int, SegmentEntry]  # by number
    read_only: bool
    lost: str | None  # the place in the log behind which all is lost, until it was repaired


def open_store(
    path: Path,
    metadata_path: Path | None,
    disk: Disk,
    lock: threading.Lock,
    limits: Limits,
    options: FileStoreOptions,
    now: Callable[[], int],
) -> Opened:
    """Open everything below ``path``; ``metadata_path`` is LMDB's if the disk is simulated.

    Raises: OpenError and its subclasses, StoreFull, Damaged.
    """
    directory = open_directory(disk, path)
    metadata: Metadata | None = None
    try:
        is_new = not (metadata_path or directory.metadata).exists()
        make_folders(disk, directory, is_new)
        if is_new and _has_segments(disk, directory):
            raise _rows_missing(directory)
        metadata = Metadata(
            metadata_path or directory.metadata,
            map_size=options.lmdb_map_size,
            store_id=directory.store_id,
        )
        if metadata.checkpoint() is None:
            if metadata_path is None:
                disk.sync_directory(directory.metadata)
            sync_changed(disk, directory.path, "FORMAT.tmp")
        try:
            return _open(directory, metadata, disk, lock, limits, options, now)
        except OSError as error:
            if not is_disk_full(error) or not Reserve(disk, directory.reserve, 0).give_up():
                raise
            logger.warning("the disk is full: gave up %s", directory.reserve)
        return _open(directory, metadata, disk, lock, limits, options, now)
    except OSError as error:
        _give_up(disk, directory, metadata)
        raise open_error(path, error) from error
    except lmdb.Error as error:
        _give_up(disk, directory, metadata)
        raise OpenError(f"{directory.metadata}: {error}; run `durastream repair`") from error
    except BaseException:
        _give_up(disk, directory, metadata)
        raise


def _give_up(disk: Disk, directory: DataDirectory, metadata: Metadata | None) -> None:
    if metadata is not None:
        metadata.close()
    disk.close(directory.lock)


def _open(
    directory: DataDirectory,
    metadata: Metadata,
    disk: Disk,
    lock: threading.Lock,
    limits: Limits,
    options: FileStoreOptions,
    now: Callable[[], int],
) -> Opened:
    metadata.check_tables()
    written = metadata.checkpoint()
    checkpoint = written or FIRST
    listed = metadata.segments()
    segments = _open_segments(directory, listed, disk)
    leftovers = Leftovers(directory, metadata, disk, checkpoint)
    if written is None and len(leftovers):
        raise _rows_missing(directory)
    log = _log(directory, disk, options)
    _require_room(log, limits)
    slack = AccessSlack(checkpoint)
    catalog = Catalog(metadata, lock, slack)
    projection = Projection()
    operations = Operations(catalog, projection, log, limits, now)
    operations.next_stream_id = projection.next_stream_id = checkpoint.next_stream_id
    replay = Replay(catalog, projection, operations, leftovers)
    start = None
    if written is not None:
        start = LogPosition(written.lsn, written.file_seq, written.position)
    result = log.recover(start, replay.apply, replay.objection)
    if result.damage and written is None:
        raise _rows_missing(directory)
    replay.allow_for_accesses()
    replay.watch()
    if written is None and not result.damage and not replay.record_count:
        # From now on a log that is missing is known to be.
        lsn, file_seq, position = log.durable_point()
        metadata.commit(replace(FIRST, lsn=lsn, file_seq=file_seq, position=position), [])
    elif checkpoint.clean and not result.damage:
        # From now on rows may be older than the last accesses.
        checkpoint = replace(checkpoint, clean=False)
        metadata.commit(checkpoint, [])
    projection.visible_lsn = max(checkpoint.lsn, result.last_lsn)
    for torn in result.torn:
        logger.warning("torn tail of the log, never acknowledged, cut off and kept: %s", torn)
    read_only = bool(result.damage)
    if read_only:
        operations.write_refusal = _refusal(directory, result)
        logger.error("%s", operations.write_refusal)
    else:
        leftovers.remove()  # not before: rows may be older than the segments
        if replay.record_count:
            logger.info("replayed %d records of the log", replay.record_count)
        if replay.damaged_count:
            _keep_damaged_files(disk, directory)
    return Opened(
        directory,
        metadata,
        log,
        catalog,
        projection,
        operations,
        checkpoint,
        segments,
        {entry.number: entry for entry in listed},
        read_only,
        str(result.damage[0]) if read_only else None,
    )


def _refusal(directory: DataDirectory, result: Recovery) -> ReadOnly:
    where = "; ".join(str(damage) for damage in result.damage)
    return ReadOnly(
        f"{directory.path}: acknowledged records are damaged ({where}); "
        "open for reading only; `durastream verify` says what is hit, `durastream repair` "
        "mends what can be mended"
    )


def _log(directory: DataDirectory, disk: Disk, options: FileStoreOptions) -> Log:
    return Log(
        disk,
        os.fspath(directory.wal),
        directory.store_id,
        file_size=options.wal_file_size,
        wal_size_max=options.wal_size_max,
        slab_size=options.slab_size,
        backlog_size_max=options.backlog_size_max,
        idle_watermark_delay=options.idle_watermark_delay,
    )


def _require_room(log: Log, limits: Limits) -> None:
    needed = log.record_size(_META_SIZE_MAX, limits.body_size_max)
    if needed > log.record_size_max:
        raise ValueError(
            f"body_size_max {limits.body_size_max} does not fit into one file of the log: "
            f"wal_file_size must be at least {needed - log.record_size_max} bytes larger"
        )


def _open_segments(
    directory: DataDirectory, listed: list[SegmentEntry], disk: Disk
) -> tuple[Segment, ...]:
    segments = []
    for entry in reversed(listed):
        path = directory.segment(entry.number)
        try:
            segment = Segment(
                disk, os.fspath(path), store_id=directory.store_id, number=entry.number
            )
        except (SegmentDamaged, FileNotFoundError) as error:
            what = f"segment {entry.number} ({error}; run `durastream repair`)"
            raise Damaged(what, os.fspath(path)) from error
        segments.append(segment)
    return tuple(segments)


def _has_segments(disk: Disk, directory: DataDirectory) -> bool:
    return any(name.endswith(".seg") for name in disk.list_directory(directory.segments))


def _rows_missing(directory: DataDirectory) -> Damaged:
    """Without rows nobody knows what there was: an empty store would be a lie."""
    what = "the rows are missing, which log and segments belong to (run `durastream repair`)"
    return Damaged(what, os.fspath(directory.metadata))


def _keep_damaged_files(disk: Disk, directory: DataDirectory) -> None:
    """Copy the log before it is recycled: what is behind damage may still be wanted."""
    for name in disk.list_directory(directory.wal):
        if not name.endswith(".wal") or name in ("spare.wal", "filling.wal"):
            continue
        source = disk.open(directory.wal / name, os.O_RDONLY)
        kept = disk.open(directory.wal / f"damaged-{name}.bin", os.O_RDWR | os.O_CREAT)
        try:
            for position in range(0, disk.size(source), MIB):
                disk.pwrite(kept, disk.pread(source, MIB, position), position)
            disk.sync(kept)
        finally:
            disk.close(kept)
            disk.close(source)
    disk.sync_directory(directory.wal)
    logger.error("%s: the log's files were copied to damaged-*.bin", directory.wal)


class AccessSlack:
    """By how much a stream may have been accessed later than its row says.

    Accesses are logged at most some 16 times per TTL; what a crash took back is at most one
    such interval (design: no crash lets a stream die early). Rows written by this process, or
    before an orderly close, are exact.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._clean = checkpoint.clean
        self.replayed_from = checkpoint.lsn

    def __call__(self, row: Row) -> int:
        state = row.state
        if self._clean or state is None or state.ttl_seconds is None:
            return 0
        if row.lsn > self.replayed_from:
            return 0
        return touch_interval_ms(state.ttl_seconds)


class Replay:
    """Applies records to the catalog as the steps that logged them did."""

    def __init__(
        self,
        catalog: Catalog,
        projection: Projection,
        operations: Operations,
        leftovers: Leftovers,
    ) -> None:
        self._catalog = catalog
        self._projection = projection
        self._operations = operations
        self._leftovers = leftovers
        self._last_lsn = 0
        self.record_count = 0
        self.damaged_count = 0
        self._hidden: int | None = None  # LSN of a damaged record of others than its own stream

    def objection(self) -> tuple[int, str] | None:
        """Why the log is damaged as a whole, though every record's header is right.

        A creation that is damaged hides the path, a deletion what went with it.
        """
        if self._hidden is None:
            return self._leftovers.objection(self._last_lsn)
        return self._hidden, "the record of a creation or deletion is damaged"

    def apply(
        self,
        lsn: int,
        kind: int,
        flags: int,
        stream_id: int,
        base: int,
        meta: bytes,
        data_size: int,
        damaged: bool,
    ) -> Tail | None:
        """Called for each record, in order; the tail that its data belongs to, if any."""
        self.record_count += 1
        self._last_lsn = lsn
        if damaged:
            self.damaged_count += 1
            if self._hidden is None and kind in (Kind.CREATE, Kind.DELETE):
                self._hidden = lsn
            self._quarantine(lsn, stream_id, base)
            return None
        decoded = decode_meta(kind, meta)
        if isinstance(decoded, CreateMeta):
            return self._create(lsn, decoded.state).tail
        entry = self._entry(stream_id)
        if entry is None or entry.reserved is None or entry.lsn >= lsn:
            return None
        if isinstance(decoded, AppendMeta):
            self._append(lsn, entry, entry.reserved, decoded, base, data_size)
            return None if entry.quarantine is not None else entry.tail
        if isinstance(decoded, TouchMeta):
            self._change(lsn, entry, _accessed(entry.reserved, decoded.accessed_at))
            entry.logged_at = decoded.accessed_at
        elif isinstance(decoded, TrimMeta):
            self._change(lsn, entry, trimmed(entry.reserved, decoded.earliest))
        elif isinstance(decoded, QuarantineMeta):
            entry.quarantine = decoded
            self._change(lsn, entry, entry.reserved)
        else:
            self._delete(lsn, entry, decoded)
        return None

    def allow_for_accesses(self) -> None:
        """Streams that the log names may have been accessed later than it says, see AccessSlack."""
        for stream_id in self._projection.dirty:
            entry = self._catalog.entries.get(stream_id)
            state = entry.reserved if entry is not None else None
            if entry is not None and state is not None and state.ttl_seconds is not None:
                accessed_at = entry.logged_at + touch_interval_ms(state.ttl_seconds)
                # The next flush or eviction logs it: until then it is an access in memory.
                entry.reserved = entry.visible = _accessed(state, accessed_at)

    def watch(self) -> None:
        """Have the sweeper look at the streams that the log names, as their rows are older."""
        for stream_id in self._projection.dirty:
            self._operations.watch(stream_id)

    def _create(self, lsn: int, state: StreamState) -> Entry:
        binding = self._binding(state.path)
        entry = Entry(state, lsn=lsn, visible=False)
        self._catalog.bind_new(binding, entry)
        binding.lsn = lsn
        operations = self._operations
        operations.next_stream_id = max(operations.next_stream_id, state.stream_id + 1)
        self._projection.apply(Change(lsn, entry, binding))
        source = self._entry(state.source_id) if state.source_id is not None else None
        if source is not None and source.reserved is not None and source.lsn < lsn:
            references = source.reserved.ref_count + 1
            self._change(lsn, source, replace(source.reserved, ref_count=references))
        return entry

    def _append(
        self,
        lsn: int,
        entry: Entry,
        before: StreamState,
        meta: AppendMeta,
        base: int,
        data_size: int,
    ) -> None:
        if base != before.tail:
            # A hole before this record: acknowledged bytes are missing (I6).
            entry.quarantine = entry.quarantine or QuarantineMeta(
                before.tail, f"log record {lsn}, which begins at offset {base}"
            )
        producer = None
        if meta.producer_id is not None:
            state = ProducerState(meta.producer_epoch, meta.producer_seq, meta.accessed_at)
            producer = (meta.producer_id, state)
            entry.producers[meta.producer_id] = state
        by = None
        if meta.close and meta.producer_id is not None:
            by = ClosedBy(meta.producer_id, meta.producer_epoch, meta.producer_seq)
        after = replace(
            before,
            tail=base + data_size,
            closed=before.closed or meta.close,
            closed_by=by or before.closed_by,
            last_seq=before.last_seq if meta.seq is None else meta.seq,
            last_accessed_at=max(before.last_accessed_at, meta.accessed_at),
        )
        if data_size:
            after = noted_append(after, base, meta.accessed_at)
        self._change(lsn, entry, after, producer)
        entry.logged_at = max(entry.logged_at, meta.accessed_at)

    def _delete(self, lsn: int, entry: Entry, meta: DeleteMeta) -> None:
        if meta.soft:
            assert entry.reserved is not None
            self._change(lsn, entry, replace(entry.reserved, soft_deleted=True))
        for stream_id in meta.removed:
            removed = self._entry(stream_id)
            if removed is not None and removed.reserved is not None:
                self._remove(lsn, removed)
        source = self._entry(meta.released) if meta.released is not None else None
        if source is not None and source.reserved is not None:
            references = source.reserved.ref_count - 1
            self._change(lsn, source, replace(source.reserved, ref_count=references))

    def _remove(self, lsn: int, entry: Entry) -> None:
        binding = self._binding(entry.origin.path)
        if binding.reserved is entry:
            binding.reserved = binding.visible = None
            binding.lsn = lsn
        self._change(lsn, entry, None)

    def _quarantine(self, lsn: int, stream_id: int, base: int) -> None:
        entry = self._entry(stream_id)
        if entry is None or entry.reserved is None:
            logger.error("log record %d of unknown stream %d is damaged", lsn, stream_id)
            return
        if entry.quarantine is None or entry.quarantine.position > base:
            entry.quarantine = QuarantineMeta(min(base, entry.reserved.tail), f"log record {lsn}")
        logger.error("%s: log record %d is damaged; quarantined", entry.origin.path, lsn)
        self._change(lsn, entry, entry.reserved)

    def _change(
        self,
        lsn: int,
        entry: Entry,
        after: StreamState | None,
        producer: tuple[str, ProducerState] | None = None,
    ) -> None:
        entry.reserved = after
        entry.lsn = lsn
        self._projection.apply(Change(lsn, entry, None, producer))

    def _entry(self, stream_id: int) -> Entry | None:
        while True:
            try:
                return self._catalog.entry(stream_id)
            except LookupError:
                return None
            except Cold as cold:
                try:
                    cold.load()
                except LookupError:
                    return None

    def _binding(self, path: str) -> Binding:
        while True:
            try:
                return self._catalog.binding(path)
            except Cold as cold:
                cold.load()


def _accessed(state: StreamState, accessed_at: int) -> StreamState:
    return replace(state, last_accessed_at=max(state.last_accessed_at, accessed_at))


__all__ = ["Opened", "StorageError", "open_store"]
