"""Verify a data directory: every checksum, and each part against the others (I6).

Stopped, or in use (``verify_online``). Rows first, since they name the rest; then the log behind
the checkpoint; then segments, which are most of the bytes; then what must agree: rows with
segments, each stream's bytes, forks with references. Nothing is changed or repaired.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from .._native.disk import Disk, PosixDisk
from .._native.segment import SegmentDamaged
from .directory import FormatDamaged
from .findings import Finding, Findings
from .metadata import SegmentEntry
from .offline import Offline, open_offline
from .pace import Pace
from .repair_exchange import FOLDER as REPAIR_FOLDER
from .verify_log import verify_log_end, verify_quarantine, walk_log
from .verify_online import Settled, settle, verify_names_again
from .verify_rows import Rows, read_rows, verify_tables
from .verify_segments import (
    SEGMENT_NAME,
    Stored,
    open_segment,
    verify_coverage,
    verify_names,
    verify_rows_against,
    verify_segments,
)

_NAMES = {"FORMAT", "FORMAT.tmp", "LOCK", "reserve", "wal", "segments", "meta.lmdb"}
_NEWEST_END = "the newest frames of the log and what a flush leaves: they were being written"
_NO_ROWS = "the log, and what depends on the rows"
_TOO_FAST = "log and segments: they moved on faster than they could be looked at; try again"
_ROW_NAMES = {"data.mdb", "lock.mdb"}


@dataclass(slots=True)
class Report:
    """The outcome. Sizes are bytes."""

    directory: str
    store_id: str = ""  # hexadecimal digits
    online: bool = False  # a store had it open meanwhile
    unchecked: list[str] = field(default_factory=list)  # what could not be, for that reason
    stream_count: int = 0
    segment_count: int = 0
    segment_size: int = 0
    log_file_count: int = 0
    log_frame_count: int = 0
    log_record_count: int = 0
    last_lsn: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_damaged(self) -> bool:
        return any(found.severity == "damage" for found in self.findings)


class Verification:
    """One verification of the directory ``path``, in small steps.

    Args:
        disk: the seam that all is read through, but LMDB; None: the real disk.
        metadata_path: LMDB's directory if ``disk`` is simulated.
        in_use: see ``open_offline``.
        rate: bytes of segments a second to read at most; 0: as fast as it goes.
    """

    def __init__(
        self,
        path: Path,
        disk: Disk | None = None,
        metadata_path: Path | None = None,
        *,
        in_use: bool = False,
        rate: int = 0,
    ) -> None:
        self._disk = disk or PosixDisk()
        self._path = path
        self._rows_path = metadata_path or path / "meta.lmdb"
        self._in_use = in_use
        self._pace = Pace(rate)
        self._findings = Findings()
        self.report = Report(str(path))

    @property
    def total_size(self) -> int:
        """Bytes to read, about."""
        folders = (self._path / "segments", self._path / "wal", self._rows_path)
        return sum(map(_folder_size, folders))

    def run(self) -> Iterator[int]:
        """Verify; yields bytes done since the last step. ``report`` is complete at the end.

        Raises: DirectoryInUse, UnknownFormat, OpenError.
        """
        try:
            with open_offline(
                self._path, self._disk, self._rows_path, in_use=self._in_use
            ) as store:
                self.report.store_id = store.directory.store_id.hex()
                self.report.online = store.in_use
                yield from self._verify(store)
        except FormatDamaged as error:
            self._findings.add("format", str(error), "FORMAT")
        self.report.findings = self._findings.all()

    def _verify(self, store: Offline) -> Iterator[int]:
        self._verify_top(store)
        if store.is_new:
            return
        if store.trouble is not None:
            self._findings.add("rows-unreadable", *store.trouble)
        if not store.in_use:
            yield from self._verify_all(store, None)
            return
        self.report.unchecked.append(_NEWEST_END)
        settled = settle(store) if store.snapshot is not None else None
        if settled is None:
            self.report.unchecked.append(_NO_ROWS)
            yield from self._verify_segments(store, Rows(is_complete=False), None)
            return
        try:
            yield from self._verify_all(store, settled)
        finally:
            settled.close()

    def _verify_all(self, store: Offline, settled: Settled | None) -> Iterator[int]:
        findings, report = self._findings, self.report
        rows = self._read_rows(store)
        if store.snapshot is not None:
            store.snapshot.release()
        report.stream_count = len(rows.streams)
        yield _folder_size(self._rows_path)
        if settled is not None and not settled.is_believed:
            report.unchecked.append(_TOO_FAST)
            return
        log = settled.log if settled else walk_log(store, rows.row, judge=rows.is_complete)
        findings.extend(log.findings)
        if rows.is_complete and not findings.has_damage():
            verify_log_end(log, rows, findings)
        yield _folder_size(self._path / "wal")
        report.log_file_count, report.last_lsn = log.file_count, log.last_lsn
        report.log_frame_count, report.log_record_count = log.frame_count, log.record_count
        yield from self._verify_segments(store, rows, settled)
        verify_quarantine(rows, findings)

    def _read_rows(self, store: Offline) -> Rows:
        findings, rows = self._findings, Rows()
        if store.metadata is None:
            rows.is_complete = False
            return rows
        rows = read_rows(store.metadata, findings)
        for state in rows.states():
            findings.paths[state.stream_id] = state.path
        if rows.is_complete and store.checkpoint is not None:
            verify_tables(rows, store.checkpoint.next_stream_id, findings)
            self._verify_checkpoint(store, rows)
        return rows

    def _verify_segments(
        self, store: Offline, rows: Rows, settled: Settled | None
    ) -> Iterator[int]:
        findings, stored = self._findings, Stored()
        listed = rows.segments if rows.is_complete else _by_name(store)
        if not store.in_use:
            next_segment = 1 if rows.is_complete else None
            if store.checkpoint is not None:
                next_segment = store.checkpoint.next_segment
            verify_names(store, listed, next_segment, findings)
        opener = settled.take if settled and rows.is_complete else partial(open_segment, store)
        for size in verify_segments(opener, listed, stored, findings):
            self._pace(size)
            yield size
        self.report.segment_count = len(listed) - len(stored.unreadable)
        self.report.segment_size = sum(e.size for e in listed if e not in stored.unreadable)
        if rows.is_complete:
            verify_rows_against(stored, rows, findings)
            verify_coverage(stored, rows, findings)
        if settled is not None:
            verify_names_again(store, settled, findings)

    def _verify_top(self, store: Offline) -> None:
        for name in self._disk.list_directory(self._path):
            if name not in _NAMES and not REPAIR_FOLDER.fullmatch(name):
                self._findings.add("foreign-file", "not a name of the data directory", name)
        if self._rows_path.is_dir():
            for file in sorted(self._rows_path.iterdir()):
                if file.name not in _ROW_NAMES:
                    name = f"meta.lmdb/{file.name}"
                    self._findings.add("foreign-file", "not a name of LMDB's", name)

    def _verify_checkpoint(self, store: Offline, rows: Rows) -> None:
        """The segments follow each other, up to the checkpoint."""
        assert store.checkpoint is not None
        upto, number, file = 0, 0, "meta.lmdb/data.mdb"
        for entry in sorted(rows.segments, key=lambda entry: entry.upto_lsn):
            if entry.after_lsn < upto or entry.upto_lsn < entry.after_lsn:
                what = f"segment {entry.number} begins behind LSN {entry.after_lsn}, the one "
                what += f"before it ends at {upto}"
                self._findings.add("checkpoint", what, file)
            upto, number = entry.upto_lsn, max(number, entry.number)
        if upto > store.checkpoint.lsn or number >= store.checkpoint.next_segment:
            what = f"older (LSN {store.checkpoint.lsn}) than segment {number} (LSN {upto})"
            self._findings.add("checkpoint", what, file)


def _folder_size(folder: Path) -> int:
    with suppress(OSError):
        return sum(file.stat().st_size for file in folder.iterdir())
    return 0


def _by_name(store: Offline) -> list[SegmentEntry]:
    """The segments as their own headers describe them, when no row lists them."""
    entries: list[SegmentEntry] = []
    if not store.disk.exists(store.directory.segments):
        return entries
    for name in store.disk.list_directory(store.directory.segments):
        match = SEGMENT_NAME.fullmatch(name)
        if match is None:
            continue
        number = int(match[1])
        try:
            found = open_segment(store, SegmentEntry(number, 0, 0, 0, 0))
        except (SegmentDamaged, OSError):
            entries.append(SegmentEntry(number, 0, 0, 0, 0))
            continue
        entries.append(
            SegmentEntry(number, found.level, found.after_lsn, found.upto_lsn, found.size)
        )
        found.close()
    return entries
