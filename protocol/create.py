"""May this stream be created, is it there already, and as what (sections 4.1 and 14)?

The order of the checks is the protocol's. A refusal leaves no trace: no half-made stream,
no reference on a source.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from .errors import ContentTypeMismatch, InvalidRequest, StreamExists, StreamGone, TooLarge
from .expiry import is_expired
from .fork import Boundaries, require_source, resolve_fork_point
from .headers import CONTENT_TYPE_DEFAULT, media_type
from .offset import POSITION_MAX
from .payload import Payload
from .retention import is_equal, noted_append
from .state import Retention, StreamState


class CreateRequest(msgspec.Struct, frozen=True):
    """One PUT as asked for; its values are well-formed, None means not given."""

    path: str
    content_type: str | None = None
    ttl_seconds: int | None = None
    expires_at: str | None = None
    expires_at_ms: int | None = None  # the same instant
    closed: bool = False
    forked_from: str | None = None
    fork_offset: int | None = None  # position
    fork_sub_offset: int = 0
    retention: Retention | None = None  # the store's default filled in


class Created(msgspec.Struct, frozen=True):
    """What to log as one record: the new stream and, for a fork, its source's new state."""

    state: StreamState
    source: StreamState | None


def decide_create(
    request: CreateRequest,
    existing: StreamState | None,
    source: StreamState | None,
    boundaries: Boundaries | None,
    payload: Payload | InvalidRequest,
    *,
    stream_id: int,
    source_depth: int = 0,
    fork_depth_max: int,
    now_ms: int,
) -> Created | None:
    """Decide on a path; None if the stream there already is what was asked for.

    Args:
        existing: what the path names, soft-deleted included. An expired stream without forks
            is no obstacle: the store removes it in the same step, or did before.
        source: what ``request.forked_from`` names, soft-deleted included.
        boundaries: those of ``source``.
        payload: the body prepared for ``creation_content_type``, or why it cannot be.
        stream_id: for the new stream.
        source_depth: number of sources above ``source``.

    Raises: StreamExists, StreamGone, ForkSourceNotFound, ForkSourceGone,
    ContentTypeMismatch, InvalidForkOffset, OffsetGone, TooLarge, and ``payload`` if that is
    a refusal.
    """
    if existing is not None and (existing.ref_count or not is_expired(existing, now_ms)):
        _require_equal(request, existing, source, now_ms)
        return None
    base, fork_offset = 0, None
    if request.forked_from is not None:
        source = require_source(request.forked_from, source, now_ms)
        _require_source_type(request, source)
        base, fork_offset = resolve_fork_point(
            source, boundaries, request.fork_offset, request.fork_sub_offset
        )
        if source_depth + 1 > fork_depth_max:
            raise TooLarge(f"{request.path}: a chain of more than {fork_depth_max} forks")
    else:
        source = None
    if not isinstance(payload, Payload):
        raise payload
    state = _new_state(request, source, stream_id, base, fork_offset, payload.size, now_ms)
    if source is not None:
        source = replace(source, ref_count=source.ref_count + 1)
    return Created(state, source)


def creation_content_type(request: CreateRequest, source: StreamState | None) -> str:
    """The content type of the stream to be: as given, the source's, or the default."""
    if request.content_type is not None:
        return request.content_type
    if request.forked_from is not None and source is not None:
        return source.content_type
    return CONTENT_TYPE_DEFAULT


def _new_state(
    request: CreateRequest,
    source: StreamState | None,
    stream_id: int,
    base: int,
    fork_offset: int | None,
    size: int,
    now_ms: int,
) -> StreamState:
    if base + size > POSITION_MAX:
        raise TooLarge(f"{request.path}: offsets end at {POSITION_MAX} bytes")
    ttl_seconds, expires_at, expires_at_ms = _lifetime(request, source)
    state = StreamState(
        stream_id=stream_id,
        path=request.path,
        content_type=creation_content_type(request, source),
        created_at=now_ms,
        last_accessed_at=now_ms,
        tail=base + size,
        base=base,
        earliest=min(base, source.earliest) if source is not None else 0,
        closed=request.closed,
        ttl_seconds=ttl_seconds,
        expires_at=expires_at,
        expires_at_ms=expires_at_ms,
        source_id=source.stream_id if source is not None else None,
        forked_from=request.forked_from,
        fork_offset=fork_offset,
        fork_sub_offset=request.fork_sub_offset,
        retention=_retention(request, source),
    )
    return state if state.retention is None else noted_append(state, base, now_ms)


def _retention(request: CreateRequest, source: StreamState | None) -> Retention | None:
    """The request's, else what a fork inherits; the store's default is for others."""
    asked = request.retention
    if source is None or (asked is not None and (asked.seconds_given or asked.bytes_given)):
        return asked
    return source.retention


def _lifetime(
    request: CreateRequest, source: StreamState | None
) -> tuple[int | None, str | None, int | None]:
    """TTL and deadline: the request's, else what a fork inherits (14.4)."""
    if request.ttl_seconds is not None or request.expires_at is not None or source is None:
        return request.ttl_seconds, request.expires_at, request.expires_at_ms
    return source.ttl_seconds, source.expires_at, source.expires_at_ms


def _require_source_type(request: CreateRequest, source: StreamState) -> None:
    if request.content_type is None:
        return
    if media_type(request.content_type) != media_type(source.content_type):
        raise ContentTypeMismatch(
            f"{source.path}: holds {source.content_type}; a fork cannot be "
            f"{request.content_type}: leave the content type out to inherit it"
        )


def _require_equal(
    request: CreateRequest, existing: StreamState, source: StreamState | None, now_ms: int
) -> None:
    """Refuse unless the stream there has the configuration asked for (4.1, step 10)."""
    if existing.soft_deleted or is_expired(existing, now_ms):
        raise StreamGone(request.path)
    differing = _first_difference(request, existing, source)
    if differing is not None:
        raise StreamExists(f"{request.path}: exists with another {differing}")


def _first_difference(
    request: CreateRequest, existing: StreamState, source: StreamState | None
) -> str | None:
    """Compare effective values: what a fork leaves out is what it inherited (21)."""
    if request.forked_from != existing.forked_from:
        return "source"
    # The source of a living fork keeps its path, so ``source`` is the one inherited from.
    inherited = source if existing.is_fork else None
    content_type = creation_content_type(request, inherited)
    if media_type(content_type) != media_type(existing.content_type):
        return f"content type, {existing.content_type}"
    ttl_seconds, _, expires_at_ms = _lifetime(request, inherited)
    if ttl_seconds != existing.ttl_seconds:
        return "TTL"
    if expires_at_ms != existing.expires_at_ms:
        return "expiry"
    if not is_equal(_retention(request, inherited), existing.retention):
        return "retention"
    if request.closed != existing.closed:
        return "status: it is " + ("closed" if existing.closed else "open")
    if request.fork_offset not in (None, existing.fork_offset):
        return "fork offset"
    if request.fork_sub_offset != existing.fork_sub_offset:
        return "fork sub-offset"
    return None
