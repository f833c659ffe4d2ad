"""Streams as rows and log together leave them, folded from records without a store.

For tools that look. It says again, on plain values, what ``recovery.Replay`` does, so that one
can be held against the other; and it tells where a record does not fit what came before. It
must never read a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from .._native.wal_types import ScannedRecord
from ..protocol.retention import noted_append, trimmed
from ..protocol.state import ClosedBy, ProducerState, StreamState
from .records import (
    AppendMeta,
    CreateMeta,
    DeleteMeta,
    Meta,
    QuarantineMeta,
    Row,
    TouchMeta,
    TrimMeta,
    decode_meta,
)


@dataclass(slots=True)
class LoggedStream:
    """A stream that the log names, as of the last record applied."""

    stream_id: int
    state: StreamState | None  # None: removed, or never seen whole
    quarantine: QuarantineMeta | None = None
    is_known: bool = True  # False: its creation or its row is damaged
    producers: dict[str, ProducerState] = field(default_factory=dict)


class Misfit(Exception):
    """A record that does not continue what came before; ``is_hole`` if bytes are missing."""

    def __init__(self, what: str, *, is_hole: bool = False) -> None:
        super().__init__(what)
        self.is_hole = is_hole


class LogStates:
    """The fold.

    Args:
        row: the row of a stream as of the checkpoint, None if there is none; raises Damaged
            or LookupError if it cannot be told.
    """

    def __init__(self, row: Callable[[int], Row | None]) -> None:
        self._row = row
        self.streams: dict[int, LoggedStream] = {}

    def apply(self, record: ScannedRecord) -> Iterator[Misfit]:
        """Apply a record, and tell what about it does not fit."""
        if record.damaged:
            self._damage(record)
            return
        try:
            meta = decode_meta(record.kind, record.meta)
        except (ValueError, msgspec.DecodeError) as error:
            yield Misfit(f"record {record.lsn}: kind or metadata unknown ({error})")
            self._damage(record)
            return
        yield from self._apply(record, meta)

    def _apply(self, record: ScannedRecord, meta: Meta) -> Iterator[Misfit]:
        if isinstance(meta, CreateMeta):
            yield from self._create(record, meta.state)
            return
        stream = self.stream(record.stream_id)
        if stream.state is None:
            if stream.is_known:
                yield Misfit(f"record {record.lsn} is of a stream that does not exist")
            return
        if isinstance(meta, AppendMeta):
            yield from self._append(record, stream, stream.state, meta)
        elif isinstance(meta, TouchMeta):
            accessed_at = max(stream.state.last_accessed_at, meta.accessed_at)
            stream.state = replace(stream.state, last_accessed_at=accessed_at)
        elif isinstance(meta, QuarantineMeta):
            stream.quarantine = meta
        elif isinstance(meta, TrimMeta):
            stream.state = trimmed(stream.state, meta.earliest)
        else:
            self._delete(stream, stream.state, meta)

    def stream(self, stream_id: int) -> LoggedStream:
        """A stream as of now, from its row if the log did not name it yet."""
        found = self.streams.get(stream_id)
        if found is None:
            found = self.streams[stream_id] = self._from_row(stream_id)
        return found

    def _from_row(self, stream_id: int) -> LoggedStream:
        try:
            row = self._row(stream_id)
        except LookupError:
            return LoggedStream(stream_id, None, is_known=False)
        if row is None:
            return LoggedStream(stream_id, None)
        return LoggedStream(stream_id, row.state, row.quarantine)

    def _create(self, record: ScannedRecord, state: StreamState) -> Iterator[Misfit]:
        # Not by the checkpoint's next id: ids of records still behind it were given out, too.
        if state.stream_id != record.stream_id or self.stream(record.stream_id).state is not None:
            yield Misfit(f"record {record.lsn} creates stream {state.stream_id} once more")
        if state.tail != state.base + record.data_size:
            yield Misfit(f"record {record.lsn} creates a stream of another length than its data's")
        self.streams[record.stream_id] = LoggedStream(record.stream_id, state)
        if state.source_id is not None:
            self._count_reference(state.source_id, 1)

    def _append(
        self, record: ScannedRecord, stream: LoggedStream, before: StreamState, meta: AppendMeta
    ) -> Iterator[Misfit]:
        if record.base != before.tail and stream.quarantine is None:
            yield Misfit(
                f"record {record.lsn} begins at offset {record.base}, and the stream ended at "
                f"{before.tail}",
                is_hole=True,
            )
            stream.quarantine = QuarantineMeta(before.tail, f"log record {record.lsn}")
        by = before.closed_by
        if meta.producer_id is not None:
            stream.producers[meta.producer_id] = ProducerState(
                meta.producer_epoch, meta.producer_seq, meta.accessed_at
            )
            if meta.close:
                by = ClosedBy(meta.producer_id, meta.producer_epoch, meta.producer_seq)
        after = replace(
            before,
            tail=record.base + record.data_size,
            closed=before.closed or meta.close,
            closed_by=by,
            last_seq=before.last_seq if meta.seq is None else meta.seq,
            last_accessed_at=max(before.last_accessed_at, meta.accessed_at),
        )
        if record.data_size:
            after = noted_append(after, record.base, meta.accessed_at)
        stream.state = after

    def _delete(self, stream: LoggedStream, before: StreamState, meta: DeleteMeta) -> None:
        if meta.soft:
            stream.state = replace(before, soft_deleted=True)
        for stream_id in meta.removed:
            self.stream(stream_id).state = None
        if meta.released is not None:
            self._count_reference(meta.released, -1)

    def _count_reference(self, stream_id: int, change: int) -> None:
        source = self.stream(stream_id)
        if source.state is not None:
            source.state = replace(source.state, ref_count=source.state.ref_count + change)

    def _damage(self, record: ScannedRecord) -> None:
        stream = self.stream(record.stream_id)
        if stream.state is None:
            stream.is_known = False
        elif stream.quarantine is None:
            position = min(record.base, stream.state.tail)
            stream.quarantine = QuarantineMeta(position, f"log record {record.lsn}")
