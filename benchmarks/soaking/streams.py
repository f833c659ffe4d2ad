"""The ledger of a soak: what each stream holds, for sure, outside of the server.

One lane writes to a stream, one request after the other, and clears up every doubt before it goes
on. So a stream is exactly what is written down here; nothing may be missing, more, or elsewhere.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from .content import JSON, TEXT, stored, token

RETENTION_BYTES = 4 * 1024
TTL_SECONDS = 60


class Kind(Enum):
    """What is special of a place's streams."""

    PLAIN = "plain"
    PRODUCER = "producer"
    RETENTION = "retention"
    TTL = "ttl"


KINDS = (Kind.PLAIN,) * 5 + (Kind.PRODUCER,) * 3 + (Kind.RETENTION, Kind.TTL)


@dataclass(slots=True)
class Stream:
    """One stream. Positions are bytes of what it stores.

    Attributes:
        ends: where each batch ends.
        origins: how much of each key it is made of: its own, and those that it inherited.
        accessed_at: monotonic, before the newest access that was answered was sent.
    """

    path: str
    key: int
    content_type: str
    tokens: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    origins: dict[int, int] = field(default_factory=dict)
    own: int = 0  # batches of its own
    ttl: int | None = None
    accessed_at: float = 0.0
    was_forked: bool = False

    @property
    def tail(self) -> int:
        return self.ends[-1] if self.ends else 0

    def next_token(self) -> int:
        return token(self.key, self.own)

    def add(self, batch: int, size: int) -> None:
        self.tokens.append(batch)
        self.ends.append(self.tail + size)
        self.origins[self.key] = self.origins.get(self.key, 0) + size
        self.own += 1

    def inherit(self, source: Stream, count: int) -> None:
        """The first ``count`` batches of ``source``."""
        self.tokens, self.ends = source.tokens[:count], source.ends[:count]
        left = self.tail
        for key, size in source.origins.items():  # in the order in which they were added
            if taken := min(size, left):
                self.origins[key] = taken
                left -= taken

    def start_of(self, batch: int) -> int:
        return self.ends[batch - 1] if batch else 0

    def batch_at(self, position: int) -> int:
        """Which batch begins there. Raises: ValueError if none does."""
        if position == 0:
            return 0
        index = bisect_left(self.ends, position)
        if index == len(self.ends) or self.ends[index] != position:
            raise ValueError(f"no batch begins at {position}")
        return index + 1

    def may_be_expired(self) -> bool:
        return self.ttl is not None and time.monotonic() >= self.accessed_at + self.ttl


@dataclass(slots=True)
class Place:
    """Where there is always a stream in use; streams of it come and go."""

    number: int
    lane: int
    kind: Kind
    stream: Stream | None = None
    epoch: int = 0  # of its name: a new one when the old name is still taken by forks

    @property
    def content_type(self) -> str:
        return (TEXT, JSON)[self.number // len(KINDS) % 2]

    @property
    def path(self) -> str:
        return f"soak/{self.number % 100:02}/{self.number}-{self.epoch}"

    @property
    def forks(self) -> bool:
        """Whether others may begin as forks of its streams, and its own as forks of others."""
        return self.kind in (Kind.PLAIN, Kind.PRODUCER)


def live_size(places: Iterable[Place]) -> int:
    """Bytes that the streams in use hold, what forks share counted once."""
    needed: dict[int, int] = {}
    trimmed = 0
    for place in places:
        stream = place.stream
        if stream is None or stream.may_be_expired():
            continue
        if place.kind is Kind.RETENTION:
            trimmed += min(stream.tail, RETENTION_BYTES)
            continue
        for key, size in stream.origins.items():
            needed[key] = max(needed.get(key, 0), size)
    return trimmed + sum(needed.values())


def batch(stream: Stream) -> tuple[int, bytes]:
    """The next batch of ``stream``, and how it is stored."""
    fresh = stream.next_token()
    return fresh, stored(fresh, stream.content_type)
