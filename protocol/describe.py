"""What a store tells of a stream's state: positions become offsets, the id an incarnation."""

from __future__ import annotations

from .offset import format_offset
from .results import Stream
from .state import StreamState


def describe(state: StreamState, *, created: bool = False) -> Stream:
    return Stream(
        path=state.path,
        content_type=state.content_type,
        current_offset=format_offset(state.tail),
        created_at=state.created_at,
        last_accessed_at=state.last_accessed_at,
        incarnation=state.stream_id,
        earliest_offset=format_offset(state.earliest),
        closed=state.closed,
        closed_by=state.closed_by,
        last_seq=state.last_seq,
        ttl_seconds=state.ttl_seconds,
        expires_at=state.expires_at,
        forked_from=state.forked_from,
        fork_offset=None if state.fork_offset is None else format_offset(state.fork_offset),
        fork_sub_offset=state.fork_sub_offset,
        ref_count=state.ref_count,
        soft_deleted=state.soft_deleted,
        retention_seconds=state.retention.seconds if state.retention is not None else None,
        retention_bytes=state.retention.bytes if state.retention is not None else None,
        created=created,
    )
