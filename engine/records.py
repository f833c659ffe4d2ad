"""What the engine writes into log records and rows: kinds, metadata, and their bytes.

Metadata is MessagePack: each structure below is an array of its fields in this order
(docs/format-metadata.md). Fields are appended at the end with a default, never reordered, so
that every version reads what older ones wrote. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import msgspec

from ..protocol.delete import Removal
from ..protocol.state import ProducerState, StreamState


class Kind(IntEnum):
    """The kind of a log record. 0 is illegal, so that zeroes are never a record."""

    CREATE = 1  # CreateMeta; data: the initial body
    APPEND = 2  # AppendMeta; data: the batch, empty for a close without data
    DELETE = 3  # DeleteMeta
    TOUCH = 4  # TouchMeta
    QUARANTINE = 5  # QuarantineMeta
    TRIM = 6  # TrimMeta


class CreateMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A new stream; for a fork, ``state.source_id`` also gains a reference."""

    state: StreamState


class AppendMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Data (the record's), producer, Stream-Seq and close: one atomic step (I3)."""

    accessed_at: int  # Unix ms
    close: bool = False
    seq: str | None = None
    producer_id: str | None = None
    producer_epoch: int = 0
    producer_seq: int = 0


class DeleteMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that one deletion or expiry does, the cascade included (section 14.6)."""

    at: int  # Unix ms
    expired: bool = False
    soft: bool = False  # the record's stream is kept for its forks; else it is in ``removed``
    removed: tuple[int, ...] = ()
    released: int | None = None  # the surviving source that lost one reference


def delete_meta(removals: list[Removal], now_ms: int, expired: bool) -> DeleteMeta:
    """The metadata that says everything one deletion does."""
    first, last = removals[0], removals[-1]
    return DeleteMeta(
        now_ms,
        expired,
        soft=first.after is not None,
        removed=tuple(r.before.stream_id for r in removals if r.after is None),
        released=last.before.stream_id if last is not first and last.after is not None else None,
    )


# Accesses are logged at most this often per TTL: the rest only moves the deadline in memory.
TOUCHES_PER_TTL = 16


def touch_interval_ms(ttl_seconds: int) -> int:
    """How much later than logged the last access of a stream may have been."""
    return 1000 * ttl_seconds // TOUCHES_PER_TTL


class TouchMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An access that moved the deadline of a TTL (section 13)."""

    accessed_at: int  # Unix ms


class TrimMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Retention gave up everything before a position; no access."""

    earliest: int


class QuarantineMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Damage found in data already acknowledged (I6)."""

    position: int  # readable up to here
    where: str  # file and place of the damage


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A stream as of a checkpoint, in LMDB. ``state`` is None in a segment: it was removed."""

    state: StreamState | None
    lsn: int  # of the last record contained
    quarantine: QuarantineMeta | None = None


class SegmentRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A row as a segment keeps it: with the producers that changed since the last flush.

    From these alone ``repair`` can rebuild LMDB (I2).
    """

    row: Row
    producers: dict[str, ProducerState] = {}


Meta = CreateMeta | AppendMeta | DeleteMeta | TouchMeta | QuarantineMeta | TrimMeta

encode = msgspec.msgpack.Encoder().encode

decode_row = msgspec.msgpack.Decoder(Row).decode
decode_segment_row = msgspec.msgpack.Decoder(SegmentRow).decode

_META: dict[Kind, Callable[[bytes], Meta]] = {
    Kind.CREATE: msgspec.msgpack.Decoder(CreateMeta).decode,
    Kind.APPEND: msgspec.msgpack.Decoder(AppendMeta).decode,
    Kind.DELETE: msgspec.msgpack.Decoder(DeleteMeta).decode,
    Kind.TOUCH: msgspec.msgpack.Decoder(TouchMeta).decode,
    Kind.QUARANTINE: msgspec.msgpack.Decoder(QuarantineMeta).decode,
    Kind.TRIM: msgspec.msgpack.Decoder(TrimMeta).decode,
}


def segment_row(row: bytes, producers: dict[str, ProducerState]) -> bytes:
    """An encoded ``SegmentRow`` around an encoded ``Row``."""
    return b"\x92" + row + (encode(producers) if producers else b"\x80")


def decode_meta(kind: int, meta: bytes) -> Meta:
    """The metadata of a record of this kind. Raises: ValueError for an unknown kind."""
    return _META[Kind(kind)](meta)
