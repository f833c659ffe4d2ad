"""The store contract: what the server, the tests and every user of a store may rely on.

``Store`` blocks; ``AsyncStore`` is the same contract awaitable (``store.aio``). Names follow
the Node package's store in Python's spelling. Everything returned is durable (or, in the
memory store, final) when the call returns, refusals included: no answer depends on anything
that a crash could take back. Nothing here may know of HTTP or of a file.

Offsets are the opaque tokens of protocol section 10; ``-1`` is the start and ``now`` the tail.
Refusals are the exceptions of ``protocol.errors``, trouble of the medium those of
``engine.errors``. The outcomes of producers are results, not exceptions (section 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..protocol.results import (
    AppendResult,
    Bytes,
    CloseResult,
    ProducerResult,
    ProducerStatus,
    ReadResult,
    Stream,
    StreamMessage,
    WaitResult,
)

__all__ = [
    "AppendResult",
    "AsyncStore",
    "Bytes",
    "CloseResult",
    "ProducerResult",
    "ProducerStatus",
    "ReadResult",
    "Store",
    "Stream",
    "StreamMessage",
    "WaitResult",
]


class Store(Protocol):
    """A store of streams. Safe to use from threads; one process at a time.

    Not from signal handlers: they may have interrupted a call that holds the store's lock.
    """

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
        """Create a stream, or return the one there if its configuration is equal (4.1, 14.1).

        ``content_type`` defaults to the source's for a fork, else application/octet-stream;
        ``retention_seconds`` and ``_bytes``, which say how much is kept, to the source's for a
        fork, else to the store's ``Limits``.

        Raises: StreamExists, StreamGone (the path is soft-deleted), InvalidRequest and its
        subclasses, ForkSourceNotFound, ForkSourceGone, ContentTypeMismatch, TooLarge.
        """
        ...

    def get(self, path: str) -> Stream | None:
        """The stream, soft-deleted ones included; None if missing or expired. No access (13)."""
        ...

    def has(self, path: str) -> bool:
        """Whether the path names a live stream: there, not expired, not soft-deleted."""
        ...

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
        """Append one batch (4.2): data, producer state, ``seq`` and close in one atomic step.

        ``content_type`` None means the stream's. With the three ``producer_*`` the outcome is
        ``result.producer``; a duplicate of the closing request is a duplicate.

        Raises: StreamNotFound, StreamGone, StreamClosed, ContentTypeMismatch,
        SequenceConflict, InvalidJson, EmptyAppend, InvalidRequest, TooLarge.
        """
        ...

    def append_with_producer(
        self,
        path: str,
        data: Bytes,
        *,
        producer_id: str,
        producer_epoch: int,
        producer_seq: int,
        content_type: str | None = None,
        seq: str | None = None,
        close: bool = False,
    ) -> AppendResult:
        """``append`` by an idempotent producer (section 5)."""
        ...

    def close_stream(self, path: str) -> CloseResult:
        """Close without data; closing again is fine (section 7).

        Raises: StreamNotFound, StreamGone.
        """
        ...

    def close_stream_with_producer(
        self, path: str, *, producer_id: str, producer_epoch: int, producer_seq: int
    ) -> CloseResult:
        """Close by an idempotent producer (5.3).

        Raises: StreamNotFound, StreamGone, StreamClosed (closed by another request).
        """
        ...

    def get_producer_epoch(self, path: str, producer_id: str) -> int | None:
        """The current epoch of a producer; None if the stream or the producer is unknown."""
        ...

    def read(
        self, path: str, offset: str | None = None, *, max_bytes: int | None = None
    ) -> ReadResult:
        """Read one chunk from ``offset`` (None: the start) on (4.5). Counts as access (13).

        Raises: StreamNotFound, StreamGone, OffsetGone, InvalidOffset.
        """
        ...

    def wait_for_messages(
        self, path: str, offset: str, timeout_ms: int, *, max_bytes: int | None = None
    ) -> WaitResult:
        """Wait at ``offset`` for data, the close, or the timeout (4.6).

        Returns at once where data is there. A waiter keeps a stream with a TTL alive, and
        none is missed: registering and looking again are one step.

        Raises: as ``read``; StreamNotFound or StreamGone also when the stream is deleted
        meanwhile, and StoreClosed after ``cancel_all_waits``.
        """
        ...

    def touch_access(self, path: str) -> None:
        """Count as access: restart the TTL window (section 13). Unknown paths are ignored."""
        ...

    def get_current_offset(self, path: str) -> str | None:
        """The tail; None if missing or expired. No access."""
        ...

    def format_response(self, path: str, messages: Sequence[StreamMessage]) -> bytes:
        """The body of an answer: the bytes, or one JSON array (section 8)."""
        ...

    def delete(self, path: str) -> bool:
        """Delete, or soft-delete while forks need it (4.3, 14.6). False if there is none.

        Raises: StreamGone (already soft-deleted).
        """
        ...

    def list(self) -> Sequence[str]:
        """The paths of all live streams, sorted."""
        ...

    def clear(self) -> None:
        """Delete every stream."""
        ...

    def cancel_all_waits(self) -> None:
        """End every ``wait_for_messages`` at once: they raise StoreClosed."""
        ...

    def close(self) -> None:
        """Make everything durable and release the store. Closing again is fine.

        Raises: RuntimeError in a signal handler that interrupted a call of the store.
        """
        ...

    @property
    def aio(self) -> AsyncStore:
        """The same contract awaitable, for the running event loop."""
        ...


class AsyncStore(Protocol):
    """``Store`` for one running event loop, whose thread never waits for a disk.

    Cancelling a call does not take back what it may already have logged.
    """

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
    ) -> Stream: ...

    async def get(self, path: str) -> Stream | None: ...

    async def has(self, path: str) -> bool: ...

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
    ) -> AppendResult: ...

    async def append_with_producer(
        self,
        path: str,
        data: Bytes,
        *,
        producer_id: str,
        producer_epoch: int,
        producer_seq: int,
        content_type: str | None = None,
        seq: str | None = None,
        close: bool = False,
    ) -> AppendResult: ...

    async def close_stream(self, path: str) -> CloseResult: ...

    async def close_stream_with_producer(
        self, path: str, *, producer_id: str, producer_epoch: int, producer_seq: int
    ) -> CloseResult: ...

    async def get_producer_epoch(self, path: str, producer_id: str) -> int | None: ...

    async def read(
        self, path: str, offset: str | None = None, *, max_bytes: int | None = None
    ) -> ReadResult: ...

    async def wait_for_messages(
        self, path: str, offset: str, timeout_ms: int, *, max_bytes: int | None = None
    ) -> WaitResult: ...

    async def touch_access(self, path: str) -> None: ...

    async def get_current_offset(self, path: str) -> str | None: ...

    async def format_response(self, path: str, messages: Sequence[StreamMessage]) -> bytes: ...

    async def delete(self, path: str) -> bool: ...

    async def list(self) -> Sequence[str]: ...

    async def clear(self) -> None: ...

    def cancel_all_waits(self) -> None: ...

    async def close(self) -> None: ...
