"""What is appended: batches that tell who wrote them, so that content can be judged by itself.

A token is a writer's name and a number; its bytes follow from it. A text batch is one line, a JSON
batch one to four messages. Reading gives tokens back, and counts what is no whole batch.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from typing import Any

Token = tuple[str, int]

TEXT, JSON = "text/plain", "application/json"
PADDING_MAX = 700  # bytes of most batches
LARGE_ONE_IN, LARGE_SIZE = 199, 90_000  # bytes; spans blocks, pages and socket buffers
LINE = re.compile(rb"([\w-]+) (\d+) \.*\n")


def body(token: Token, content_type: str) -> bytes:
    """The batch as it is sent."""
    if content_type == TEXT:
        return _line(token)
    return json.dumps(_messages(token), separators=(",", ":")).encode()


def _line(token: Token) -> bytes:
    writer, number = token
    return b"%s %d %s\n" % (writer.encode(), number, b"." * _padding(token))


def _messages(token: Token) -> list[dict[str, Any]]:
    writer, number = token
    count = 1 + _hash(token) % 4
    padding = "." * (_padding(token) // count)
    return [
        {"writer": writer, "number": number, "part": part, "of": count, "padding": padding}
        for part in range(count)
    ]


def _padding(token: Token) -> int:
    value = _hash(token)
    return value % PADDING_MAX + (LARGE_SIZE if value % LARGE_ONE_IN == 0 else 0)


def _hash(token: Token) -> int:
    return zlib.crc32(b"%s %d" % (token[0].encode(), token[1])) >> 3


class TokenReader:
    """Turns content, given piece by piece from some offset on, into tokens.

    Attributes:
        torn: batches that were there in part, or with other bytes than were sent.
    """

    def __init__(self, content_type: str) -> None:
        self._is_json = content_type == JSON
        self._rest = b""
        self._parts: list[Any] = []
        self.torn = 0

    @property
    def is_between(self) -> bool:
        """Whether what was given ends where a batch ends."""
        return not self._rest and not self._parts

    def feed(self, content: bytes) -> list[Token]:
        """The batches that are whole now. Raises: ValueError if JSON is none."""
        return list(self._feed_json(content) if self._is_json else self._feed_text(content))

    def _feed_text(self, content: bytes) -> Iterator[Token]:
        *lines, self._rest = (self._rest + content).split(b"\n")
        for line in lines:
            yield from self._judge_line(line + b"\n")

    def _judge_line(self, line: bytes) -> Iterator[Token]:
        # A batch may stand whole behind a torn one.
        found = LINE.fullmatch(line) or LINE.search(line)
        if found is None or len(found[0]) != len(line):
            self.torn += 1
        if found is not None:
            token = (found[1].decode(), int(found[2]))
            if found[0] == _line(token):
                yield token
            elif len(found[0]) == len(line):
                self.torn += 1

    def _feed_json(self, content: bytes) -> Iterator[Token]:
        messages = json.loads(content)
        if not isinstance(messages, list):
            raise ValueError("no array")
        for message in messages:
            first = isinstance(message, dict) and message.get("part") == 0
            if first and self._parts:
                self.torn += 1
                self._parts.clear()
            self._parts.append(message)
            yield from self._judge_parts()

    def _judge_parts(self) -> Iterator[Token]:
        first = self._parts[0]
        try:
            token = (str(first["writer"]), int(first["number"]))
        except (TypeError, KeyError, ValueError):
            self.torn += 1
            self._parts.clear()
            return
        wanted = _messages(token)
        if self._parts != wanted[: len(self._parts)]:
            self.torn += 1
            self._parts.clear()
        elif len(self._parts) == len(wanted):
            self._parts.clear()
            yield token
