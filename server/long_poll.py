"""GET with live=long-poll: data at once, or as soon as it comes (section 4.6)."""

from __future__ import annotations

from ..protocol.cursor import generate_response_cursor
from ..protocol.errors import StreamNotFound
from ..protocol.results import ReadResult
from .answer import NO_STORE, Answer
from .asgi_types import Header
from .errors import ClientGone
from .live import LiveReader
from .read import ReadRequest, body_of, content_type_header, etag_of, fresh, position_headers
from .request import Request
from .service import Service


async def long_poll(service: Service, request: Request, query: ReadRequest) -> Answer:
    """200 with data, or 204 at the tail after the close, the timeout or the server's end."""
    result = await service.aio.read(request.path, query.offset)
    if not result.size and not result.closed:
        result = await _wait(service, request, result)
    headers = position_headers(result)
    cursor = generate_response_cursor(query.cursor, service.config.cursor_options)
    cursor_header: Header = (b"stream-cursor", cursor.encode("ascii"))
    if not result.size:
        # An open stream's: a closed one ends here, nobody will echo a cursor.
        return Answer(204, headers if result.closed else [*headers, cursor_header])
    headers += [cursor_header, content_type_header(result)]
    headers.append((b"etag", etag_of(result).encode("ascii")))
    # Cacheable since the URL names offset and cursor; "now" names another place each time.
    cache_control = NO_STORE if query.offset == "now" else fresh(service)
    return Answer(200, headers, body_of(result), cache_control)


async def _wait(service: Service, request: Request, start: ReadResult) -> ReadResult:
    """What is behind ``start``, an empty range at the tail: "now" was resolved by it."""
    offset, timeout_ms = start.next_offset, int(service.config.long_poll_timeout * 1000)
    async with LiveReader(service, request.receive) as reader:
        waited = await reader.wait(service.aio.wait_for_messages(request.path, offset, timeout_ms))
        if reader.is_gone:
            raise ClientGone
    if waited is None:
        result = await service.aio.read(request.path, offset)
    else:
        result = waited.result
    if result.incarnation != start.incarnation:
        raise StreamNotFound(request.path)  # deleted; its successor has other bytes here
    return result
