"""Repair a data directory: rebuild what is damaged from what is whole, and say what is lost (I6).

Segments describe themselves, and the log's records do, too; so whatever is damaged, the outcome
is the same: rows written anew from both, damaged segments written again as far as they are whole,
what only the log held in one more segment, and a fresh log. What was replaced is kept. It reads
everything before it changes anything; ``repair_exchange`` makes the change.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .._native.disk import Disk, PosixDisk
from .directory import lock_file, open_error
from .errors import OpenError, UnknownFormat
from .metadata import SegmentEntry
from .repair_build import LSN_JUMP, ROWS, Builder, Numbers
from .repair_coverage import Coverage
from .repair_exchange import Exchange, Plan, folders, new_name
from .repair_identity import Identity, identify
from .repair_rows import OldRows, gather, read_old_rows
from .repair_segments import SegmentReader, Segments
from .repair_states import Loss, States
from .salvage_log import Missing, SalvagedLog, salvage_log


@dataclass(slots=True)
class RepairReport:
    """What is wrong, what becomes of it, and what is lost. Offsets are wire bytes."""

    directory: str
    store_id: str = ""
    folder: str = ""  # below the directory: where everything is kept that was replaced
    stream_count: int = 0
    record_count: int = 0  # of the log, taken over
    lsn: int = 0  # of the repair: the log goes on behind it
    rebuilt: list[str] = field(default_factory=list)
    aside: list[tuple[str, str]] = field(default_factory=list)  # file, why it is not used
    losses: list[Loss] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)  # records of streams that nobody knows
    closed_count: int = 0  # streams that take no more writes, as they may have lost some of them

    @property
    def has_losses(self) -> bool:
        return bool(self.losses or self.missing)

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        content = asdict(self)
        content["missing"] = [lost._asdict() for lost in self.missing]
        return content


class Repair:
    """One repair of the directory ``path``; a context, which holds its lock.

    Args:
        disk: the seam that all goes through, but LMDB; None: the real disk.
        metadata_path: LMDB's directory if ``disk`` is simulated.
        close_doubtful: where nobody can tell which streams lost records, take no more writes to
            any that may have: else what was lost might be followed by other bytes at its offsets.
        may_change: False: only for ``survey``; not even a LOCK is made.

    Raises: DirectoryInUse, OpenError.
    """

    def __init__(
        self,
        path: Path,
        disk: Disk | None = None,
        metadata_path: Path | None = None,
        *,
        close_doubtful: bool = False,
        may_change: bool = True,
    ) -> None:
        self._path = path
        self._disk = disk or PosixDisk()
        self._metadata_path = metadata_path
        self._may_change = may_change
        self._close_doubtful = close_doubtful
        self._lock: int | None = None
        self.report = RepairReport(str(path))
        self._identity: Identity
        self._segments = Segments()
        self._log = SalvagedLog()
        self._old: OldRows | None = None
        self._states: States
        self._floor = 0

    def __enter__(self) -> Self:
        try:
            if not self._disk.exists(self._path):
                raise UnknownFormat(f"{self._path}: no such directory")
            makes_lock = self._may_change and self._is_store()
            if makes_lock or self._disk.exists(self._path / "LOCK"):  # else nobody has it open
                flags = os.O_RDWR | os.O_CREAT if makes_lock else os.O_RDONLY
                self._lock = lock_file(self._disk, self._path / "LOCK", flags)
        except OSError as error:
            raise open_error(self._path, error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            self._disk.close(self._lock)
            self._lock = None

    def _is_store(self) -> bool:
        names = ("FORMAT", "wal", "segments", ROWS)
        return any(self._disk.exists(self._path / name) for name in names)

    # -- an exchange that was cut short --------------------------------------------------------

    @property
    def interrupted(self) -> list[str]:
        """The folders of repairs that were cut short in the midst of their exchange."""
        found = folders(self._disk, self._path)
        return [name for name in found if self._exchange(name).is_unfinished]

    def finish_interrupted(self) -> list[dict[str, Any]]:
        """Do what is left of them; their reports."""
        reports = []
        for name in self.interrupted:
            exchange = self._exchange(name)
            plan = exchange.plan()
            exchange.finish(plan)
            reports.append(plan.report)
        return reports

    def _exchange(self, name: str) -> Exchange:
        return Exchange(self._disk, self._path, name, self._metadata_path)

    # -- reading -------------------------------------------------------------------------------

    @property
    def _rows_path(self) -> Path:
        return self._metadata_path or self._path / ROWS

    @property
    def total_size(self) -> int:
        """Bytes to read, about."""
        return self._size_of("segments") + self._size_of("wal")

    def _size_of(self, folder: str) -> int:
        with suppress(OSError):
            return sum(file.stat().st_size for file in (self._path / folder).iterdir())
        return 0

    def survey(self) -> Iterator[int]:
        """Read everything and decide; yields bytes done. Nothing is changed.

        Raises: UnknownFormat, OpenError, OSError.
        """
        self._identity = identify(self._disk, self._path)
        store_id = self._identity.store_id
        reader = SegmentReader(self._disk, self._path / "segments", store_id)
        yield from reader.read()
        self._old = read_old_rows(self._rows_path, store_id, reader.headers())
        listed = self._old.segments if self._old is not None else []
        checkpoint = self._old.checkpoint if self._old is not None else None
        self._segments = reader.choose(listed, checkpoint)
        self._floor = self._segments.upto_lsn
        sequence = 0
        if checkpoint is not None:
            self._floor = max(self._floor, checkpoint.lsn)
            sequence = checkpoint.file_seq
        self._log = salvage_log(self._disk, self._path / "wal", store_id, self._floor, sequence)
        yield self._size_of("wal")
        known = gather(reader, self._segments, self._old)
        self._states = States(known, self._segments, self._log)
        self._states.replay(self._floor)
        self._states.agree()
        coverage = Coverage(self._states, self._segments, self._log)
        coverage.cover()
        self._describe()
        if self._close_doubtful and self.report.missing:
            self.report.closed_count = coverage.close_doubtful(self.report.missing)

    def _describe(self) -> None:
        report, segments = self.report, self._segments
        report.store_id = self._identity.store_id.hex()
        report.stream_count = sum(f.state is not None for f in self._states.streams.values())
        report.record_count = sum(r.scanned.lsn > self._floor for r in self._log.records)
        report.lsn = max(self._log.seen_lsn, self._floor) + 1
        report.losses = sorted(self._states.losses, key=lambda loss: loss.stream_id)
        report.missing = list(self._log.missing)
        if self._old is None:
            report.missing += [
                Missing(lost.after_lsn + 1, lost.upto_lsn, "segments") for lost in segments.lost
            ]
            report.missing += [
                Missing(file.after_lsn + 1, file.upto_lsn, f"segments/{file.right_name}")
                for file in segments.files
                if file.salvaged is not None and file.salvaged.unknown
            ]
        report.aside = [(f"segments/{name}", why) for name, why in segments.aside]
        report.aside += [(f"wal/{name}", why) for name, why in self._log.foreign]
        report.rebuilt = [
            f"segments/{file.right_name}"
            for file in segments.files
            if file.is_damaged or file.name != file.right_name
        ]
        if self._identity.problem is not None:
            report.rebuilt.append("FORMAT")

    # -- writing -------------------------------------------------------------------------------

    def run(self) -> Iterator[int]:
        """Build all that is new, then exchange it; yields the number of streams done.

        Raises: OSError, lmdb.Error; then the directory is as it was, or a repair of it goes on.
        """
        if self._lock is None:
            raise OpenError(f"{self._path}: not locked, so that nothing may be changed")
        taken = folders(self._disk, self._path)
        begun = [name for name in taken if not self._exchange(name).has_plan]
        name = begun[0] if begun else new_name(self._disk, self._path, taken=taken)
        exchange = self._exchange(name)
        exchange.begin()
        self.report.folder = name
        builder = Builder(self._disk, exchange, self._identity.store_id, self._numbers())
        entries = [*self._entries(builder)]
        finals = [self._states.streams[key] for key in sorted(self._states.streams)]
        live = [final for final in finals if final.state is not None]
        added = builder.add_segment(finals)
        entries += [] if added is None else [added]
        yield from builder.write_rows(live, entries)
        plan = self._plan(exchange, builder.write_log(), entries)
        exchange.commit(plan)
        exchange.finish(plan)

    def _numbers(self) -> Numbers:
        segments, old = self._segments, self._old
        numbers = [file.number for file in segments.files]
        numbers += [lost.number for lost in segments.lost if lost.number is not None]
        numbers += [int(name[:20]) for name, _ in segments.aside]
        lsn = self.report.lsn
        next_stream_id = lsn + LSN_JUMP + 1  # each id took an LSN, so that all were below it
        if old is not None:
            numbers.append(old.checkpoint.next_segment - 1)
            if not self.report.has_losses:
                next_stream_id = max(old.checkpoint.next_stream_id, *self._states.stream_ids) + 1
        return Numbers(
            self._floor, lsn, max(numbers, default=0) + 1, self._log.sequence + 1, next_stream_id
        )

    def _entries(self, builder: Builder) -> Iterator[SegmentEntry]:
        """The segments that stay, with those among them that had to be written again."""
        for file in self._segments.files:
            if file.is_damaged:
                rewritten = builder.rewrite(file)
                if rewritten is not None:
                    yield rewritten
                continue
            if file.name != file.right_name:
                builder.copy(self._path / "segments" / file.name, file.right_name)
            yield file.entry

    def _plan(self, exchange: Exchange, log: str, entries: list[SegmentEntry]) -> Plan:
        exchange.write(exchange.new("FORMAT"), self._identity.content())
        old = ["FORMAT", ROWS, *(f"wal/{name}" for name in self._log.names)]
        old += [f"segments/{name}" for name, _ in self._segments.aside]
        old += [
            f"segments/{file.name}"
            for file in self._segments.files
            if file.is_damaged or file.name != file.right_name
        ]
        aside = [(name, f"{exchange.name}/{name}") for name in old if exchange.exists(name)]
        names = [f"{entry.number:020d}.seg" for entry in entries]
        into = [(exchange.new(name), f"segments/{name}") for name in names]
        into.append((exchange.new(log), f"wal/{log}"))
        into.append((exchange.new(ROWS), ROWS))
        into.append((exchange.new("FORMAT"), "FORMAT"))
        into = [move for move in into if exchange.exists(move[0])]
        report = {**self.report.plain(), "moved": [name for name, _ in aside]}
        return Plan(aside, into, report)
