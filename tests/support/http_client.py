"""A plain blocking HTTP client for tests over real processes: one connection, no retries.

What to do after a broken connection is the test's business: it alone knows whether sending
again is safe.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

ROOT = "/v1/stream/"
SECONDS_MAX = 30.0


class Disconnected(Exception):
    """No answer: the request may or may not have been carried out."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def next_offset(self) -> str:
        offset = self.headers["Stream-Next-Offset"]
        assert isinstance(offset, str), f"{self.status} without an offset: {self.body!r}"
        return offset


class HttpClient:
    """Requests to streams below the root; ``name`` is what follows it."""

    def __init__(self, port: int, root: str = ROOT, seconds_max: float = SECONDS_MAX) -> None:
        self._root = root
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds_max)

    def request(
        self,
        method: str,
        name: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **query: str,
    ) -> Answer:
        """One request and its whole answer.

        Raises: Disconnected.
        """
        target = self._root + name + (f"?{urlencode(query)}" if query else "")
        try:
            self._connection.request(method, target, body, dict(headers or {}))
            response = self._connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            raise Disconnected(f"{method} {target}: {error!r}") from error

    def send_and_leave(
        self,
        method: str,
        name: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        after: float,
        **query: str,
    ) -> None:
        """A whole request; ``after`` so many seconds the connection ends, answered or not."""
        target = self._root + name + (f"?{urlencode(query)}" if query else "")
        self._connection.request(method, target, body, dict(headers or {}))
        time.sleep(after)
        self._connection.close()

    def read_all(self, name: str, offset: str = "-1") -> bytes:
        """Everything from ``offset`` to the tail, chunk by chunk."""
        parts: list[bytes] = []
        while True:
            answer = self.request("GET", name, offset=offset)
            assert answer.status == 200, answer
            parts.append(answer.body)
            offset = answer.next_offset
            if answer.headers["Stream-Up-To-Date"] == "true":
                return b"".join(parts)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
