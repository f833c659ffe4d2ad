"""Build records and segments for tests, and a disk that counts, records and fails calls."""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from durastream._native.disk import Disk, PosixDisk
from durastream._native.segment import Segment
from durastream._native.segment_types import SegmentInfo
from durastream._native.segment_writer import SegmentWriter

STORE_ID = bytes(range(16))
CREATED_MS = 1_700_000_000_000

Appends = Sequence[Sequence[bytes]]  # messages by append


def ends_of(base: int, appends: Appends) -> array[int]:
    """The offset index of appends that follow each other from ``base`` on."""
    ends, position = array("Q"), base
    for messages in appends:
        for number, message in enumerate(messages, 1):
            position += len(message)
            ends.append(position << 1 | (number == len(messages)))
    return ends


def record(
    lsn: int,
    stream_id: int,
    base: int,
    messages: Sequence[bytes] = (),
    meta: bytes = b"",
    sizes: Sequence[int] | None = None,
) -> bytes:
    """A log record as staged (docs/format-wal.md, "Record"), its checksums left zero."""
    data = b"".join(messages)
    if sizes is None and len(messages) > 1:
        sizes = [len(message) for message in messages]
    parts = [struct.pack(f"<{len(sizes)}I", *sizes) if sizes else b"", meta, data]
    body = b"".join(part + bytes(-len(part) % 8) for part in parts)
    header = struct.pack(
        "<QQQQIIIIBBHIQ",
        *(0, lsn, stream_id, base, 64 + len(body), len(data), len(meta)),
        *(len(sizes or messages), 1, bool(sizes), 0, 0, 0),
    )
    return header + body


def writer(disk: Disk, path: object, **changes: Any) -> SegmentWriter:
    identity = {"store_id": STORE_ID, "number": 7, "level": 0, "after_lsn": 40, "upto_lsn": 44}
    return SegmentWriter(disk, str(path), **{**identity, **changes})


def write(
    disk: Disk, path: object, extents: Sequence[tuple[int, int, Appends, bytes]], **changes: Any
) -> SegmentInfo:
    """Write a segment of (stream id, base, appends, row)."""
    segment = writer(disk, path, **changes)
    for stream_id, base, appends, row in extents:
        data = [message for messages in appends for message in messages]
        segment.add(stream_id, base, data, ends_of(base, appends), row)
    return segment.finish()


def open_segment(disk: Disk, path: object, number: int = 7) -> Segment:
    return Segment(disk, str(path), store_id=STORE_ID, number=number)


class WatchedDisk:
    """The real disk behind ``DelegatedDisk``, with a fixed clock.

    ``calls`` lists (name, arguments). ``fail`` is asked before each call with its name and
    number, and returns an errno to fail it with, or 0.
    """

    def __init__(self) -> None:
        self.disk = PosixDisk()
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.fail: Callable[[str, int], int] = lambda name, number: 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = getattr(self.disk, name)

        def call(*arguments: Any) -> Any:
            self.calls.append((name, arguments))
            code = self.fail(name, len(self.calls))
            if code:
                raise OSError(code, os.strerror(code))
            return operation(*arguments)

        return call

    def pwrite(self, fd: int, data: bytes, position: int) -> int:
        self.__getattr__("pwrite")(fd, data, position)
        return len(data)

    def map(self, fd: int, size: int) -> bytes:
        return self.disk.pread(fd, size, 0)

    def wall_ms(self) -> int:
        return CREATED_MS

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def count(self, name: str) -> int:
        return self.names().count(name)
