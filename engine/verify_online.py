"""Verify a store in use: what was read while it moved, and whether that can be believed.

Nobody stops the store. Its rows are read in one transaction; segments are immutable, and all of
them are opened before any can be dropped; the log is walked as it grows. What looks damaged there
may be a race with the writer: a frame that was read before it was written, or a file that was
used again. The first does not happen twice at one place; the second not to a file that the newest
checkpoint still needs. So what two looks find, in such files, is believed. It must never report a
race, and only reads.
"""

from __future__ import annotations

import errno
import os
import re
import time
from dataclasses import dataclass, field

import lmdb
import msgspec

from .._native.segment import Segment, SegmentDamaged
from .errors import Damaged
from .findings import Findings
from .metadata import SegmentEntry
from .offline import Offline
from .records import Row
from .verify_log import LogWalk, walk_log
from .verify_segments import open_segment, verify_names

_LOOKS_MAX = 50
_PAUSE = 0.02  # seconds between looks
_NAMES_PAUSE = 0.5  # a file that was dropped is removed by then
_NEVER_RACES = {"segment-unlisted", "foreign-file"}

_FILE = re.compile(r"wal/(\d{20})\.wal")

Place = tuple[str, str, int | None, int | None]  # code, file, position, stream id
Opened = Segment | SegmentDamaged | OSError


@dataclass(slots=True)
class Settled:
    """A consistent look at a store in use: all from one commit, but for the log's newest end."""

    log: LogWalk
    segments: dict[int, Opened] = field(default_factory=dict)
    is_believed: bool = False  # False: everything moved on too fast; only rows can be judged
    names: set[tuple[str, str]] = field(default_factory=set)  # odd names in segments/, as found

    def take(self, entry: SegmentEntry) -> Segment:
        """The opened segment. Raises: what opening it raised."""
        found = self.segments.pop(entry.number)
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        for segment in self.segments.values():
            if isinstance(segment, Segment):
                segment.close()
        self.segments.clear()


def settle(store: Offline) -> Settled:
    """Look until a look can be believed. ``store`` stays pinned to the commit that it is from.

    Raises: OSError if there are not enough descriptors for all segments; Damaged.
    """
    before: set[Place] = set()
    for _ in range(_LOOKS_MAX):
        settled = Settled(_walk(store), _open_segments(store))
        odd = _odd_places(settled)
        if odd <= before and _is_true(store, settled, odd):
            settled.is_believed = True
            settled.names = _odd_names(store)
            return settled
        settled.close()
        before = odd
        time.sleep(_PAUSE)
        store.renew()
    return settled


def _is_true(store: Offline, settled: Settled, odd: set[Place]) -> bool:
    """Whether all that was looked at was still needed after the look."""
    assert store.snapshot is not None
    checkpoint = store.snapshot.newest_checkpoint()
    newest_lsn, oldest_file = (checkpoint.lsn, checkpoint.file_seq) if checkpoint else (0, 0)
    files = [_FILE.fullmatch(str(place[1])) for place in odd]
    if any(match and int(match[1]) < oldest_file for match in files):
        return False
    gone = {n for n, found in settled.segments.items() if isinstance(found, FileNotFoundError)}
    if not gone <= store.snapshot.newest_segments():
        return False  # merged into others, and removed
    # It saw at least as much of the log as was flushed meanwhile; else files may have changed.
    return bool(odd) or settled.log.last_lsn >= newest_lsn


def _walk(store: Offline) -> LogWalk:
    """The rows of the streams that the log names are looked up one by one."""
    assert store.metadata is not None
    rows = store.metadata

    def row(stream_id: int) -> Row | None:
        try:
            return rows.row(stream_id)
        except (Damaged, lmdb.Error, msgspec.DecodeError) as error:
            raise LookupError(f"the row of stream {stream_id}: {error}") from error

    try:
        return walk_log(store, row, judge=True)
    except FileNotFoundError as error:  # between the list of files and a look at one
        moved = LogWalk()
        name = f"wal/{os.path.basename(error.filename)}"
        moved.findings.add("wal-damage", "the file is gone", name)
        return moved


def _open_segments(store: Offline) -> dict[int, Opened]:
    assert store.metadata is not None
    opened: dict[int, Opened] = {}
    for entry in _listed(store):
        try:
            opened[entry.number] = open_segment(store, entry)
        except SegmentDamaged as damage:
            opened[entry.number] = damage
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            opened[entry.number] = error
    return opened


def _listed(store: Offline) -> list[SegmentEntry]:
    """The rows that can be read: those that cannot are found when all rows are."""
    assert store.metadata is not None
    found = []
    for stored in store.metadata.scan("segments"):
        if stored.is_whole:
            try:
                found.append(msgspec.msgpack.decode(stored.value, type=SegmentEntry))
            except msgspec.DecodeError:
                continue
    return found


def _odd_places(settled: Settled) -> set[Place]:
    """Everything that may be damage or a race: segments only race with their removal."""
    return {
        (finding.code, finding.file, finding.position, finding.stream_id)
        for finding in settled.log.findings.all()
    }


def _odd_names(store: Offline) -> set[tuple[str, str]]:
    next_segment = None if store.checkpoint is None else store.checkpoint.next_segment
    found = Findings()
    verify_names(store, _listed(store), next_segment, found)
    return {(odd.code, odd.file) for odd in found.all() if odd.code in _NEVER_RACES}


def verify_names_again(store: Offline, settled: Settled, findings: Findings) -> None:
    """Report files that no row names now and did not name then either."""
    if not settled.names or store.snapshot is None:
        return
    time.sleep(_NAMES_PAUSE)
    store.renew()
    again = Findings()
    next_segment = None if store.checkpoint is None else store.checkpoint.next_segment
    verify_names(store, _listed(store), next_segment, again)
    store.snapshot.release()
    for odd in again.all():
        if (odd.code, odd.file) in settled.names:
            findings.add(odd.code, odd.what, odd.file)
