"""One request as the handlers see it: headers, query and a bounded body."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import parse_qsl

from ..protocol.errors import InvalidRequest, TooLarge
from .asgi_types import Receive, Scope
from .errors import ClientGone, Overloaded, RequestTimeout
from .target import request_path

_QUERY_FIELDS_MAX = 100
_HOST = re.compile(r"[A-Za-z0-9.\-_]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")


BODY_FREE_SIZE = 64 * 1024  # bytes, about what a connection takes anyway

# Bytes a second, on average behind ``idle_timeout``, below which a body ends while memory for
# bodies is scarce: what holds it back the longest gives way.
BODY_RATE_MIN = 256 * 1024


class BodyBudget:
    """Memory that request bodies may take together, in bytes (I8).

    The first ``free_size`` bytes of each are free, so that large bodies never shut out small ones.
    """

    def __init__(self, size_max: int, free_size: int = BODY_FREE_SIZE) -> None:
        self._size_max = self._size_left = size_max
        self._free_size = free_size

    @property
    def is_scarce(self) -> bool:
        return self._size_left < self._size_max // 2

    def grow(self, size_before: int, size: int) -> None:
        """A body grows from ``size_before`` to ``size``. Raises: Overloaded."""
        taken = self._counted(size) - self._counted(size_before)
        if taken > self._size_left:
            raise Overloaded("too many large requests at once: try again")
        self._size_left -= taken

    def give_back(self, size: int) -> None:
        """A body of ``size`` is gone."""
        self._size_left += self._counted(size)

    def _counted(self, size: int) -> int:
        return max(0, size - self._free_size)


class Request:
    """What was asked. ``path`` is the stream's name (see ``target``)."""

    __slots__ = ("_headers", "_repeated", "body_size", "method", "path", "receive", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.method: str = scope["method"]
        self.path = request_path(scope)
        self.body_size = 0  # taken from the budget so far
        self._headers: dict[bytes, bytes] = {}
        self._repeated: set[bytes] = set()
        for name, value in scope["headers"]:
            if name in self._headers:
                self._repeated.add(name)
                value = self._headers[name] + b", " + value
            self._headers[name] = value

    def header(self, name: bytes) -> str | None:
        """The value of a header that may come once; None if absent.

        Raises: InvalidRequest if it was repeated: which one counts would be a guess.
        """
        value = self._headers.get(name)
        if value is None:
            return None
        if name in self._repeated:
            raise InvalidRequest(f"{name.decode('latin-1')}: given more than once")
        return value.strip(b" \t").decode("latin-1")

    def header_list(self, name: bytes) -> str | None:
        """The value of a header that may be repeated, joined by commas."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def origin(self) -> bytes | None:
        return self._headers.get(b"origin")

    def query(self) -> dict[str, list[str]]:
        """All fields with their values in order, empty ones included.

        Raises: InvalidRequest.
        """
        return query_fields(self.scope["query_string"])

    def base_url(self) -> str:
        """Scheme, host and mount prefix under which the client reached this server."""
        host = self.header_list(b"host") or ""
        if not _HOST.fullmatch(host):
            name, port = self.scope.get("server") or ("localhost", None)
            host = f"{name}:{port}" if port else name
        return f"{self.scope.get('scheme', 'http')}://{host}{self.scope.get('root_path', '')}"

    async def body(self, *, size_max: int, idle_timeout: float, budget: BodyBudget) -> bytes:
        """The whole body.

        What it holds is taken from ``budget``; ``release_body`` gives it back.

        Raises: TooLarge as soon as that is known, Overloaded, RequestTimeout, ClientGone.
        """
        announced = self.header(b"content-length")
        if announced is not None and announced.isdecimal() and _exceeds(announced, size_max):
            raise _too_large(size_max)
        message = await self.receive()
        chunk: bytes = self._take_chunk(message, size_max, budget)
        if not message.get("more_body", False):
            return chunk
        chunks = [chunk]
        loop = asyncio.get_running_loop()
        due = loop.time() + idle_timeout
        while message.get("more_body", False):
            if budget.is_scarce and (loop.time() - due) * BODY_RATE_MIN > self.body_size:
                raise RequestTimeout("the body arrives too slowly for a busy server: try again")
            try:
                async with asyncio.timeout(idle_timeout):
                    message = await self.receive()
            except TimeoutError:
                raise RequestTimeout("the body of the request stopped arriving") from None
            chunks.append(self._take_chunk(message, size_max, budget))
        return b"".join(chunks)

    def release_body(self, budget: BodyBudget) -> None:
        budget.give_back(self.body_size)
        self.body_size = 0

    def _take_chunk(self, message: object, size_max: int, budget: BodyBudget) -> bytes:
        assert isinstance(message, dict)
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        if self.body_size + len(chunk) > size_max:
            raise _too_large(size_max)
        budget.grow(self.body_size, self.body_size + len(chunk))
        self.body_size += len(chunk)
        return chunk


def query_fields(query_string: bytes) -> dict[str, list[str]]:
    """See ``Request.query``. Raises: InvalidRequest."""
    fields: dict[str, list[str]] = {}
    text = query_string.decode("latin-1")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_QUERY_FIELDS_MAX)
    except ValueError:
        raise InvalidRequest(f"more than {_QUERY_FIELDS_MAX} query parameters") from None
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def _exceeds(announced: str, size_max: int) -> bool:
    return len(announced) > 18 or int(announced) > size_max


def _too_large(size_max: int) -> TooLarge:
    return TooLarge(f"the body is larger than {size_max} bytes: split it into several appends")
