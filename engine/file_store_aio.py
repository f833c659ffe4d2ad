"""``FileBackedStreamStore.aio``: the contract awaitable, on a loop that never waits for a disk.

A step runs on the loop's thread, under the lock, for microseconds. What it finds missing is
loaded by a worker, and then it runs again; ranges that lie in segments are read by a worker (I9).
The committer wakes each loop once per commit; the loop then makes visible what became durable
and answers, in the order of the log, whoever waited for it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from .._native.errors import TailMoved
from .._native.segment import SegmentDamaged
from ..protocol.describe import describe
from ..protocol.results import (
    AppendResult,
    Bytes,
    CloseResult,
    ReadResult,
    Stream,
    StreamMessage,
    WaitResult,
)
from .arguments import chunk_size, producer_request
from .catalog import Cold
from .errors import StorageError, StoreClosed
from .fast_path import FastPath
from .file_engine import BUSY_DELAY, BUSY_PATIENCE, STALL_PATIENCE, FileEngine
from .ranges import NeedsDisk
from .step import Step
from .store_base import AsyncStoreBase
from .waiting import LoopWaiter
from .wakeup import WakeUp

if TYPE_CHECKING:
    from .file_store import FileBackedStreamStore

Result = TypeVar("Result")


class CommitListener(Protocol):
    """A front end with answers of its own that wait for the log. Called on its loop."""

    def committed(self) -> None:
        """The visible watermark moved."""

    def failed(self, error: Callable[[], StorageError]) -> None:
        """What waits now will not become durable; ``error`` makes what to answer."""


class CommitWaiters:
    """Who waits on one event loop for the durable watermark. Used on that loop only."""

    def __init__(self, engine: FileEngine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop
        self._wakeup = WakeUp()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._stall_timer: asyncio.TimerHandle | None = None
        self._listeners: list[CommitListener] = []
        try:
            engine.log.add_wake_fd(self._wakeup.write_fd)
        except MemoryError:
            self._wakeup.close()
            raise
        loop.add_reader(self._wakeup.read_fd, self._on_commit)

    def listen(self, listener: CommitListener) -> None:
        """Have a front end told of every commit, and of what will never become durable."""
        self._listeners.append(listener)

    def unlisten(self, listener: CommitListener) -> None:
        self._listeners.remove(listener)

    async def wait(self, lsn: int) -> None:
        """Return once ``lsn`` is durable and visible. Raises: StoreFailed, StoreStalled."""
        engine = self._engine
        if lsn > engine.log.durable_lsn:
            if engine.log.failure is not None:
                raise engine.failed()
            self._watch_stall()
            future: asyncio.Future[None] = self._loop.create_future()
            heapq.heappush(self._waiting, (lsn, next(self._order), future))
            await future
        elif lsn > engine.projection.visible_lsn:
            engine.publish()

    def _on_commit(self) -> None:
        self._wakeup.drain()
        self._answer()
        if self._engine.log.failure is not None:
            self._fail(self._engine.failed)
        self._watch_stall()

    def _watch_stall(self) -> None:
        """Nobody waits for ever for space: the committer wakes the loop when that begins."""
        if self._stall_timer is None and self._engine.log.stall:
            self._stall_timer = self._loop.call_later(STALL_PATIENCE, self._end_stall)

    def _end_stall(self) -> None:
        self._stall_timer = None
        if self._engine.log.stall:
            self._fail(self._engine.stalled)

    def _answer(self) -> None:
        engine, waiting = self._engine, self._waiting
        engine.publish()
        durable = engine.projection.visible_lsn
        while waiting and waiting[0][0] <= durable:
            future = heapq.heappop(waiting)[2]
            if not future.done():
                future.set_result(None)
        for listener in self._listeners:
            listener.committed()

    def _fail(self, error: Callable[[], StorageError]) -> None:
        waiting, self._waiting = self._waiting, []
        for _, _, future in waiting:
            if not future.done():
                future.set_exception(error())
        for listener in self._listeners:
            listener.failed(error)

    def close(self) -> None:
        """Answer whoever waits, and let go of the descriptor.

        On the loop's thread, or when the loop is closed; the committer has ended.
        """
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self._engine.log.remove_wake_fd(self._wakeup.write_fd)
        if not self._loop.is_closed():
            self._loop.remove_reader(self._wakeup.read_fd)
            self._answer()  # the last commit's wake-up may not have been seen yet
            self._fail(self._engine.failed if self._engine.log.failure else _closed)
        self._wakeup.close()


class AsyncFileStore(AsyncStoreBase):
    """The contract of ``FileBackedStreamStore`` for event loops, any number of them."""

    def __init__(self, store: FileBackedStreamStore, engine: FileEngine) -> None:
        self._store = store
        self._engine = engine
        self._commits: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, CommitWaiters] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()
        self._released = False

    # -- for front ends --------------------------------------------------------------------

    def fast_path(self, listener: CommitListener) -> FastPath:
        """Appends without an object per request, for the running loop. Raises: StoreClosed."""
        self._waiters().listen(listener)
        return FastPath(self._engine)

    def drop_fast_path(self, listener: CommitListener) -> None:
        """The listener's loop is not served any more; on that loop."""
        found = self._commits.get(asyncio.get_running_loop())
        if found is not None:
            found.unlisten(listener)

    # -- running steps -----------------------------------------------------------------------

    def _waiters(self) -> CommitWaiters:
        loop = asyncio.get_running_loop()
        found = self._commits.get(loop)
        if found is None:
            with self._lock:
                if self._released:
                    raise _closed()
                self._drop_closed_loops()
                found = self._commits[loop] = CommitWaiters(self._engine, loop)
        return found

    def _drop_closed_loops(self) -> None:
        for loop, waiters in list(self._commits.items()):
            if loop.is_closed():
                del self._commits[loop]
                waiters.close()

    async def _run(self, step: Step[Result]) -> Result:
        engine, patience = self._engine, 0.0
        while True:
            try:
                outcome = engine.attempt(step)
            except Cold as cold:
                await self._in_worker(partial(engine.load, cold))
                continue
            if not outcome.is_busy or patience > BUSY_PATIENCE:
                break
            patience += BUSY_DELAY
            await asyncio.sleep(BUSY_DELAY)  # a flush is under way
        if outcome.lsn > engine.projection.visible_lsn:
            await self._waiters().wait(outcome.lsn)
        return outcome.result()

    async def _in_worker(self, work: Callable[[], Result]) -> Result:
        try:
            future = asyncio.get_running_loop().run_in_executor(self._engine.workers, work)
        except RuntimeError:
            self._engine.require_usable()  # the workers ended with the store
            raise
        return await future

    # -- writing -----------------------------------------------------------------------------

    async def create(
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
        return await self._run(
            self._store.create_step(
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

    async def append(
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
        return await self._run(
            self._store.append_step(
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

    async def close_stream(self, path: str) -> CloseResult:
        return await self._run(lambda seen: self._engine.operations.close(seen, path, None))

    async def close_stream_with_producer(
        self, path: str, *, producer_id: str, producer_epoch: int, producer_seq: int
    ) -> CloseResult:
        producer = producer_request(self._store.limits, producer_id, producer_epoch, producer_seq)
        return await self._run(lambda seen: self._engine.operations.close(seen, path, producer))

    async def delete(self, path: str) -> bool:
        return await self._run(lambda seen: self._engine.operations.delete(seen, path))

    async def clear(self) -> None:
        await self._in_worker(self._store.clear)

    # -- reading -----------------------------------------------------------------------------

    async def get(self, path: str) -> Stream | None:
        state = await self._run(lambda seen: self._store.visible_step(seen, path))
        return None if state is None else describe(state)

    async def get_producer_epoch(self, path: str, producer_id: str) -> int | None:
        return await self._run(
            lambda seen: self._store.producer_epoch_step(seen, path, producer_id)
        )

    async def read(
        self, path: str, offset: str | None = None, *, max_bytes: int | None = None
    ) -> ReadResult:
        return await self._read(path, offset, max_bytes)

    async def _read(
        self,
        path: str,
        offset: str | None,
        max_bytes: int | None,
        incarnation: int | None = None,
    ) -> ReadResult:
        size_max = chunk_size(max_bytes)
        while True:
            entry, view = await self._run(lambda seen: self._engine.view(seen, path, incarnation))
            try:
                return self._engine.read_view(entry, view, offset, size_max, may_wait=False)
            except TailMoved:
                continue
            except NeedsDisk:
                pass
            try:
                return await self._in_worker(
                    lambda: self._engine.read_files(entry, view, offset, size_max)  # noqa: B023
                )
            except TailMoved:
                continue
            except SegmentDamaged as error:
                damage = error
            raise await self._in_worker(partial(self._engine.quarantine, entry, damage))

    async def wait_for_messages(
        self, path: str, offset: str, timeout_ms: int, *, max_bytes: int | None = None
    ) -> WaitResult:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        at, incarnation = offset, None
        waiter = LoopWaiter()
        while True:
            result = await self._read(path, at, max_bytes, incarnation)
            if result.size or result.closed:
                return WaitResult(result, False, result.closed)
            # ``now`` is resolved once, before waiting (4.6), and means this very stream.
            at, incarnation = result.offset, result.incarnation
            left = deadline - loop.time()
            if left <= 0:
                return WaitResult(result, True, False)
            try:
                if await self._run(partial(self._engine.park, path=path, at=result, waiter=waiter)):
                    await waiter.wait(left)
            finally:
                self._engine.unpark(path, waiter)
            if waiter.cancelled:
                raise StoreClosed("waiting readers were released")

    async def touch_access(self, path: str) -> None:
        await self._run(lambda seen: self._store.touch_step(seen, path))

    async def format_response(self, path: str, messages: Sequence[StreamMessage]) -> bytes:
        return await self._in_worker(lambda: self._store.format_response(path, messages))

    async def list(self) -> Sequence[str]:
        return await self._in_worker(self._store.list)

    # -- life --------------------------------------------------------------------------------

    def cancel_all_waits(self) -> None:
        self._store.cancel_all_waits()

    async def close(self) -> None:
        # In a thread of its own: the store's workers end with it.
        await asyncio.get_running_loop().run_in_executor(None, self._store.close)

    def release(self) -> None:
        """Let go of every loop; the store is being closed, by any thread."""
        with self._lock:
            self._released = True
            commits = list(self._commits.items())
            self._commits.clear()
        for loop, waiters in commits:
            if loop.is_closed() or loop is _running_loop():
                waiters.close()
            else:
                _close_on(loop, waiters)


def _closed() -> StoreClosed:
    return StoreClosed("the store is closed")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _close_on(loop: asyncio.AbstractEventLoop, waiters: CommitWaiters) -> None:
    done = threading.Event()

    def close() -> None:
        waiters.close()
        done.set()

    try:
        loop.call_soon_threadsafe(close)
    except RuntimeError:  # closed meanwhile
        waiters.close()
        return
    done.wait(timeout=1.0)
