"""What the operations of a store return: plain values, the same for every store.

They say what happened in the terms of the protocol. Nothing here decides anything, and
nothing may know of HTTP or of a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .offset import format_offset
from .state import ClosedBy

Bytes: TypeAlias = bytes | bytearray | memoryview

ProducerStatus = Literal[
    "accepted", "duplicate", "stale_epoch", "invalid_epoch_seq", "sequence_gap"
]


@dataclass(frozen=True, slots=True)
class Stream:
    """What is known of a stream, at one moment. Times are Unix times in ms."""

    path: str
    content_type: str
    current_offset: str  # the tail
    created_at: int
    last_accessed_at: int
    incarnation: int  # another number for each stream ever created at this path
    earliest_offset: str
    closed: bool = False
    closed_by: ClosedBy | None = None
    last_seq: str | None = None
    ttl_seconds: int | None = None
    expires_at: str | None = None  # as given
    forked_from: str | None = None
    fork_offset: str | None = None
    fork_sub_offset: int = 0
    ref_count: int = 0
    soft_deleted: bool = False
    retention_seconds: int | None = None
    retention_bytes: int | None = None
    created: bool = False  # only from ``create``: this very call made it

    @property
    def is_trimmed(self) -> bool:
        """Whether retention gave up its beginning."""
        return self.earliest_offset != format_offset(0)


@dataclass(frozen=True, slots=True)
class ProducerResult:
    """The decision of section 5.1 on one request of a producer."""

    status: ProducerStatus
    producer_id: str
    epoch: int | None = None  # accepted: the request's; duplicate, stale_epoch: the current one
    last_seq: int | None = None  # accepted and duplicate: the highest accepted sequence
    expected_seq: int | None = None  # sequence_gap
    received_seq: int | None = None  # sequence_gap


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What became of an append or of a close.

    ``appended`` says whether data was written: False for a close without data, for duplicates
    and for every refusing ``producer.status``.
    """

    offset: str  # the tail now (``Stream-Next-Offset``)
    appended: bool
    stream_closed: bool  # the stream is closed now
    producer: ProducerResult | None = None


@dataclass(frozen=True, slots=True)
class CloseResult:
    final_offset: str
    already_closed: bool
    stream_closed: bool = True  # False: a producer's refusal or duplicate left it open
    producer: ProducerResult | None = None


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """The wire bytes of one append that fall into the range read, and the offset behind it."""

    data: bytes
    offset: str


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A range of a stream, whole messages, at most one chunk (READ_SIZE_MAX).

    ``buffers`` are the wire bytes in order, read-only; they stay valid, and their bytes the
    same, for as long as they are referenced, whatever happens to the stream. For a JSON
    stream each message ends in a comma: an answer is ``[``, the buffers without their last
    byte, ``]``.
    """

    offset: str  # where the range starts; resolves ``-1`` and ``now``
    next_offset: str
    up_to_date: bool  # the range reaches the tail
    closed: bool  # and the tail is final (only ever True together with ``up_to_date``)
    incarnation: int
    content_type: str
    buffers: Sequence[Bytes] = ()
    size: int = 0  # bytes in ``buffers``
    append_ends: Sequence[int] = field(default=(), repr=False)  # positions in (start, end]
    start: int = 0  # position of ``offset``

    def __bytes__(self) -> bytes:
        return b"".join(self.buffers)

    @property
    def messages(self) -> list[StreamMessage]:
        """One entry for each append, as in the Node package; copies the bytes."""
        return list(self._messages())

    def _messages(self) -> Iterator[StreamMessage]:
        data, start, low = bytes(self), self.start, self.start
        end_of_range = start + self.size
        for end in [*self.append_ends, end_of_range]:
            if end > low:
                yield StreamMessage(data[low - start : end - start], format_offset(end))
                low = end


@dataclass(frozen=True, slots=True)
class WaitResult:
    """``result`` is a non-empty range, or an empty one at the tail after close or timeout."""

    result: ReadResult
    timed_out: bool
    stream_closed: bool
