"""What a soak appends: batches that follow from a token, so that any range can be told again.

A token is a number: who began the stream in its upper bits, the batch's number in the lower ones.
A batch as it is stored is text that ends in a line feed, or JSON messages with a comma each.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

TEXT, JSON = "text/plain", "application/json"
NUMBER_BITS = 32
SIZE_MIN, SIZE_DOUBLINGS = 100, 5.36  # bytes; so often doubled at most: 100 B to 4 KiB
FILLER = b"the quick brown fox jumps over the lazy dog; " * 100
MESSAGES_MAX = 3  # in a batch of JSON


def token(key: int, number: int) -> int:
    """Of batch ``number`` of the stream that was created as ``key``."""
    return key << NUMBER_BITS | number


def stored(token: int, content_type: str) -> bytes:
    """The batch as the stream holds it."""
    chance = zlib.crc32(b"%d" % token)
    size = int(SIZE_MIN * 2 ** (SIZE_DOUBLINGS * (chance & 0xFFFF) / 0x10000))
    if content_type == TEXT:
        return (b"%x " % token + FILLER[:size])[: size - 1] + b"\n"
    count = 1 + (chance >> 16) % MESSAGES_MAX
    filler = FILLER[: max(0, size // count - 30)]
    return b"".join(b'{"t":"%x","n":%d,"f":"%s"},' % (token, n, filler) for n in range(count))


def sent(content: bytes, content_type: str) -> bytes:
    """The body of a request that appends ``content``, as it is stored."""
    return content if content_type == TEXT else b"[" + content[:-1] + b"]"


def answered(tokens: Sequence[int], content_type: str) -> bytes:
    """The body of a read that returns these batches."""
    content = b"".join(stored(token, content_type) for token in tokens)
    return sent(content, content_type) if content or content_type == TEXT else b"[]"
