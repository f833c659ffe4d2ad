"""What a connection refuses before any application sees it, and how that is said.

Every refusal ends the connection: after a request that was not understood, nobody can tell
where the next one begins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from .answer import Answer, send_answer, text_answer
from .asgi_types import Application, Header, Receive, Scope, Send
from .cors import METHODS

_REQUEST_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [^ \r\n]+ HTTP/1\.[01]\r?")
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+( .*)?", re.DOTALL)  # and what follows
_CLOSE: Header = (b"connection", b"close")


class Refused(Exception):
    """Raised through the parser: the request gets this answer, the connection ends."""

    def __init__(self, status: int, text: str, *headers: Header) -> None:
        super().__init__(text)
        self.answer = text_answer(status, text, *headers)


def refused_method() -> Refused:
    return Refused(405, f"method not allowed: use {METHODS}", (b"allow", METHODS.encode()))


def refused_bytes(error: httptools.HttpParserError, line: bytes | None) -> Refused:
    """What to say of bytes that the parser took for no HTTP.

    ``line`` is what is known of the request line; None if its beginning is not. A method
    that nobody knows is still a request.
    """
    if line is not None and isinstance(error, httptools.HttpParserInvalidMethodError):
        line, newline, _ = line.partition(b"\n")
        if _REQUEST_LINE.fullmatch(line) if newline else _METHOD.fullmatch(line):
            return refused_method()
    return Refused(400, f"malformed HTTP request: {error}")


def answering(answer: Answer, base_headers: Sequence[Header]) -> Application:
    """An application that gives ``answer`` to whatever comes, and ends the connection."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        head_only = scope["method"] == "HEAD"
        await send_answer(send, answer, [*base_headers, _CLOSE], head_only=head_only)

    return app


def rendered(
    answer: Answer, base_headers: Sequence[Header], default_headers: Sequence[Header]
) -> bytes:
    """``answer`` as bytes, for a request whose application is being broken off."""
    body = b"".join(answer.body)
    headers = [
        *default_headers,
        *base_headers,
        _CLOSE,
        (b"cache-control", answer.cache_control),
        *answer.headers,
        (b"content-length", b"%d" % len(body)),
    ]
    lines = [name + b": " + value + b"\r\n" for name, value in headers]
    return b"".join([STATUS_LINE[answer.status], *lines, b"\r\n", body])
