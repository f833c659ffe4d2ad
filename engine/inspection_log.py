"""One frame of the log as plain values: its header, its records, and what of it is right.

For ``durastream inspect --frame`` and ``--lsn``. It looks at bytes where they lie, needed behind
the checkpoint or not, damaged or not; what damage means is for ``verify``. Source:
docs/format-wal.md. It only reads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import msgspec

from .._native.checksum import xxh64
from .._native.disk import Disk
from .errors import Damaged
from .inspection import kind_name, listed_segments, open_store, plain
from .offline import Offline
from .records import decode_meta
from .wal_py import (
    FRAME_HEADER,
    FRAME_MAGIC,
    PAGE_SIZE,
    RECORD_HEADER,
    FileHeader,
    FrameHeader,
    RecordHeader,
    WalError,
    read_file_header,
    read_record,
)

Plain = dict[str, Any]

_FILE_NAME = re.compile(r"\d{20}\.wal|spare\.wal|damaged-.*\.bin")
_FLAGS = {0: "records", 1: "link", 2: "watermark"}


class NotThere(LookupError):
    """What was asked for is not there: the message says what is instead."""


class _Place(NamedTuple):
    """A file of the log, opened."""

    disk: Disk
    handle: int
    name: str
    size: int
    header: FileHeader | None
    problem: str | None

    def read(self, position: int, size: int) -> bytes:
        return self.disk.pread(self.handle, size, position)


def inspect_frame(path: Path, file: str, position: int) -> Plain:
    """The frame at a byte of a file below ``wal/``.

    Raises: NotThere, DirectoryInUse, UnknownFormat, OpenError, OSError.
    """
    with open_store(path) as store:
        name = file.removeprefix("wal/")
        if not _FILE_NAME.fullmatch(name) or name not in _names(store):
            raise NotThere(f"{path}: no file of the log is named {file}")
        with _opened(store, name) as place:
            if position % PAGE_SIZE or not 0 < position < place.size:
                raise NotThere(
                    f"{name}: frames start at multiples of {PAGE_SIZE} below {place.size}"
                )
            return _frame(store, place, position)


def inspect_lsn(path: Path, lsn: int) -> Plain:
    """The frame that holds record ``lsn``, in the newest file that has it.

    Raises: NotThere, if it is in a segment by now or nowhere; and as ``inspect_frame``.
    """
    with open_store(path) as store:
        for name in reversed(_names(store)):
            if not name[:20].isdecimal():
                continue
            with _opened(store, name) as place:
                for position, header in _headers(place):
                    if header.first_lsn <= lsn < header.first_lsn + header.record_count:
                        return {**_frame(store, place, position), "asked_lsn": lsn}
        for entry in listed_segments(store):
            if entry.after_lsn < lsn <= entry.upto_lsn:
                raise NotThere(
                    f"LSN {lsn} is not in the log any more: segment {entry.number} holds what it "
                    f"changed, see --segment {entry.number}"
                )
        raise NotThere(f"LSN {lsn} is in no file of the log, and no segment holds it")


def _names(store: Offline) -> list[str]:
    if not store.disk.exists(store.directory.wal):
        return []
    return [n for n in store.disk.list_directory(store.directory.wal) if _FILE_NAME.fullmatch(n)]


class _opened:
    """Open a file of the log for as long as the block runs."""

    def __init__(self, store: Offline, name: str) -> None:
        self._disk, self._name = store.disk, name
        self._path = os.fspath(store.directory.wal / name)

    def __enter__(self) -> _Place:
        disk = self._disk
        self._handle = disk.open(self._path, os.O_RDONLY)
        page, header, problem = disk.pread(self._handle, PAGE_SIZE, 0), None, None
        try:
            header = read_file_header(page.ljust(PAGE_SIZE, b"\0"))
        except WalError as error:
            problem = str(error)
        size = disk.size(self._handle)
        return _Place(disk, self._handle, self._name, size, header, problem)

    def __exit__(self, *_: object) -> None:
        self._disk.close(self._handle)


def _headers(place: _Place) -> Iterator[tuple[int, FrameHeader]]:
    """All frame headers of this use of the file that are right."""
    position = PAGE_SIZE
    while place.header is not None and position < place.size:
        raw = place.read(position, FRAME_HEADER.size)
        if len(raw) < FRAME_HEADER.size:
            return
        header = FrameHeader._make(FRAME_HEADER.unpack(raw))
        if _header_problem(raw, header, position, place) is None:
            yield position, header
            position = _behind(position, header)
        else:
            position += PAGE_SIZE


def _behind(position: int, header: FrameHeader) -> int:
    return position + -(-(FRAME_HEADER.size + header.size) // PAGE_SIZE) * PAGE_SIZE


def _header_problem(raw: bytes, header: FrameHeader, position: int, place: _Place) -> str | None:
    if header.magic != FRAME_MAGIC:
        return "no frame: zeroes" if not any(raw) else "no frame: another magic"
    if header.checksum != xxh64(raw[:56], position):
        return "header checksum mismatch"
    if place.header is not None and header.incarnation != place.header.incarnation:
        return "of an earlier use of the file: void"
    if position + FRAME_HEADER.size + header.size > place.size:
        return "reaches behind the end of the file"
    return None


def _frame(store: Offline, place: _Place, position: int) -> Plain:
    raw = place.read(position, FRAME_HEADER.size).ljust(FRAME_HEADER.size, b"\0")
    header = FrameHeader._make(FRAME_HEADER.unpack(raw))
    problem = _header_problem(raw, header, position, place)
    found: Plain = {
        "file": place.name,
        "file_incarnation": None if place.header is None else place.header.incarnation,
        "file_problem": place.problem,
        "position": position,
        "problem": problem,
    }
    if header.magic != FRAME_MAGIC:
        return found
    found |= {
        "flags": _FLAGS.get(header.flags, f"unknown {header.flags}"),
        "incarnation": header.incarnation,
        "first_lsn": header.first_lsn,
        "record_count": header.record_count,
        "size": header.size,
        "watermark": header.watermark,
        "successor": header.successor_sequence or None,
        "records": [],
    }
    if problem is None or "earlier use" in problem:
        content = place.read(position + FRAME_HEADER.size, header.size)
        found["records"] = list(_records(store, content, header, position + FRAME_HEADER.size))
        found["next"] = _behind(position, header)
    return found


def _records(store: Offline, content: bytes, frame: FrameHeader, start: int) -> Iterator[Plain]:
    """Each record, up to one whose header cannot be believed: where the next starts is lost."""
    at = 0
    for lsn in range(frame.first_lsn, frame.first_lsn + frame.record_count):
        place: Plain = {"lsn": lsn, "position": start + at}
        if at + RECORD_HEADER.size > len(content):
            yield {**place, "header": "behind the end of the frame"}
            return
        header = RecordHeader._make(RECORD_HEADER.unpack_from(content, at))
        raw = content[at : at + header.size]
        if header.header_checksum != xxh64(raw[8:64]) or header.lsn != lsn:
            yield {**place, "header": "checksum mismatch"}
            return
        yield {**place, "header": "good", **_record(store, raw, header)}
        at += header.size


def _record(store: Offline, raw: bytes, header: RecordHeader) -> Plain:
    good = header.body_checksum == xxh64(raw[64:])
    meta: Any = None
    if good:
        try:
            meta = plain(decode_meta(header.kind, read_record(raw, header).meta))
        except (ValueError, msgspec.DecodeError) as error:
            meta = f"cannot be decoded: {error}"
    return {
        "body": "good" if good else "checksum mismatch",
        "kind": kind_name(header.kind),
        "stream_id": header.stream_id,
        "path": _path_of(store, header.stream_id, meta),
        "base": header.base,
        "data_size": header.data_size,
        "messages": header.message_count,
        "size": header.size,
        "meta": meta,
    }


def _path_of(store: Offline, stream_id: int, meta: Any) -> str | None:
    """From the record that made it, or from its row."""
    if isinstance(meta, dict) and isinstance(meta.get("state"), dict):
        return str(meta["state"]["path"])
    if store.metadata is None:
        return None
    try:
        row = store.metadata.row(stream_id)
    except (Damaged, lmdb.Error, msgspec.DecodeError):
        return None
    return None if row is None or row.state is None else row.state.path
