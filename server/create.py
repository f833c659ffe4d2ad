"""PUT: create a stream, or make sure that it is there (sections 4.1 and 14)."""

from __future__ import annotations

from typing import Any

from ..protocol.errors import ForkSourceNotFound, InvalidRequest, StreamExists, StreamGone
from ..protocol.headers import (
    media_type,
    parse_closed,
    parse_retention,
    parse_sub_offset,
    parse_ttl,
)
from ..protocol.results import Stream
from .answer import Answer
from .append import require_plain_body
from .asgi_types import Header
from .request import Request
from .service import Service
from .target import is_reserved, is_stream, remove_dot_segments


async def create(service: Service, request: Request) -> Answer:
    """201 with Location, or 200 if the same stream is there. Headers are judged before the body."""
    ttl = request.header(b"stream-ttl")
    expires_at = request.header(b"stream-expires-at")
    if ttl is not None and expires_at is not None:
        raise InvalidRequest("Stream-TTL and Stream-Expires-At exclude each other")
    ttl_seconds = None if ttl is None else parse_ttl(ttl)
    sub_offset = request.header(b"stream-fork-sub-offset")
    fork_sub_offset = None if sub_offset is None else parse_sub_offset(sub_offset)
    retention = [
        None
        if (text := request.header(name.lower().encode())) is None
        else parse_retention(name, text)
        for name in ("Stream-Retention-Seconds", "Stream-Retention-Bytes")
    ]
    content_type = request.header(b"content-type")
    if content_type is not None:
        media_type(content_type)
    require_plain_body(request)
    stream = await _create(
        service,
        request.path,
        content_type=content_type,
        ttl_seconds=ttl_seconds,
        expires_at=expires_at,
        initial_data=await service.body(request),
        closed=parse_closed(request.header(b"stream-closed")),
        forked_from=_source(service, request),
        fork_offset=request.header(b"stream-fork-offset"),
        fork_sub_offset=fork_sub_offset,
        retention_seconds=retention[0],
        retention_bytes=retention[1],
    )
    headers: list[Header] = [
        (b"content-type", stream.content_type.encode("latin-1")),
        (b"stream-next-offset", stream.current_offset.encode("ascii")),
    ]
    if stream.closed:
        headers.append((b"stream-closed", b"true"))
    if not stream.created:
        return Answer(200, headers)
    headers.append((b"location", _location(service, request)))
    await service.hooks.created(request.path, stream.content_type)
    return Answer(201, headers)


async def _create(service: Service, path: str, **options: Any) -> Stream:
    try:
        return await service.aio.create(path, **options)
    except StreamGone as gone:
        # Elsewhere 410; a PUT learns that the path is taken as long as forks live (14.3).
        raise StreamExists(str(gone)) from None


def _source(service: Service, request: Request) -> str | None:
    """The stream to fork from: a path of a stream here, by the same rules as the target's."""
    given = request.header(b"stream-forked-from")
    if given is None:
        return None
    if not given:
        raise InvalidRequest("Stream-Forked-From: empty; give the full path of a stream")
    source = remove_dot_segments(given)
    root = service.config.root
    if not is_stream(source, root) or is_reserved(source, root):
        raise ForkSourceNotFound(
            f"Stream-Forked-From: {given[:200]!r} is no stream here: use a full path below {root}"
        )
    return source


def _location(service: Service, request: Request) -> bytes:
    base = service.config.public_url or request.base_url()
    return f"{base.rstrip('/')}{request.path}".encode("latin-1")
