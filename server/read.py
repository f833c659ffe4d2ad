"""GET: catch-up reads, conditional reads, and the way to the live ones (sections 4.5 and 12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..protocol.errors import InvalidOffset, InvalidRequest
from ..protocol.etag import entity_tag, is_none_match
from ..protocol.headers import is_json
from ..protocol.results import Bytes, ReadResult
from .answer import Answer
from .asgi_types import Header
from .request import Request
from .service import Service

FRESH = b"%b, max-age=60, stale-while-revalidate=300"
# The tail of an open stream moves on: a cache may keep it, but has to ask each time.
REVALIDATE = b"no-cache"


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """The query of a GET (section 3.2). ``offset`` is not yet checked against the stream."""

    offset: str | None
    live: Literal["long-poll", "sse"] | None
    cursor: str | None


def parse_query(query: dict[str, list[str]]) -> ReadRequest:
    """``query`` is of ``Request.query``. Raises: InvalidRequest."""
    offsets, lives = query.get("offset", []), query.get("live", [])
    if len(offsets) > 1 or len(lives) > 1:
        raise InvalidRequest("offset and live may be given once")
    offset = offsets[0] if offsets else None
    if offset == "":
        raise InvalidOffset("offset: empty; use -1, now, or a value of Stream-Next-Offset")
    cursor = query.get("cursor", [None])[0]
    if not lives:
        return ReadRequest(offset, None, cursor)
    if offset is None:
        raise InvalidRequest("live needs an offset; use offset=-1 for the start")
    match lives[0]:
        case "long-poll" | "sse" as live:
            return ReadRequest(offset, live, cursor)
    raise InvalidRequest(f"live: {lives[0][:80]!r} is unknown; use long-poll or sse")


async def catch_up(service: Service, request: Request, query: ReadRequest) -> Answer:
    """One chunk; the client goes on at Stream-Next-Offset until it is up to date."""
    result = await service.aio.read(request.path, query.offset)
    headers = position_headers(result)
    if query.offset == "now":
        return Answer(200, [content_type_header(result), *headers], body_of(result))
    tag = etag_of(result)
    headers.append((b"etag", tag.encode("ascii")))
    cache_control = cache_control_of(service, result)
    if is_none_match(request.header_list(b"if-none-match"), tag):
        return Answer(304, headers, cache_control=cache_control)
    headers.append(content_type_header(result))
    return Answer(200, headers, body_of(result), cache_control)


def etag_of(result: ReadResult) -> str:
    end = result.start + result.size
    return entity_tag(result.incarnation, result.start, end, closed=result.closed)


def cache_control_of(service: Service, result: ReadResult) -> bytes:
    """Bytes never change, so a chunk is fresh for a while unless more may join it."""
    if result.up_to_date and not result.closed:
        return REVALIDATE
    return fresh(service)


def fresh(service: Service) -> bytes:
    return FRESH % service.config.cache_scope.encode("ascii")


def position_headers(result: ReadResult) -> list[Header]:
    """Where the answer ends, and whether that is the tail or the end (section 4.5)."""
    headers = [(b"stream-next-offset", result.next_offset.encode("ascii"))]
    if result.up_to_date:
        headers.append((b"stream-up-to-date", b"true"))
    if result.closed:
        headers.append((b"stream-closed", b"true"))
    return headers


def content_type_header(result: ReadResult) -> Header:
    return b"content-type", result.content_type.encode("latin-1")


def body_of(result: ReadResult) -> list[Bytes]:
    """The bytes as stored, without a copy; of a JSON stream one array of its messages."""
    if not is_json(result.content_type):
        return list(result.buffers)
    if not result.size:
        return [b"[]"]
    *whole, last = [buffer for buffer in result.buffers if len(buffer)]
    return [b"[", *whole, memoryview(last)[:-1], b"]"]
