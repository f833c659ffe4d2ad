"""``FileBackedStreamStore``: durable streams in a directory, usable without any server.

Every method blocks, without the GIL, until what it says is durable; ``store.aio`` is the same
contract awaitable. One process at a time may open a directory. Which rule applies is decided in
``protocol``; how it is logged and read, in ``file_engine`` and ``operations``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from .._native.disk import Disk
from ..protocol.describe import describe
from ..protocol.errors import StreamError, StreamGone
from ..protocol.expiry import is_expired
from ..protocol.format import format_messages
from ..protocol.results import (
    AppendResult,
    Bytes,
    CloseResult,
    ReadResult,
    Stream,
    StreamMessage,
    WaitResult,
)
from ..protocol.state import StreamState
from .arguments import append_request, create_request, producer_request
from .backup import Backup, BackupResult
from .body import Body
from .compactor import Space
from .errors import StoreClosed
from .file_engine import FileEngine
from .file_store_aio import AsyncFileStore
from .fork_boundaries import AskedBoundaries
from .interrupted import is_closing
from .maintenance import Maintenance
from .options import FileStoreOptions, Limits
from .scrub import Scrub, Scrubber
from .step import Seen
from .store_base import StoreBase
from .transfer_format import Incoming
from .transfer_in import Import
from .transfer_out import Export


class FileBackedStreamStore(StoreBase):
    """Streams in a data directory.

    Args:
        path: the data directory; made if missing.
        limits: what is refused, section 17.
        options: performance, space and durability.
        disk: the disk seam; a simulated one in tests.
        metadata_path: where LMDB lives if the disk is simulated.
        clock: Unix time in ms; a test's own, to move time.
        threads: False in simulators only: nothing runs by itself then.

    Raises: OpenError (DirectoryInUse, UnknownFormat, ...), StoreFull, Damaged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        limits: Limits | None = None,
        options: FileStoreOptions | None = None,
        disk: Disk | None = None,
        metadata_path: Path | None = None,
        clock: Callable[[], int] | None = None,
        threads: bool = True,
    ) -> None:
        self.limits = limits or Limits()
        self._engine = FileEngine(
            Path(os.path.abspath(path)),
            limits=self.limits,
            options=options or FileStoreOptions(),
            disk=disk,
            metadata_path=metadata_path,
            clock=clock,
            threads=threads,
        )
        self._maintenance = Maintenance(self._engine)
        self._scrubber = Scrubber(self._engine)
        self._aio = AsyncFileStore(self, self._engine)
        self._is_closed = False
        self._closing = threading.RLock()  # a signal handler may close in the midst of it
        if threads and not self._engine.read_only:
            self._start_maintenance()

    def _start_maintenance(self) -> None:
        try:
            self._maintenance.start()
            self._scrubber.start()
        except BaseException:  # no more threads: another attempt must find the directory free
            self._close_once()
            raise

    @property
    def path(self) -> Path:
        """The data directory."""
        return self._engine.path

    @property
    def read_only(self) -> bool:
        """For reading only, because of damage that may have hit any stream (I6)."""
        return self._engine.read_only

    @property
    def scrub(self) -> Scrub:
        """The background check of all that is stored: ``scrub.state`` says how far it is."""
        return self._scrubber.scrub

    @property
    def aio(self) -> AsyncFileStore:
        """The same contract awaitable, on whatever event loop calls it."""
        return self._aio

    # -- writing -----------------------------------------------------------------------------

    def create(
        self,
        path: str,
        *,
        content_type: str | None = None,
        ttl_seconds: int | None = None,
        expires_at: str | None = None,
        initial_data: Bytes = b"",
        closed: bool = False,
        forked_from: str | None = None,
        fork_offset: str | None = None,
        fork_sub_offset: int | None = None,
        retention_seconds: int | None = None,
        retention_bytes: int | None = None,
    ) -> Stream:
        return self._engine.run(
            self.create_step(
                path,
                content_type=content_type,
                ttl_seconds=ttl_seconds,
                expires_at=expires_at,
                initial_data=initial_data,
                closed=closed,
                forked_from=forked_from,
                fork_offset=fork_offset,
                fork_sub_offset=fork_sub_offset,
                retention_seconds=retention_seconds,
                retention_bytes=retention_bytes,
            )
        )

    def append(
        self,
        path: str,
        data: Bytes,
        *,
        content_type: str | None = None,
        seq: str | None = None,
        producer_id: str | None = None,
        producer_epoch: int | None = None,
        producer_seq: int | None = None,
        close: bool = False,
    ) -> AppendResult:
        return self._engine.run(
            self.append_step(
                path,
                data,
                content_type=content_type,
                seq=seq,
                producer_id=producer_id,
                producer_epoch=producer_epoch,
                producer_seq=producer_seq,
                close=close,
            )
        )

    def close_stream(self, path: str) -> CloseResult:
        return self._engine.run(lambda seen: self._engine.operations.close(seen, path, None))

    def close_stream_with_producer(
        self, path: str, *, producer_id: str, producer_epoch: int, producer_seq: int
    ) -> CloseResult:
        producer = producer_request(self.limits, producer_id, producer_epoch, producer_seq)
        return self._engine.run(lambda seen: self._engine.operations.close(seen, path, producer))

    def delete(self, path: str) -> bool:
        return self._engine.run(lambda seen: self._engine.operations.delete(seen, path))

    def clear(self) -> None:
        engine, lsn = self._engine, 0
        for path in self.list():
            outcome = engine.decide(partial(engine.operations.delete, path=path))
            with suppress(StreamGone):  # deleted meanwhile
                outcome.result()
            lsn = max(lsn, outcome.lsn)
        engine.wait_durable(lsn)  # once for all

    # -- reading -----------------------------------------------------------------------------

    def get(self, path: str) -> Stream | None:
        state = self._engine.run(lambda seen: self.visible_step(seen, path))
        return None if state is None else describe(state)

    def get_producer_epoch(self, path: str, producer_id: str) -> int | None:
        return self._engine.run(lambda seen: self.producer_epoch_step(seen, path, producer_id))

    def read(
        self, path: str, offset: str | None = None, *, max_bytes: int | None = None
    ) -> ReadResult:
        return self._engine.read(path, offset, max_bytes)

    def wait_for_messages(
        self, path: str, offset: str, timeout_ms: int, *, max_bytes: int | None = None
    ) -> WaitResult:
        deadline = self._engine.monotonic() + timeout_ms / 1000
        at, incarnation = offset, None
        waiter = self._engine.new_waiter()
        while True:
            result = self._engine.read(path, at, max_bytes, incarnation)
            if result.size or result.closed:
                return WaitResult(result, False, result.closed)
            # ``now`` is resolved once, before waiting (4.6), and means this very stream.
            at, incarnation = result.offset, result.incarnation
            left = deadline - self._engine.monotonic()
            if left <= 0:
                return WaitResult(result, True, False)
            try:
                if self._engine.run(
                    partial(self._engine.park, path=path, at=result, waiter=waiter)
                ):
                    waiter.wait(left)
            finally:
                self._engine.unpark(path, waiter)
            if waiter.cancelled:
                raise StoreClosed("waiting readers were released")

    def touch_access(self, path: str) -> None:
        self._engine.run(lambda seen: self.touch_step(seen, path))

    def format_response(self, path: str, messages: Sequence[StreamMessage]) -> bytes:
        state = self._engine.run(lambda seen: self._engine.operations.readable(seen, path)[1])
        return format_messages(state.content_type, messages)

    def list(self) -> Sequence[str]:
        engine = self._engine
        engine.run(lambda seen: engine.operations.require_all())
        with engine.using_files():
            found = {row.state.stream_id: row.state for row in engine.metadata.rows() if row.state}
        with engine.lock:
            for stream_id, entry in engine.catalog.entries.items():
                if entry.visible is not None:
                    found[stream_id] = entry.visible
                else:
                    found.pop(stream_id, None)
            now = engine.now()
        # A set: a row read before a flush may be of a stream that made room for another one.
        return sorted({state.path for state in found.values() if _is_live(state, now)})

    def cancel_all_waits(self) -> None:
        self._engine.cancel_parked()

    # -- life --------------------------------------------------------------------------------

    def flush(self) -> bool:
        """Move what is durable from the log into a segment now; False if there was nothing.

        Never needed for durability. Raises: OSError, lmdb.Error, StoreClosed, StoreFailed.
        """
        with self._engine.using_files():
            return self._maintenance.flush()

    @property
    def space(self) -> Space:
        """What segments take on the disk, dead and pinned bytes included."""
        return self._maintenance.compactor.space

    def compact(self, *, everything: bool = False) -> None:
        """Merge segments now until their bounds are kept. The store does so by itself.

        Args:
            everything: merge all of them into one, and drop all that nobody needs.

        Raises: OSError, lmdb.Error, StoreClosed, Damaged.
        """
        with self._engine.using_files():
            self._maintenance.compactor.settle(everything=everything)

    def backup(self, target: str | os.PathLike[str], *, keep: int | None = None) -> BackupResult:
        """Back up to the folder ``target``, beside everything else that goes on.

        All that was acknowledged when it is called is in the restore point.

        Args:
            keep: restore points to keep, older ones are removed; None: all.

        Raises: BackupDamaged, NothingStored, DirectoryInUse, StoreBusy, OpenError, OSError.
        """
        backup = Backup(self.path, Path(target), keep=keep, disk=self._engine.disk)
        for _ in backup.run():
            pass
        assert backup.result is not None
        return backup.result

    def exporting(
        self, folder: str | os.PathLike[str], paths: Sequence[str] | None = None
    ) -> Export:
        """An export of some streams, or of all, to a folder; its ``run`` does it in steps."""
        return Export(self._engine, Path(folder), self.list() if paths is None else paths)

    def importing(self, streams: Sequence[Incoming]) -> Import:
        """An import of streams from elsewhere; its ``run`` does it in steps."""
        return Import(self._engine, streams)

    def sweep(self) -> int:
        """Log the end of expired streams now; how many. The store does so by itself."""
        with self._engine.using_files():
            return self._maintenance.sweep()

    def close(self) -> None:
        if not self._engine.is_foreign and not is_closing():
            self._close_once()

    def _close_once(self) -> None:
        with self._closing:
            if not self._is_closed and not self._engine.is_released:
                self._is_closed = True
                self._close()

    def _close(self) -> None:
        engine = self._engine
        clean = engine.retire(StoreClosed("the store is closed"))
        engine.cancel_parked()
        try:
            self._scrubber.stop()
            self._maintenance.stop()
            if engine.log.stall:
                self._maintenance.try_flush()  # frees files of the log
            engine.stop_committing()
            clean = clean and engine.log.durable_lsn == engine.log.staged_lsn
            if engine.is_whole and not engine.read_only and engine.log.failure is None:
                self._maintenance.try_flush(clean=clean)
        finally:
            self._aio.release()
            engine.release()

    # -- steps, shared with ``store.aio`` ------------------------------------------------------

    def create_step(
        self,
        path: str,
        *,
        content_type: str | None,
        ttl_seconds: int | None,
        expires_at: str | None,
        initial_data: Bytes,
        closed: bool,
        forked_from: str | None,
        fork_offset: str | None,
        fork_sub_offset: int | None,
        retention_seconds: int | None = None,
        retention_bytes: int | None = None,
    ) -> Callable[[Seen], Stream]:
        request = create_request(
            self.limits,
            path,
            content_type=content_type,
            ttl_seconds=ttl_seconds,
            expires_at=expires_at,
            initial_data=initial_data,
            closed=closed,
            forked_from=forked_from,
            fork_offset=fork_offset,
            fork_sub_offset=fork_sub_offset,
            retention_seconds=retention_seconds,
            retention_bytes=retention_bytes,
        )
        body = Body(initial_data, self.limits.json_depth_max, is_create=True)
        boundaries = AskedBoundaries(self._engine, forked_from or path)
        return lambda seen: self._engine.operations.create(seen, request, body, boundaries)

    def append_step(
        self,
        path: str,
        data: Bytes,
        *,
        content_type: str | None,
        seq: str | None,
        producer_id: str | None,
        producer_epoch: int | None,
        producer_seq: int | None,
        close: bool,
    ) -> Callable[[Seen], AppendResult]:
        request = append_request(
            self.limits,
            data,
            content_type=content_type,
            seq=seq,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            producer_seq=producer_seq,
            close=close,
        )
        body = Body(data, self.limits.json_depth_max)
        return lambda seen: self._engine.operations.append(seen, path, request, body)

    def visible_step(self, seen: Seen, path: str) -> StreamState | None:
        found = self._engine.operations.visible(seen, path)
        return None if found is None else found[1]

    def producer_epoch_step(self, seen: Seen, path: str, producer_id: str) -> int | None:
        try:
            entry, _ = self._engine.operations.live(seen, path)
        except StreamError:
            return None
        known = self._engine.catalog.producer(entry, producer_id)
        return None if known is None else known.epoch

    def touch_step(self, seen: Seen, path: str) -> None:
        found = self._engine.operations.visible(seen, path)
        if found is not None:
            self._engine.operations.touch(found[0])


def _is_live(state: StreamState, now_ms: int) -> bool:
    return not state.soft_deleted and not is_expired(state, now_ms)
