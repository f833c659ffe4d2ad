"""An answer before it is sent, and how it is sent over ASGI.

Handlers return values; only ``send_answer`` talks to the client. It adds what every answer
carries (sections 4.0, 12, 16) and never joins large buffers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..protocol.results import Bytes
from .asgi_types import Header, Send

NO_STORE = b"no-store"
JOIN_SIZE_MAX = 64 * 1024  # bytes; below this one copy is cheaper than several writes

SendChunk: TypeAlias = Callable[[bytes], Awaitable[None]]


@dataclass(slots=True)
class Answer:
    """What a handler decided.

    ``events`` instead of ``body`` is a body without end: it is given a function that sends
    one chunk, waiting for a slow client, and returns when the body is complete.
    """

    status: int
    headers: Sequence[Header] = ()
    body: Sequence[Bytes] = ()
    cache_control: bytes = NO_STORE
    events: Callable[[SendChunk], Awaitable[None]] | None = None


def text_answer(status: int, text: str, *headers: Header) -> Answer:
    """A refusal in one line that a person can act on."""
    body = text.encode("utf-8", "replace") + b"\n"
    return Answer(status, [*headers, (b"content-type", b"text/plain; charset=utf-8")], [body])


async def send_answer(
    send: Send, answer: Answer, base_headers: Sequence[Header], *, head_only: bool
) -> None:
    """Send ``answer`` with the headers of every answer; returns when the last byte is out."""
    headers = [*base_headers, (b"cache-control", answer.cache_control), *answer.headers]
    has_body = not head_only and answer.status not in (204, 304)
    if has_body and answer.events is None:
        size = sum(map(len, answer.body))
        headers.append((b"content-length", b"%d" % size))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if answer.events is not None and has_body:

        async def send_chunk(chunk: bytes) -> None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        await answer.events(send_chunk)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    await _send_body(send, answer.body if has_body else ())


async def _send_body(send: Send, buffers: Sequence[Bytes]) -> None:
    if len(buffers) > 1 and sum(map(len, buffers)) <= JOIN_SIZE_MAX:
        buffers = [b"".join(buffers)]
    for buffer in buffers[:-1]:
        await send({"type": "http.response.body", "body": buffer, "more_body": True})
    last = buffers[-1] if buffers else b""
    await send({"type": "http.response.body", "body": last, "more_body": False})
