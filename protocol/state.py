"""What a rule needs to know of a stream: immutable values, the same for every store.

A store keeps, for each stream, a *reserved* state (everything logged so far) and a
*visible* one (everything durable). Both are values of ``StreamState``; a change makes a new
value, so a snapshot is a reference. The file store writes these very structures as
MessagePack arrays into rows and records (docs/format-metadata.md): append fields at the end,
never reorder them.

Positions are counted in *wire bytes* (docs/architecture.md): for a byte stream its bytes,
for a JSON stream each message's own bytes plus one comma.
"""

from __future__ import annotations

import msgspec


class ClosedBy(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The producer tuple whose request closed the stream (section 5.2)."""

    producer_id: str
    epoch: int
    seq: int


class ProducerState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last accepted (epoch, seq) of one producer on one stream (section 5)."""

    epoch: int
    last_seq: int
    last_updated: int  # Unix time, ms


class Retention(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is kept of a stream; ``*_given`` if its creator said so, else by the store's default."""

    seconds: int | None = None  # older data may be dropped
    bytes: int | None = None  # at least so many of the newest are kept
    seconds_given: bool = False
    bytes_given: bool = False


class Mark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An append that began at ``position`` at the time ``at``: what is before it is older."""

    at: int  # Unix time, ms
    position: int


class StreamState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One incarnation of a stream. All times are Unix times in ms."""

    stream_id: int  # unique for ever in one store: a re-created path gets a new one
    path: str
    content_type: str  # as given at creation, echoed exactly
    created_at: int
    last_accessed_at: int  # moves the deadline of a TTL (section 13)
    tail: int = 0  # position behind the last byte
    base: int = 0  # position of the first byte of its own; below it lies the source's data
    earliest: int = 0  # reads before it get ``OffsetGone`` (retention)
    closed: bool = False
    closed_by: ClosedBy | None = None
    last_seq: str | None = None  # of ``Stream-Seq``
    ttl_seconds: int | None = None
    expires_at: str | None = None  # the text as given
    expires_at_ms: int | None = None  # the same instant
    source_id: int | None = None  # stream_id of the fork's source
    forked_from: str | None = None  # its path at that time
    fork_offset: int | None = None  # position asked for, or the source's tail then
    fork_sub_offset: int = 0  # as given; already contained in ``base``
    ref_count: int = 0  # forks that name this stream as their source
    soft_deleted: bool = False
    retention: Retention | None = None  # None: everything is kept
    marks: tuple[Mark, ...] = ()  # ascending; only with a retention by age
    appended_at: int = 0  # the last append, or the creation; only with a retention by age

    @property
    def is_fork(self) -> bool:
        return self.source_id is not None
