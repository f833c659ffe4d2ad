"""``StreamStore`` for an event loop: the same steps, awaitable.

A step of the memory store takes microseconds, so it runs on the loop's own thread; only what
costs with the size of a body is handed to a worker. A waiting reader is a future, no thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..protocol.results import (
    AppendResult,
    Bytes,
    CloseResult,
    ReadResult,
    Stream,
    StreamMessage,
    WaitResult,
)
from .store_base import AsyncStoreBase
from .waiting import LoopWaiter

if TYPE_CHECKING:
    from .memory_store import StreamStore

# From here on, checking a JSON body could hold up the loop for a millisecond.
WORKER_SIZE = 128 * 1024


class AsyncStreamStore(AsyncStoreBase):
    """``AsyncStore`` in memory."""

    def __init__(self, store: StreamStore) -> None:
        self._store = store

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
        def step() -> Stream:
            return self._store.create(
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

        return step() if len(initial_data) < WORKER_SIZE else await asyncio.to_thread(step)

    async def get(self, path: str) -> Stream | None:
        return self._store.get(path)

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
        def step() -> AppendResult:
            return self._store.append(
                path,
                data,
                content_type=content_type,
                seq=seq,
                producer_id=producer_id,
                producer_epoch=producer_epoch,
                producer_seq=producer_seq,
                close=close,
            )

        return step() if len(data) < WORKER_SIZE else await asyncio.to_thread(step)

    async def close_stream(self, path: str) -> CloseResult:
        return self._store.close_stream(path)

    async def close_stream_with_producer(
        self, path: str, *, producer_id: str, producer_epoch: int, producer_seq: int
    ) -> CloseResult:
        return self._store.close_stream_with_producer(
            path,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            producer_seq=producer_seq,
        )

    async def get_producer_epoch(self, path: str, producer_id: str) -> int | None:
        return self._store.get_producer_epoch(path, producer_id)

    async def read(
        self, path: str, offset: str | None = None, *, max_bytes: int | None = None
    ) -> ReadResult:
        return self._store.read(path, offset, max_bytes=max_bytes)

    async def wait_for_messages(
        self, path: str, offset: str, timeout_ms: int, *, max_bytes: int | None = None
    ) -> WaitResult:
        end = time.monotonic() + timeout_ms / 1000
        waiter = LoopWaiter()
        pending = self._store.open_wait(path, offset, max_bytes)
        try:
            while True:
                left = end - time.monotonic()
                result, pause = self._store.poll_wait(pending, waiter, left)
                if result is not None:
                    return result
                await waiter.wait(pause)
        finally:
            self._store.end_wait(pending, waiter)

    async def touch_access(self, path: str) -> None:
        self._store.touch_access(path)

    async def format_response(self, path: str, messages: Sequence[StreamMessage]) -> bytes:
        return self._store.format_response(path, messages)

    async def delete(self, path: str) -> bool:
        return self._store.delete(path)

    async def list(self) -> Sequence[str]:
        return self._store.list()

    async def clear(self) -> None:
        self._store.clear()

    def cancel_all_waits(self) -> None:
        self._store.cancel_all_waits()

    async def close(self) -> None:
        self._store.close()
