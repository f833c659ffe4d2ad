"""What clients ask of streams and what they are told, as plain values for every way to ask.

An outcome is a tuple, its first part the kind. Where a way to ask does not tell a part of it,
there is None, or the set of what it can be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Producer = tuple[str, int, int]  # id, epoch, seq
Outcome = tuple[Any, ...]

MISSING, GONE, CLOSED, EXISTS = "missing", "gone", "closed", "exists"
SOURCE_MISSING, SOURCE_GONE = "source missing", "source gone"
BAD_OFFSET, BAD_SEQ, BAD_EPOCH = "bad offset", "bad seq", "bad epoch"


@dataclass(frozen=True, slots=True)
class Create:
    path: str
    data: bytes = b""
    closed: bool = False
    ttl_ms: int | None = None
    source: str | None = None
    fork_offset: int | None = None


@dataclass(frozen=True, slots=True)
class Append:
    path: str
    data: bytes
    producer: Producer | None = None
    seq: str | None = None
    close: bool = False


@dataclass(frozen=True, slots=True)
class Close:
    path: str
    producer: Producer | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    path: str


@dataclass(frozen=True, slots=True)
class Read:
    """``offset`` None is ``now``. With ``wait_ms`` it waits at the tail for so long."""

    path: str
    offset: int | None
    wait_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Head:
    path: str


Operation = Create | Append | Close | Delete | Read | Head


def token(position: int) -> str:
    return "0" * 16 + "_" + str(position).zfill(16)


def position(offset: str) -> int:
    return int(offset.rpartition("_")[2])
