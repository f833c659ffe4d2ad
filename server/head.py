"""HEAD: what is known of a stream, without counting as access (section 4.4)."""

from __future__ import annotations

from ..protocol.errors import StreamGone, StreamNotFound
from .answer import Answer
from .asgi_types import Header
from .request import Request
from .service import Service


async def head(service: Service, request: Request) -> Answer:
    stream = await service.aio.get(request.path)
    if stream is None:
        raise StreamNotFound(request.path)
    if stream.soft_deleted:
        raise StreamGone(request.path)
    headers: list[Header] = [
        (b"content-type", stream.content_type.encode("latin-1")),
        (b"stream-next-offset", stream.current_offset.encode("ascii")),
    ]
    if stream.ttl_seconds is not None:
        headers.append((b"stream-ttl", b"%d" % stream.ttl_seconds))
    if stream.expires_at is not None:
        headers.append((b"stream-expires-at", stream.expires_at.encode("latin-1")))
    if stream.retention_seconds is not None:
        headers.append((b"stream-retention-seconds", b"%d" % stream.retention_seconds))
    if stream.retention_bytes is not None:
        headers.append((b"stream-retention-bytes", b"%d" % stream.retention_bytes))
    if stream.is_trimmed:
        headers.append((b"stream-earliest-offset", stream.earliest_offset.encode("ascii")))
    if stream.closed:
        headers.append((b"stream-closed", b"true"))
    return Answer(200, headers)
