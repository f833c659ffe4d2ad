"""What a reader of the compiled front end missed, sent by the application's event stream.

The task lives from a reader's position to the tail; then the front end writes to it again. It
waits for the client, so that a slow one takes no more memory than one event.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ..protocol.errors import StreamError
from .event_stream import EventStream, log_end
from .service import Service


class Outlet:
    """A connection, as an ``EventStream`` uses it."""

    def __init__(self, transport: asyncio.WriteTransport, is_full: bool) -> None:
        self._transport = transport
        self._room = asyncio.Event()
        self._gone = asyncio.Event()
        self.set_full(is_full)

    def set_full(self, is_full: bool) -> None:
        """The client takes nothing at present, or does again."""
        if is_full:
            self._room.clear()
        else:
            self._room.set()

    def lose(self) -> None:
        """The client has left."""
        self._gone.set()
        self._room.set()

    async def send_chunk(self, chunk: bytes) -> None:
        """Write it as a chunk of the answer, when there is room; nothing if it is empty."""
        await self._room.wait()
        if chunk and not self._gone.is_set():
            self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))

    async def receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}


async def send_backlog(
    service: Service,
    outlet: Outlet,
    path: str,
    incarnation: int,
    offset: str,
    cursor: str,
    deadline: float,
) -> tuple[str, str] | None:
    """Send what is behind ``offset``; the offset reached and the last cursor.

    None: the event stream is at its end. ``deadline`` is of the loop's clock, in seconds.
    """
    try:
        first = await service.aio.read(path, offset, max_bytes=service.config.sse_event_size)
    except StreamError as error:
        log_end(path, error)
        return None
    if first.incarnation != incarnation:
        return None
    events = EventStream(service, path, outlet.receive, first, cursor=cursor, deadline=deadline)
    del first
    reached = await events.run_to_tail(outlet.send_chunk)
    return None if reached is None else (reached, events.cursor)
