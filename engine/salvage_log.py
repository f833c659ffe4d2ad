"""Find every intact record in the files of a log that cannot be walked any more.

Source: docs/format-wal.md; docs/operations.md, "Repair". Recovery believes a frame or stops;
here each record is judged by its own checksums, and LSNs, which never leave one out without a
header that says so, tell what is missing. Records that a recovery made void are left out, and
so is what stands in a file from an earlier use of it. It only reads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .._native.disk import Disk
from .salvage_frames import FileContent, FoundRecord, Span, read_file

FILE_NAME = re.compile(r"(\d{20})\.wal")


class Missing(NamedTuple):
    """Records that were given these LSNs, and are nowhere."""

    first: int
    last: int  # equal to ``first`` for one; 0: nobody can tell how many
    where: str  # file of the log, or the log


@dataclass(slots=True)
class SalvagedLog:
    """All that the log still holds, void records left out."""

    records: list[FoundRecord] = field(default_factory=list)  # by LSN, each once
    missing: list[Missing] = field(default_factory=list)  # behind ``floor``
    names: list[str] = field(default_factory=list)  # files of the log
    foreign: list[tuple[str, str]] = field(default_factory=list)  # name, why it is not used
    seen_lsn: int = 0  # no LSN above it was given out, as far as anything shows
    sequence: int = 0  # of the newest file that there is, or was


def salvage_log(
    disk: Disk, folder: Path, store_id: bytes, floor: int, sequence: int = 0
) -> SalvagedLog:
    """Read all files of the log.

    Args:
        floor: LSN up to which nothing is missed: segments hold it.
        sequence: of a file that there must have been, 0 if none is known.

    Raises: OSError other than EIO.
    """
    log = SalvagedLog(seen_lsn=floor, sequence=sequence)
    if not disk.exists(folder):
        log.missing.append(Missing(floor + 1, 0, "wal"))
        return log
    files = []
    for name in disk.list_directory(folder):
        match = FILE_NAME.fullmatch(name)
        if match is None:
            continue
        log.names.append(name)
        log.sequence = max(log.sequence, int(match[1]))
        found = read_file(disk, folder / name, int(match[1]), store_id, floor)
        if found.foreign is None:
            files.append(found)
        else:
            log.foreign.append((name, found.foreign))
    _collect(log, files)
    log.missing += _missing(log, files, floor)
    return log


def _collect(log: SalvagedLog, files: list[FileContent]) -> None:
    """Each LSN once: whole rather than damaged, from a newer file rather than an older one."""
    chosen: dict[int, FoundRecord] = {}
    for content in sorted(files, key=lambda content: content.sequence):
        void_from = _void_from(content, files)
        log.sequence = max(log.sequence, content.sequence, *content.successors)
        log.seen_lsn = max(log.seen_lsn, content.seen_lsn)
        for record in content.records:
            if record.scanned.lsn >= void_from:
                continue
            before = chosen.get(record.scanned.lsn)
            if before is None or before.scanned.damaged or not record.scanned.damaged:
                chosen[record.scanned.lsn] = record
    log.records = [chosen[lsn] for lsn in sorted(chosen)]


def _void_from(content: FileContent, files: list[FileContent]) -> int:
    """Later files say up to which LSN the older ones count: what is behind it was cut off."""
    ends = [
        other.header.kept_lsn + 1
        for other in files
        if other.header is not None and other.sequence > content.sequence
    ]
    return min(ends, default=1 << 64)


def _missing(log: SalvagedLog, files: list[FileContent], floor: int) -> Iterator[Missing]:
    """LSNs that were given out, as their neighbours show, and are in no file."""
    never_given = [span for content in files for span in content.never_given]
    newest = max(files, key=lambda content: content.sequence, default=None)
    before, place = floor, "wal"
    for record in log.records:
        lsn = record.scanned.lsn
        if lsn > before + 1:
            yield from _gaps(before + 1, lsn - 1, never_given, place)
        before, place = max(before, lsn), record.file
    proven = max((content.proven_lsn for content in files), default=0)
    if proven > before:
        yield from _gaps(before + 1, proven, never_given, place)
    if newest is None:
        yield Missing(floor + 1, 0, "wal")
    elif max(content.seen_lsn for content in files) < floor:
        yield Missing(floor + 1, 0, "wal")  # an older copy of the log: it ends before the floor
    elif log.sequence > newest.sequence or newest.is_incomplete:
        yield Missing(max(before, proven) + 1, 0, os.fspath(newest.name))


def _gaps(first: int, last: int, never_given: Iterable[Span], place: str) -> Iterator[Missing]:
    """[first, last] without the spans of LSNs that nothing ever got."""
    for span in sorted(never_given):
        if span.last < max(first, span.first) or span.first > last:
            continue
        if span.first > first:
            yield Missing(first, span.first - 1, place)
        first = max(first, span.last + 1)
    if first <= last:
        yield Missing(first, last, place)
