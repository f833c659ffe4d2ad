"""A small HTTP client on asyncio that can be slow, or stop, at any byte."""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType
from typing import Self

ROOT = "/v1/stream/"
TEXT = "text/plain"
SLICE = 64 * 1024  # bytes given to, or taken from, a socket at once


class Client:
    """One connection. A context manager.

    Args:
        receive_buffer: of the kernel, in bytes; small ones make a client that does not read
            felt at once. Inherited from the system if None.
    """

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self._port = port
        self._receive_buffer = receive_buffer

    async def __aenter__(self) -> Self:
        connection = socket.socket()
        if self._receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self._port))
        self.reader, self.writer = await asyncio.open_connection(sock=connection, limit=SLICE)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.writer.transport.abort()

    def send_head(self, method: str, target: str, size: int = 0) -> None:
        head = f"{method} {ROOT}{target} HTTP/1.1\r\nHost: h\r\nContent-Type: {TEXT}\r\n"
        self.writer.write(f"{head}Content-Length: {size}\r\n\r\n".encode())

    async def request(self, method: str, target: str, body: bytes = b"") -> Answer:
        """One request and its whole answer."""
        self.send_head(method, target, len(body))
        self.writer.write(body)
        answer = await self.head()
        answer.body = await self.reader.readexactly(answer.size)
        return answer

    async def head(self) -> Answer:
        return Answer(await self.reader.readuntil(b"\r\n\r\n"))


class Answer:
    """Status and headers; ``body`` is the reader's to fetch."""

    def __init__(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(": ")[::2] for line in lines if line)
        self.headers = {name.lower(): value for name, value in pairs}
        self.status = int(first.split()[1])
        self.size = int(self.headers.get("content-length", 0))
        self.body = b""

    @property
    def name(self) -> str:
        """How it is counted: refusals that say when to come back apart."""
        retry = " + Retry-After" if "retry-after" in self.headers else ""
        return f"{self.status}{retry}"
