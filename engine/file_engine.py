"""The file store's engine: runs steps, waits for the log, makes durable changes visible.

A step runs under the lock and never waits (``operations``); this module brings what the step
finds missing, waits for the LSN that its answer depends on, and then applies what became
durable. ``file_store`` and ``file_store_aio`` are its two faces. The lock is held for
microseconds only: nobody may touch a disk, or a page that could be on one, while holding it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import TypeVar

from .._native.disk import Disk, PosixDisk
from .._native.errors import LogClosed, LogFailed, LogFull, RecordTooLarge, TailMoved
from .._native.mapped_file import Reaper
from .._native.segment import Segment, SegmentDamaged
from ..protocol.errors import StreamError, StreamNotFound, TooLarge
from ..protocol.headers import is_json
from ..protocol.offset import format_offset
from ..protocol.read import is_end, is_up_to_date, resolve_offset
from ..protocol.results import ReadResult
from ..protocol.state import StreamState
from . import forked_child, trouble
from .arguments import chunk_size
from .catalog import Cold, RowMissing
from .entry import Entry
from .errors import (
    Damaged,
    ForeignProcess,
    StorageError,
    StoreBusy,
    StoreFailed,
    StoreFull,
    StoreStalled,
)
from .metadata import SegmentEntry
from .options import FileStoreOptions, Limits
from .ranges import NeedsDisk, RangeReader, Span, View, first_damage
from .records import QuarantineMeta
from .recovery import Opened, open_store
from .step import Outcome, Seen, Step
from .step_clock import StepClock
from .waiting import ThreadWaiter, Waiter

Result = TypeVar("Result")

# Seconds for which a write waits for the backlog to shrink before it is refused, and between
# its attempts: a writer faster than the disk is slowed down first.
BUSY_PATIENCE, BUSY_DELAY = 10.0, 0.02

STALL_PATIENCE = 10.0  # seconds for which a write that was taken waits for space

_MOVES_MAX = 1000  # a read that finds its bytes moved more often than this met a bug


class FileEngine:
    """One open data directory. Safe to use from threads."""

    def __init__(
        self,
        path: Path,
        *,
        limits: Limits,
        options: FileStoreOptions,
        disk: Disk | None = None,
        clock: Callable[[], int] | None = None,
        metadata_path: Path | None = None,
        threads: bool = True,
    ) -> None:
        self.path = path
        self.limits = limits
        self.options = options
        self.disk = PosixDisk() if disk is None else disk
        self.tells_disk_time = clock is None
        self.now = StepClock(self.disk.wall_ms if clock is None else clock)
        self.has_threads = threads
        self.lock = threading.Lock()
        self._unusable: StorageError | None = None
        self._users: list[int] = []  # threads that may be in LMDB or a segment right now
        self._unused = threading.Condition(self.lock)
        self.disk_is_full = self.wants_flush = False
        self.is_whole = True  # memory is as the log says
        self.is_released = False
        self.parked: set[Waiter] = set()
        self.new_waiter: Callable[[], ThreadWaiter] = ThreadWaiter  # simulators have their own
        opened: Opened = open_store(
            path, metadata_path, self.disk, self.lock, limits, options, self.now
        )
        self.directory = opened.directory
        self.metadata = opened.metadata
        self.log = opened.log
        self.catalog = opened.catalog
        self.projection = opened.projection
        self.operations = opened.operations
        self.checkpoint = opened.checkpoint
        self.segments: tuple[Segment, ...] = opened.segments  # newest first; replaced as a whole
        self.listed: dict[int, SegmentEntry] = opened.listed  # by number
        self.by_number = {segment.number: segment for segment in self.segments}
        self.commit_lock = threading.Lock()  # of who changes checkpoint and segments
        self.reaper = Reaper()  # of segments that were replaced
        self.read_only = opened.read_only
        self.lost = opened.lost
        self.workers = ThreadPoolExecutor(4, thread_name_prefix="durastream-worker")
        self._committer = threading.Thread(
            target=self.log.run, name="durastream-committer", daemon=True
        )
        forked_child.watch(self)
        if threads and not self.read_only:
            self._start_committing()

    def _start_committing(self) -> None:
        try:
            self._committer.start()
        except BaseException:  # no more threads: another attempt must find the directory free
            self.release()
            raise

    def monotonic(self) -> float:
        """Seconds of the disk seam's clock, for delays and deadlines."""
        return self.disk.monotonic_ns() / 1e9

    # -- steps -------------------------------------------------------------------------------

    def attempt(self, step: Step[Result]) -> Outcome[Result]:
        """Run a step under the lock. Raises: Cold; refusals are in the outcome."""
        self.require_usable()  # a forked child must not wait for the lock
        seen = Seen()
        error: Exception
        with self.lock:
            self.require_usable()
            staged_lsn = self.log.staged_lsn
            self.now.begin()
            try:
                return Outcome(step(seen), None, seen.lsn)
            except StreamError as refusal:
                error = refusal
            except LogFull:
                error = self._full()
            except RecordTooLarge as excess:
                error = TooLarge(f"{excess}; send it in several appends")
            except LogFailed:
                error = self.failed()
            except BaseException as cause:
                if not isinstance(cause, Cold) and self.log.staged_lsn != staged_lsn:
                    self._stop_half_way(cause)
                raise
            finally:
                self.now.end()
        # Want of room says nothing of any stream: it waits for nobody, least of all for room.
        lsn = 0 if isinstance(error, StoreBusy | StoreFull | StoreFailed) else seen.lsn
        return Outcome(None, error, lsn)

    def _stop_half_way(self, cause: BaseException) -> None:
        """A step was cut short (Ctrl-C): its record is logged, its changes are not all made.

        From here on only the log is right, so nothing more may be decided or flushed.
        """
        self.is_whole = False
        self._refuse(
            StoreFailed(
                f"{self.path}: {type(cause).__name__} cut a change short; what was acknowledged is "
                "safe, close the store and open it again"
            )
        )

    def run(self, step: Step[Result]) -> Result:
        """Run a step, wait until its answer is true, return or raise it. Blocks."""
        outcome = self.decide(step)
        self.wait_durable(outcome.lsn)
        return outcome.result()

    def decide(self, step: Step[Result]) -> Outcome[Result]:
        """Run a step with all that it misses. Blocks, but does not wait for the log."""
        patience = self.monotonic() + BUSY_PATIENCE
        while True:
            try:
                outcome = self.attempt(step)
            except Cold as cold:
                self.load(cold)
                continue
            if not outcome.is_busy or not self.has_threads or self.monotonic() > patience:
                return outcome
            time.sleep(BUSY_DELAY)  # a flush is under way

    def load(self, cold: Cold) -> None:
        """Fetch what a step missed. Blocks. Raises: StoreClosed, Damaged."""
        with self.using_files():
            try:
                cold.load()
            except RowMissing as missing:
                raise Damaged(str(missing), "meta.lmdb") from missing

    def wait_durable(self, lsn: int) -> None:
        """Wait for an LSN, then make what is durable visible. Raises: StoreFailed."""
        if lsn > self.log.durable_lsn:
            if self.has_threads:
                self._await_committer(lsn)
            else:
                self._commit(lsn)
        if lsn > self.projection.visible_lsn:
            self.publish()

    def _await_committer(self, lsn: int) -> None:
        try:
            while not self.log.wait(lsn, STALL_PATIENCE):
                if self.log.stall:
                    raise self.stalled()
        except (LogFailed, LogClosed) as end:
            is_closed = isinstance(end, LogClosed)
            raise trouble.closed(self.path) if is_closed else self.failed() from end

    def _commit(self, lsn: int) -> None:
        while self.log.durable_lsn < lsn:
            if self.log.failure is not None:
                raise self.failed()
            if not self.log.commit_step() and self.log.stall:
                raise self.stalled()

    def publish(self) -> None:
        """Make visible what is durable, and wake the readers concerned."""
        with self.lock:
            self.projection.advance(self.log.durable_lsn)

    # -- reading -----------------------------------------------------------------------------

    def view(self, seen: Seen, path: str, incarnation: int | None = None) -> tuple[Entry, View]:
        """A step: what is visible of a stream, and where its bytes are.

        Raises: StreamNotFound, too, if another than the ``incarnation`` asked for is there.
        """
        entry, state = self.operations.readable(seen, path)
        if incarnation not in (None, state.stream_id):
            raise StreamNotFound(path)
        return entry, self.view_of(entry, state)

    def reserved_view(self, path: str) -> View:
        """The same of the reserved state. Raises: StreamNotFound."""

        def step(seen: Seen) -> View:
            entry, state = self.operations.live(seen, path)
            return self.view_of(entry, state)

        while True:
            try:
                return self.attempt(step).result()
            except Cold as cold:
                cold.load()

    def view_of(self, entry: Entry, state: StreamState) -> View:
        """Where the bytes of a state are; part of a step. Raises: Cold."""
        spans = [Span(entry.stream_id, state.base, state.tail, entry.tail)]
        below, source_id, quarantine = state.base, state.source_id, entry.quarantine
        while below > 0 and source_id is not None:
            # Its origin: the end of fork and source together may be logged, and not yet durable.
            source = self.catalog.entry(source_id)
            quarantine = first_damage(quarantine, source.quarantine, below)
            base = min(source.origin.base, below)
            spans.append(Span(source_id, base, below, source.tail))
            below, source_id = base, source.origin.source_id
        if self.lost is not None and (quarantine is None or quarantine.position > state.tail):
            quarantine = QuarantineMeta(state.tail, self.lost)  # there may have been more
        spans.reverse()
        return View(state, spans, self.segments, quarantine)

    def read_view(
        self, entry: Entry, view: View, offset: str | None, size_max: int, *, may_wait: bool
    ) -> ReadResult:
        """One chunk of a view, an access. Raises: NeedsDisk, TailMoved, Damaged, refusals."""
        state = view.state
        may_pin = self.log.pinned_size <= self.options.pinned_size_max
        reader = RangeReader(view, may_wait=may_wait, may_pin=may_pin)
        start = resolve_offset(state, offset, reader.is_boundary)
        try:
            chunk = reader.read(start, size_max, whole_messages=is_json(state.content_type))
        except StoreBusy:
            self.wants_flush = True  # then it is read from a segment
            raise
        if state.ttl_seconds is not None or reader.located:
            with self.lock:
                self.operations.touch(entry)
                entry.learn(start, reader.located)
        return ReadResult(
            offset=format_offset(start),
            next_offset=format_offset(chunk.end),
            up_to_date=is_up_to_date(state, chunk.end) and not view.ends_at(chunk.end),
            closed=is_end(state, chunk.end) and not view.ends_at(chunk.end),
            incarnation=state.stream_id,
            content_type=state.content_type,
            buffers=chunk.buffers,
            size=chunk.end - start,
            append_ends=chunk.append_ends,
            start=start,
        )

    def read_files(self, entry: Entry, view: View, offset: str | None, size_max: int) -> ReadResult:
        """``read_view`` where the bytes are in segments. Blocks."""
        with self.using_files():
            return self.read_view(entry, view, offset, size_max, may_wait=True)

    def read(
        self,
        path: str,
        offset: str | None,
        max_bytes: int | None,
        incarnation: int | None = None,
    ) -> ReadResult:
        """Blocks where the bytes are in segments. Raises: Damaged and refusals."""
        size_max = chunk_size(max_bytes)
        for _ in range(_MOVES_MAX):
            entry, view = self.run(lambda seen: self.view(seen, path, incarnation))
            try:
                with suppress(NeedsDisk):
                    return self.read_view(entry, view, offset, size_max, may_wait=False)
                return self.read_files(entry, view, offset, size_max)
            except TailMoved:
                continue
            except SegmentDamaged as damage:
                raise self.quarantine(entry, damage) from damage
        raise AssertionError(f"{path}: bytes kept moving")

    def quarantine(self, entry: Entry, damage: SegmentDamaged) -> Damaged:
        """Close the damaged stream for writes; the error to raise for it."""
        where = f"{damage.path}, byte {damage.position}"
        position = damage.stream_position
        if position is None:  # nobody can tell which of its bytes: none of its own is served
            position = entry.origin.base

        def step(seen: Seen) -> None:
            self.operations.quarantine(seen, entry, position, where)

        with suppress(StorageError):  # if it cannot be logged now, it is found again
            self.run(step)
        return Damaged(f"{entry.origin.path}, offset {format_offset(position)}", where)

    # -- segments ----------------------------------------------------------------------------

    def add_segment(self, segment: Segment | None, entries: Sequence[SegmentEntry]) -> None:
        """Have readers find a newer segment, if there is one. Locked for commits."""
        with self.lock:
            self.listed |= {entry.number: entry for entry in entries}
            if segment is not None:
                self.segments = (segment, *self.segments)
                self.by_number[segment.number] = segment

    def replace_segments(self, old: Sequence[Segment], new: Segment, entry: SegmentEntry) -> None:
        """Have readers find a segment in place of others. Locked for commits."""
        with self.lock:
            numbers = {segment.number for segment in old}
            self.listed = {n: e for n, e in self.listed.items() if n not in numbers}
            self.listed[entry.number] = entry
            self.segments = tuple(sorted({new, *self.segments} - {*old}, key=lambda x: -x.upto_lsn))
            self.by_number = {segment.number: segment for segment in self.segments}

    # -- parked readers ----------------------------------------------------------------------

    def park(self, seen: Seen, path: str, at: ReadResult, waiter: Waiter) -> bool:
        """A step: park a reader behind an empty read, unless there is news already."""
        entry, state = self.operations.readable(seen, path)
        if state.stream_id != at.incarnation:
            raise StreamNotFound(path)
        if state.tail > at.start + at.size or state.closed:
            return False
        entry.park(waiter)
        self.parked.add(waiter)
        return True

    def unpark(self, path: str, waiter: Waiter) -> None:
        """Take a reader back, fired or not; the end of a wait is an access."""
        with self.lock:
            self.parked.discard(waiter)
            binding = self.catalog.bindings.get(path)
            entry = binding.visible if binding is not None else None
            if entry is not None:
                entry.unpark(waiter)
                self.operations.touch(entry)

    def cancel_parked(self) -> None:
        """End every wait: the waiters are woken as cancelled."""
        with self.lock:
            parked, self.parked = self.parked, set()
            for waiter in parked:
                waiter.cancelled = True
                waiter.fire()

    # -- trouble -----------------------------------------------------------------------------

    def set_disk_full(self, full: bool) -> None:
        """Refuse what needs more space, so that what the log has left serves deletions."""
        with self.lock:
            self.disk_is_full = full
            self.operations.growth_refusal = self._full() if full else None

    def _full(self) -> StorageError:
        return trouble.no_room(self.path, self.log, self.options, disk_is_full=self.disk_is_full)

    def stalled(self) -> StoreStalled:
        """What to tell whose write was taken, and has waited for space for too long."""
        return trouble.stalled(self.path, self.log)

    def failed(self) -> StoreFailed:
        """What to tell everybody after the log failed (I7)."""
        return trouble.failed(self.log)

    # -- closing -----------------------------------------------------------------------------

    def retire(self, error: StorageError) -> bool:
        """Log what only memory knows, then refuse everything; whether all could be logged."""
        with self.lock:
            whole = all([self.operations.save_access(e) for e in self.catalog.entries.values()])
            self._refuse(error)
        return whole

    def _refuse(self, error: StorageError) -> None:
        """From now on every step raises ``error``, and nothing more is staged. Locked."""
        self._unusable = error
        self.operations.write_refusal = error  # accesses are staged outside of steps

    @property
    def is_usable(self) -> bool:
        return self._unusable is None

    @property
    def is_foreign(self) -> bool:
        """In a forked child of the process that opened it: any lock may be held for ever."""
        return isinstance(self._unusable, ForeignProcess)

    def refuse_in_child(self) -> None:
        """In a forked child, right after the fork."""
        self._unusable = ForeignProcess(
            f"{self.path}: opened before this process was forked; open the store after the "
            "fork, in one process only"
        )

    def require_usable(self) -> None:
        """Raises: StoreClosed, ForeignProcess."""
        if self._unusable is not None:
            raise copy(self._unusable)  # one object would gather everybody's tracebacks

    @contextmanager
    def using_files(self) -> Iterator[None]:
        """Keep rows and segments open for so long. Raises: StoreClosed, ForeignProcess."""
        self.require_usable()
        with self.lock:
            self.require_usable()
            self._users.append(threading.get_ident())
        try:
            yield
        finally:
            with self.lock:
                self._users.remove(threading.get_ident())
                self._unused.notify_all()

    def stop_committing(self) -> None:
        """Commit what is staged, then nothing more."""
        self.log.stop()
        if self._committer.is_alive():
            self._committer.join()
        elif not self.has_threads and self.log.failure is None:
            with suppress(StoreFailed):
                self._commit(self.log.staged_lsn)
        self.publish()

    def release(self) -> None:
        """Give up files, memory and lock, once nobody uses them; nothing is written."""
        self.is_released = True
        self.workers.shutdown(wait=True)
        with self.lock:
            own = threading.get_ident()  # a signal handler may close what it interrupted
            self._unused.wait_for(lambda: all(user == own for user in self._users))
        self.log.close()
        self.metadata.close()
        for segment in self.segments:
            segment.close()
        self.reaper.close()
        self.disk.close(self.directory.lock)
        forked_child.forget(self)
