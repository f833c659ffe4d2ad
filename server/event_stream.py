"""GET with live=sse: what is stored, then what comes, as server-sent events (section 9).

A reader holds a position, not a buffer: the next chunk is read from the store when the
client has taken the last one. Every data event is followed by its control event, small ones in
the same write, and a client that keeps positions from control events misses and repeats nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

from ..engine.errors import StorageError, StoreClosed
from ..protocol.cursor import calculate_cursor, generate_response_cursor
from ..protocol.errors import StreamError
from ..protocol.headers import is_text
from ..protocol.results import Bytes, ReadResult
from ..protocol.sse import (
    HEARTBEAT,
    encode_control_event,
    encode_data_event,
    encode_data_pieces,
    uses_base64,
)
from .answer import Answer, SendChunk
from .asgi_types import Header, Receive
from .live import LiveReader
from .read import ReadRequest
from .request import Request
from .service import Service

logger = logging.getLogger("durastream.server")

# A text whose tail ends inside a character is held back for so long: the append that brings
# the rest is usually on its way. Seconds.
CHARACTER_HOLD = 1.0

# Larger events, of one large append, are encoded piece by piece: bytes that one reader may hold.
EVENT_COPY_MAX = 256 * 1024


async def event_stream(service: Service, request: Request, query: ReadRequest) -> Answer:
    """The head of the answer, decided by a first read; the events follow from there."""
    size = service.config.sse_event_size
    first = await service.aio.read(request.path, query.offset, max_bytes=size)
    headers: list[Header] = [
        (b"content-type", b"text/event-stream"),
        (b"x-accel-buffering", b"no"),
    ]
    if uses_base64(first.content_type):
        headers.append((b"stream-sse-data-encoding", b"base64"))
    events = EventStream(
        service,
        request.path,
        request.receive,
        first,
        cursor=generate_response_cursor(query.cursor, service.config.cursor_options),
        deadline=asyncio.get_running_loop().time() + service.config.sse_max_age,
    )
    return Answer(200, headers, cache_control=b"no-cache", events=events.run)


class EventStream:
    """One connection, from its first event to its last."""

    def __init__(
        self,
        service: Service,
        path: str,
        receive: Receive,
        first: ReadResult,
        *,
        cursor: str,
        deadline: float,
    ) -> None:
        self._service = service
        self._path = path
        self._receive = receive
        self._first: ReadResult | None = first
        self._incarnation = first.incarnation
        self.cursor = cursor  # of the next control event, or greater
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline

    async def run(self, send_chunk: SendChunk) -> None:
        """Send until the end of the stream, of the connection's time, or of the server."""
        await self._run(send_chunk, to_tail=False)

    async def run_to_tail(self, send_chunk: SendChunk) -> str | None:
        """Send only what is missed, nothing if that is nothing; the offset of the tail.

        None: it is at its end, as in ``run``.
        """
        return await self._run(send_chunk, to_tail=True)

    async def _run(self, send_chunk: SendChunk, *, to_tail: bool) -> str | None:
        try:
            async with LiveReader(self._service, self._receive) as reader:
                return await self._send_all(reader, send_chunk, to_tail=to_tail)
        except StreamError as error:
            log_end(self._path, error)
            return None

    async def _send_all(
        self, reader: LiveReader, send_chunk: SendChunk, *, to_tail: bool
    ) -> str | None:
        result, self._first = self._first, None  # the connection outlives its bytes
        assert result is not None
        # Even an empty first range is told: the client learns its offset.
        is_news = not to_tail
        while result.incarnation == self._incarnation:
            if is_news or result.size or result.closed:
                buffers, result = await self._whole_characters(reader, result)
                chunks, result = self._pair(buffers, result)
                del buffers
                await _send_chunks(reader, chunks, send_chunk)
                is_news = False
            if result.closed or reader.has_ended:
                return None
            if self._loop.time() >= self._deadline:
                return None
            if not result.up_to_date:
                result = await self._read(result.next_offset)
                continue
            if to_tail:
                return result.next_offset
            following = await self._wait(reader, result, self._service.config.sse_heartbeat)
            if following is None:
                return None
            result = following
            del following  # it would keep the bytes in memory while the next are waited for
            if not result.size and not result.closed:
                is_news = self._loop.time() >= self._deadline  # a last control, fresh cursor
                if not is_news:
                    await send_chunk(HEARTBEAT)
        return None

    def _pair(
        self, buffers: Sequence[Bytes], result: ReadResult
    ) -> tuple[Iterable[bytes], ReadResult]:
        """A data event with its control event, in chunks, and the position behind them.

        The position holds no bytes: who waits must not keep what was sent in memory.
        """
        control = self._control(result)
        position = replace(result, buffers=(), append_ends=())
        if sum(map(len, buffers)) > EVENT_COPY_MAX:
            return chain(encode_data_pieces(result.content_type, buffers), [control]), position
        data = b"".join(buffers)
        event = encode_data_event(result.content_type, data) if data else b""
        return [event + control], position

    def _control(self, result: ReadResult) -> bytes:
        return encode_control_event(
            result.next_offset,
            cursor=None if result.closed else self._next_cursor(),
            up_to_date=result.up_to_date,
            closed=result.closed,
        )

    def _next_cursor(self) -> str:
        """Never behind the last one sent (section 11, rule 2)."""
        current = calculate_cursor(self._service.config.cursor_options)
        self.cursor = max(self.cursor, current, key=int)
        return self.cursor

    async def _whole_characters(
        self, reader: LiveReader, result: ReadResult
    ) -> tuple[Sequence[Bytes], ReadResult]:
        """The data of an event, read on while a text ends inside a character (section 9.3).

        Returns it with the last range that it contains.
        """
        if not is_text(result.content_type):
            return result.buffers, result
        buffers = list(result.buffers)
        while not result.closed and ends_inside_character(_last_bytes(buffers)):
            if result.up_to_date:
                following = await self._wait(reader, result, CHARACTER_HOLD, max_bytes=1)
                if following is None or not following.size:
                    break
            else:
                following = await self._read(result.next_offset, max_bytes=1)
            if following.incarnation != self._incarnation:
                break
            result = following
            buffers += result.buffers
        return buffers, result

    async def _read(self, offset: str, max_bytes: int | None = None) -> ReadResult:
        size = max_bytes or self._service.config.sse_event_size
        return await self._service.aio.read(self._path, offset, max_bytes=size)

    async def _wait(
        self, reader: LiveReader, result: ReadResult, timeout: float, max_bytes: int | None = None
    ) -> ReadResult | None:
        """What is behind ``result`` within ``timeout`` seconds; None if the reader ended."""
        timeout = min(timeout, max(0.0, self._deadline - self._loop.time()))
        size = max_bytes or self._service.config.sse_event_size
        waited = await reader.wait(
            self._service.aio.wait_for_messages(
                self._path, result.next_offset, int(timeout * 1000) + 1, max_bytes=size
            )
        )
        return None if waited is None else waited.result


def log_end(path: str, error: StreamError) -> None:
    """Deleted, expired or trimmed: the client learns it when it reconnects."""
    if isinstance(error, StorageError) and not isinstance(error, StoreClosed):
        logger.error("%s: event stream ended: %s", path, error)


async def _send_chunks(reader: LiveReader, chunks: Iterable[bytes], send_chunk: SendChunk) -> None:
    for chunk in chunks:
        if reader.is_gone:
            return
        await send_chunk(chunk)


def _last_bytes(buffers: Sequence[Bytes]) -> bytes:
    """Enough for ``ends_inside_character``."""
    end = b""
    for buffer in reversed(buffers):
        end = bytes(buffer[-3:]) + end
        if len(end) >= 3:
            break
    return end


def ends_inside_character(data: bytes) -> bool:
    """Whether the last bytes are the beginning of a longer UTF-8 sequence."""
    for count, byte in enumerate(reversed(data[-3:]), start=1):
        if byte & 0xC0 != 0x80:  # the first byte of a sequence tells its length
            size = 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4
            return byte >= 0xC2 and byte < 0xF5 and size > count
    return False
