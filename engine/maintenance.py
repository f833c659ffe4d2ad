"""The store's housekeeping, one short step at a time: flush, expiry, eviction, spare log file.

In production one thread runs ``Maintenance.run``; a simulator calls ``step``. A step that meets
trouble says so once, in the log, and again when it is over.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress

import lmdb

from ..protocol.errors import StreamError
from .catalog import Cold
from .compactor import Compactor
from .errors import StorageError, StoreStalled
from .file_engine import FileEngine
from .flush import flush
from .reserve import Reserve, is_disk_full
from .step import Seen
from .trimming import Trimming

logger = logging.getLogger("durastream.maintenance")

_PERIOD = 0.2  # seconds between looks
_EVICT_PER_STEP = 2_000  # rows examined under the lock
_EXPIRE_PER_STEP = 500
_RETRY_DELAY = 1.0  # seconds after a failed flush

# What can fail for a while, as the log calls it.
_FLUSH = "flushing"
_SPARE = "preparing the log's next file"
_STALL = "beginning the log's next file"
_RESERVE = "reserving space"


class Maintenance:
    """Housekeeping of one engine."""

    def __init__(self, engine: FileEngine) -> None:
        self._engine = engine
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="durastream-maintenance", daemon=True
        )
        self._flush_lock = engine.commit_lock
        self._flushed_at = self._swept_at = engine.monotonic()
        self._swept_upto: tuple[int, int] | None = None  # in the table of deadlines
        self._kept = 0  # bindings and entries after the last eviction
        self._retry_at = 0.0
        self._reserve = Reserve(engine.disk, engine.directory.reserve, engine.options.reserve_size)
        self.compactor = Compactor(engine, self._reserve)
        self._trimming = Trimming(engine)
        self._troubles: set[str] = set()  # what fails at present, said once
        self._said_failed = False

    def start(self) -> None:
        self._keep_reserve()
        self._thread.start()
        self.compactor.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.compactor.stop()

    def _run(self) -> None:
        while not self._stop.wait(_PERIOD):
            try:
                self.step()
            except Exception:
                logger.exception("housekeeping failed; it goes on")

    def step(self) -> None:
        """Look at everything once."""
        if self._has_failed():
            return
        now = self._engine.monotonic()
        self._note_stall()
        self._flush_if_due(now)
        if now - self._swept_at >= self._engine.options.sweep_interval:
            self._swept_at = now
            self.sweep()
        self._evict()
        self._prepare_spare()
        self._keep_reserve()

    def _note_stall(self) -> None:
        stall = self._engine.log.stall
        if stall:
            self._begin_trouble(_STALL, OSError(stall, os.strerror(stall)))
        else:
            self._end_trouble(_STALL)

    def _keep_reserve(self) -> None:
        """Without it the next flush may not fit: nothing may grow until it is there again."""
        if _FLUSH in self._troubles:
            return
        try:
            self._reserve.fill()
        except OSError as error:
            self._begin_trouble(_RESERVE, error)
        else:
            self._end_trouble(_RESERVE)

    def _prepare_spare(self) -> None:
        """Have the log's next file ready: a log that cannot roll stalls."""
        if self._engine.disk_is_full and _FLUSH in self._troubles:
            return  # what space there is is the flush's, which also frees files of the log
        try:
            while not self._stop.is_set() and self._engine.log.prepare_spare_step():
                pass
        except OSError as error:
            self._begin_trouble(_SPARE, error)
        else:
            self._end_trouble(_SPARE)

    def _has_failed(self) -> bool:
        """After a failed sync nothing may be written any more (I7)."""
        failure = self._engine.log.failure
        if failure is not None and not self._said_failed:
            self._said_failed = True
            logger.critical("%s", self._engine.failed())
        return failure is not None

    # -- flush -------------------------------------------------------------------------------

    def _flush_if_due(self, now: float) -> None:
        options = self._engine.options
        due = self._engine.log.unflushed_size >= options.flush_size
        due = due or self._engine.log.wal_size >= options.wal_size_max // 4
        due = due or (now - self._flushed_at >= options.flush_age)
        due = due or (self._lacks_room() and self._engine.log.file_count > 1)
        due = due or self._engine.wants_flush
        if due and now >= self._retry_at:
            self._engine.wants_flush = False
            self._flushed_at = now
            self.try_flush()

    def _lacks_room(self) -> bool:
        return self._engine.disk_is_full or bool(self._engine.log.stall)

    def try_flush(self, *, clean: bool = False) -> bool:
        """Flush; trouble is logged once and tried again later. Whether it worked."""
        try:
            self._flush_with_reserve(clean)
        except (OSError, lmdb.Error, StorageError) as error:
            self._retry_at = self._engine.monotonic() + _RETRY_DELAY
            self._begin_trouble(_FLUSH, error)
            return False
        self._end_trouble(_FLUSH)
        self._keep_reserve()
        return True

    def _flush_with_reserve(self, clean: bool) -> None:
        while True:
            try:
                self.flush(clean=clean)
                return
            except (OSError, lmdb.Error) as error:
                if not is_disk_full(error) or not self._give_way(error):
                    raise

    def _give_way(self, error: Exception) -> bool:
        """Free what is only kept for later; False if nothing was left of it."""
        if self._reserve.give_up():
            logger.warning("gave up %s for a flush", self._engine.directory.reserve)
            self._begin_trouble(_RESERVE, error)
            return True
        with suppress(OSError):
            return self._engine.log.discard_unfinished_spare()
        return False

    def _begin_trouble(self, what: str, error: Exception) -> None:
        if what not in self._troubles:
            logger.error("%s failed and is tried again: %s", what, error)
        self._troubles.add(what)
        if is_disk_full(error):
            self._engine.set_disk_full(True)

    def _end_trouble(self, what: str) -> None:
        if what in self._troubles:
            logger.warning("%s works again", what)
        self._troubles.discard(what)
        if self._engine.disk_is_full and not self._troubles:
            self._engine.set_disk_full(False)

    def flush(self, *, clean: bool = False) -> bool:
        """Flush now. Raises: OSError, lmdb.Error, StoreFailed."""
        if self._engine.read_only:
            return False  # what was replayed is not all that was acknowledged (I6)
        if self._engine.log.failure is not None:
            raise self._engine.failed()
        with self._flush_lock:
            return flush(self._engine, clean=clean)

    # -- expiry ------------------------------------------------------------------------------

    def sweep(self) -> int:
        """Log the end of some hundred streams whose time is over; how many (section 13).

        And move on the beginning of others, as their retention says.
        """
        engine, ended, trimmed = self._engine, 0, 0
        if engine.read_only:
            return 0
        in_memory = self._due_in_memory()
        in_rows = [each for each in self._due_in_rows() if not self._trimming.is_stuck(each)]
        for stream_id in sorted({*in_rows, *in_memory}):
            if self._expire(stream_id):
                ended += 1
            else:
                trimmed += self._trimming.trim(stream_id)
        with engine.lock:
            for stream_id in in_memory:
                engine.operations.watch(stream_id)
        if ended or trimmed:
            with suppress(StoreStalled):  # which was said, and may be over after the next flush
                engine.wait_durable(engine.log.staged_lsn)  # and wake whoever waits at them
        return ended

    def _due_in_rows(self) -> list[int]:
        """Rows are as of the last flush, so they come up again: each sweep goes on behind."""
        engine = self._engine
        due = engine.metadata.due(engine.now(), _EXPIRE_PER_STEP, self._swept_upto)
        self._swept_upto = due[-1] if len(due) == _EXPIRE_PER_STEP else None
        return [stream_id for _, stream_id in due]

    def _due_in_memory(self) -> list[int]:
        """Rows not yet flushed, or loaded: their deadlines in LMDB are old or missing."""
        engine = self._engine
        with engine.lock:
            watchlist = engine.operations.watchlist
            due = watchlist.take_due(engine.now(), _EXPIRE_PER_STEP)
            overlong = watchlist.take_overlong()
        return [*due, *overlong]

    def _expire(self, stream_id: int) -> bool:
        def step(seen: Seen) -> bool:
            return self._engine.operations.expire(seen, stream_id)

        while True:
            try:
                return self._engine.attempt(step).result()
            except Cold as cold:
                try:
                    self._engine.load(cold)
                except StreamError:
                    return False
            except StreamError:
                return False

    # -- memory ------------------------------------------------------------------------------

    def _evict(self) -> None:
        """Each look at a row may free it or give it one more chance: look at two for each new."""
        catalog = self._engine.catalog
        left = _EVICT_PER_STEP + 2 * max(0, catalog.size - self._kept)
        while left > 0:
            self._evict_step()
            left -= _EVICT_PER_STEP
        self._kept = catalog.size

    def _evict_step(self) -> None:
        engine = self._engine
        with engine.lock:
            unlogged = engine.catalog.evict(
                engine.checkpoint.lsn, engine.options.streams_cached_max, _EVICT_PER_STEP
            )
            for entry in unlogged:
                if entry.reserved is not None:
                    engine.operations.log_access(entry, entry.reserved)
