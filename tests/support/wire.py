"""A client that writes and reads raw bytes, so that a test decides every one of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

TIMEOUT = 10.0  # seconds; reached only when a test fails


@dataclass(frozen=True, slots=True)
class WireAnswer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str:
        """The only value of a header; KeyError if absent, AssertionError if repeated."""
        values = [value for key, value in self.headers if key == name.lower()]
        if not values:
            raise KeyError(name)
        assert len(values) == 1, f"{name} was sent {len(values)} times"
        return values[0]

    def __contains__(self, name: str) -> bool:
        return any(key == name.lower() for key, _ in self.headers)


class Connection:
    """One TCP connection. A context manager."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, *, head_only: bool = False) -> WireAnswer:
        """The next answer, read to its end and no further."""
        status, headers = self.head()
        fields = dict(headers)
        if head_only or status in (204, 304):
            return WireAnswer(status, headers, b"")
        if fields.get("transfer-encoding") == "chunked":
            return WireAnswer(status, headers, b"".join(iter(self.chunk, b"")))
        return WireAnswer(status, headers, self._exactly(int(fields["content-length"])))

    def head(self) -> tuple[int, list[tuple[str, str]]]:
        """Status and headers of the next answer that is not 100 Continue."""
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        pairs = [line.partition(": ")[::2] for line in lines[1:] if line]
        return int(lines[0].split()[1]), [(name.lower(), value) for name, value in pairs]

    def chunk(self) -> bytes:
        """The next chunk of a chunked body; empty at its end."""
        size = int(self.until(b"\r\n"), 16)
        data = self._exactly(size)
        assert self._exactly(2) == b"\r\n"
        return data

    def until(self, mark: bytes) -> bytes:
        """Everything up to ``mark``, which is included."""
        while mark not in self._buffer:
            self._receive()
        end = self._buffer.index(mark) + len(mark)
        data, self._buffer = self._buffer[:end], self._buffer[end:]
        return data

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        while data := self.socket.recv(65536):
            self._buffer += data
        data, self._buffer = self._buffer, b""
        return data

    def is_ended(self) -> bool:
        """Waits for the end of the connection; False if bytes come instead."""
        return self.rest() == b""

    def close(self) -> None:
        self.socket.close()

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        assert data, f"the connection ended; unread: {self._buffer[:200]!r}"
        self._buffer += data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def wait_until(condition: Callable[[], bool], seconds: float = TIMEOUT) -> None:
    """For what the server does by itself, soon, at no given time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


class Client:
    """Requests with usual headers, each on the one connection of this client."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection: Connection | None = None

    def __call__(
        self, method: str, target: str, body: bytes | None = None, **headers: str
    ) -> WireAnswer:
        """Header names are given with underscores for hyphens."""
        if self._connection is None:
            self._connection = Connection(self.port)
        self._connection.send(request_bytes(method, target, body, **headers))
        answer = self._connection.answer(head_only=method == "HEAD")
        if ("connection", "close") in answer.headers:
            self.close()
        return answer

    def put(self, path: str, body: bytes = b"", **headers: str) -> WireAnswer:
        answer = self("PUT", path, body, **{"content_type": "text/plain", **headers})
        assert answer.status == 201, answer
        return answer

    def post(self, path: str, body: bytes, **headers: str) -> WireAnswer:
        answer = self("POST", path, body, **{"content_type": "text/plain", **headers})
        assert answer.status in (200, 204), answer
        return answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def request_bytes(method: str, target: str, body: bytes | None = None, **headers: str) -> bytes:
    fields = {"host": "streams.test", **{k.replace("_", "-"): v for k, v in headers.items()}}
    if body is not None:
        fields["content-length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + (body or b"")
