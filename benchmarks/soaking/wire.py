"""One connection of a soak, which comes back after each death of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from pressure.wire import ROOT, Answer

SECONDS_MAX = 20.0  # for one answer
LIMIT = 1 << 20


class NoAnswer(Exception):
    """The connection ended first: the request may or may not have been carried out."""


class Connection:
    """To a server on the loopback. A context manager. Not for two requests at once.

    Attributes:
        received: bytes, so far.
    """

    def __init__(self, port: int) -> None:
        self.received = 0
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request and its whole answer. Raises: NoAnswer."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = f"{method} {ROOT}{target} HTTP/1.1\r\nHost: h\r\n{lines}"
        message = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        try:
            async with asyncio.timeout(SECONDS_MAX):
                return await self._exchange(method, message)
        except (OSError, EOFError, TimeoutError) as error:
            self.close()
            raise NoAnswer(f"{method} {target}: {error!r}") from error

    async def _exchange(self, method: str, message: bytes) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=LIMIT)
        reader, writer = self._streams
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        answer = Answer(head)
        if method != "HEAD":
            answer.body = await reader.readexactly(answer.size)
        self.received += len(head) + len(answer.body)
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def position(answer: Answer) -> int:
    """Of the tail that it names, in bytes."""
    return int(answer.headers["stream-next-offset"].rpartition("_")[2])


def offset(position: int) -> str:
    return f"{0:016}_{position:016}"
