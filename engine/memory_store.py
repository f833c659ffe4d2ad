"""The store contract in memory: the readable reference that every other store is compared to.

This file checks arguments, prepares bodies and takes the lock; what then happens is
``memory_streams``'. Nothing survives the process, and nothing expires by itself in the
background: a stream whose time is over ends when it is next asked for, or in ``sweep``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from ..protocol.create import creation_content_type
from ..protocol.describe import describe
from ..protocol.errors import InvalidRequest
from ..protocol.format import format_messages
from ..protocol.payload import Payload, payload_or_refusal
from ..protocol.results import (
    AppendResult,
    Bytes,
    CloseResult,
    ReadResult,
    Stream,
    StreamMessage,
    WaitResult,
)
from .arguments import append_request, chunk_size, create_request, producer_request
from .errors import StoreClosed
from .interrupted import is_closing
from .memory_aio import AsyncStreamStore
from .memory_streams import MemoryStreams, PendingRead
from .options import Limits
from .step_clock import StepClock
from .store_base import StoreBase
from .waiting import ThreadWaiter, Waiter

T = TypeVar("T")
_LIMITS: Final = Limits()


def wall_clock_ms() -> int:
    """Unix time in ms."""
    return time.time_ns() // 1_000_000


class StreamStore(StoreBase):
    """``Store`` in memory. Safe to use from threads; usable as a context manager.

    Args:
        limits: sizes and counts beyond which requests are refused.
        clock: Unix time in ms; expiry goes by it, timeouts do not.
    """

    def __init__(
        self, *, limits: Limits = _LIMITS, clock: Callable[[], int] = wall_clock_ms
    ) -> None:
        self.limits = limits
        self._now = StepClock(clock)
        self._streams = MemoryStreams(limits, self._now)
        self._lock = threading.Lock()
        self._closed = False
        self._aio = AsyncStreamStore(self)

    @property
    def aio(self) -> AsyncStreamStore:
        return self._aio

    @contextmanager
    def _step(self) -> Iterator[MemoryStreams]:
        with self._lock:
            if self._closed:
                raise StoreClosed("the store is closed")
            self._now.begin()
            try:
                yield self._streams
            finally:
                self._now.end()

    def _with_payload(
        self,
        data: Bytes,
        type_of: Callable[[MemoryStreams], str],
        decide: Callable[[MemoryStreams, Payload | InvalidRequest], T],
        *,
        is_create: bool,
    ) -> T:
        """Prepare a body outside the lock, for the content type that holds when deciding."""
        with self._step() as streams:
            content_type = type_of(streams)
        while True:
            payload = payload_or_refusal(
                content_type, data, depth_max=self.limits.json_depth_max, is_create=is_create
            )
            with self._step() as streams:
                present_type = type_of(streams)
                if present_type == content_type:
                    return decide(streams, payload)
            content_type = present_type  # the path was re-created meanwhile

    # -- create and look up ------------------------------------------------------------------

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
        return self._with_payload(
            initial_data,
            lambda streams: creation_content_type(
                request, streams.state(forked_from) if forked_from is not None else None
            ),
            lambda streams, payload: streams.create(request, payload),
            is_create=True,
        )

    def get(self, path: str) -> Stream | None:
        with self._step() as streams:
            state = streams.state(path)
            return describe(state) if state is not None else None

    def get_producer_epoch(self, path: str, producer_id: str) -> int | None:
        with self._step() as streams:
            stream = streams.live_or_none(path)
            known = stream.producers.get(producer_id) if stream is not None else None
            return known.epoch if known is not None else None

    def list(self) -> Sequence[str]:
        with self._step() as streams:
            return streams.paths()

    # -- append and close --------------------------------------------------------------------

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
        return self._with_payload(
            data,
            lambda streams: streams.live(path).state.content_type,
            lambda streams, payload: streams.append(path, request, payload),
            is_create=False,
        )

    def close_stream(self, path: str) -> CloseResult:
        with self._step() as streams:
            return streams.close(path, None)

    def close_stream_with_producer(
        self, path: str, *, producer_id: str, producer_epoch: int, producer_seq: int
    ) -> CloseResult:
        request = producer_request(self.limits, producer_id, producer_epoch, producer_seq)
        with self._step() as streams:
            return streams.close(path, request)

    # -- read and wait -----------------------------------------------------------------------

    def read(
        self, path: str, offset: str | None = None, *, max_bytes: int | None = None
    ) -> ReadResult:
        with self._step() as streams:
            return streams.read(path, offset, chunk_size(max_bytes))

    def wait_for_messages(
        self, path: str, offset: str, timeout_ms: int, *, max_bytes: int | None = None
    ) -> WaitResult:
        end = time.monotonic() + timeout_ms / 1000
        waiter = ThreadWaiter()
        pending = self.open_wait(path, offset, max_bytes)
        try:
            while True:
                left = end - time.monotonic()
                result, pause = self.poll_wait(pending, waiter, left)
                if result is not None:
                    return result
                waiter.wait(pause)
        finally:
            self.end_wait(pending, waiter)

    def open_wait(self, path: str, offset: str, max_bytes: int | None) -> PendingRead:
        """The first of the three steps of a wait, which ``aio`` shares."""
        with self._step() as streams:
            return streams.open_read(path, offset, chunk_size(max_bytes))

    def poll_wait(
        self, pending: PendingRead, waiter: Waiter, left: float
    ) -> tuple[WaitResult | None, float]:
        """The result, or None and how many seconds to wait before looking again unfired."""
        with self._step() as streams:
            result = streams.poll(pending, waiter, timed_out=left <= 0)
            due_ms = streams.next_deadline_ms(pending)
            return result, left if due_ms is None else max(0.0, min(left, due_ms / 1000))

    def end_wait(self, pending: PendingRead, waiter: Waiter) -> None:
        with self._lock:
            pending.stream.waiters.discard(waiter)

    def touch_access(self, path: str) -> None:
        with self._step() as streams:
            stream = streams.live_or_none(path)
            if stream is not None:
                streams.touch(stream)

    def format_response(self, path: str, messages: Sequence[StreamMessage]) -> bytes:
        with self._step() as streams:
            content_type = streams.live(path).state.content_type
        return format_messages(content_type, messages)

    # -- the end -----------------------------------------------------------------------------

    def delete(self, path: str) -> bool:
        with self._step() as streams:
            return streams.delete(path)

    def clear(self) -> None:
        with self._step() as streams:
            streams.clear()

    def sweep(self) -> int:
        """End the streams whose time is over, wake their readers; how many there were."""
        with self._step() as streams:
            return streams.sweep()

    def cancel_all_waits(self) -> None:
        with self._lock:
            self._streams.cancel_waits()

    def close(self) -> None:
        if is_closing():
            return
        with self._lock:
            self._closed = True
            self._streams.cancel_waits()
            self._streams.clear()
