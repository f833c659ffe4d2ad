"""Back up a data directory, in use or not, to a folder of restore points.

A restore point is everything that was acknowledged when the backup began, and perhaps some of
what came later: the rows of one checkpoint, the segments that they name, and the log behind it.
The source is only read, and no lock of it is taken: a server goes on, or starts, meanwhile.
What moves away under the backup is noticed, and the snapshot taken again; what is damaged is
never copied as if it were whole (I6). Layout: docs/format-backup.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from .._native.disk import Disk, PosixDisk
from .backup_copy import write_chunks
from .backup_log import LogMoved
from .backup_segments import SegmentGone, copy_segment, is_kept, known_segments
from .backup_snapshot import VERIFY, ProcessSnapshot, RowsSnapshot
from .backup_source import Source, SourcePlace, take_source
from .backup_target import ROWS, BackupTarget, RestorePoint, StoredFile, open_target
from .directory import read_format
from .errors import BackupDamaged, OpenError, StoreBusy

_ATTEMPTS_MAX = 40
_ATTEMPT_DELAY = 0.05  # seconds
_SAME_MAX = 3  # attempts that fail alike: then it is damage


@dataclass(slots=True)
class BackupResult:
    """What a backup did. Sizes are bytes."""

    point: RestorePoint
    copied_size: int = 0
    copied_segment_count: int = 0
    kept_segment_count: int = 0  # that an earlier restore point has, too
    attempt_count: int = 1
    pruned: list[str] = field(default_factory=list)  # ids of restore points removed


class Backup:
    """One backup of the data directory ``path`` to the folder ``target``.

    Args:
        keep: restore points to keep, at least 1; None: all.
        disk: the seam that all goes through but LMDB.
        rows, snapshot: where LMDB is, and how it is read, if the disk is simulated.
    """

    def __init__(
        self,
        path: Path,
        target: Path,
        *,
        keep: int | None = None,
        disk: Disk | None = None,
        rows: Path | None = None,
        snapshot: Callable[[Path], RowsSnapshot] = ProcessSnapshot,
    ) -> None:
        if keep is not None and keep < 1:
            raise ValueError("keep must be at least 1")
        self._disk = disk or PosixDisk()
        self._path = path.absolute()
        self._target_path = target.absolute()
        self._keep = keep
        self._rows = rows or self._path / "meta.lmdb"
        self._snapshot = snapshot
        self._attempts = 0
        self.total_size = 0  # bytes to do; known once the first bytes were done
        self.result: BackupResult | None = None  # complete at the end

    def run(self) -> Iterator[int]:
        """Back up; yields bytes done since the last step.

        Raises: BackupDamaged, NothingStored, DirectoryInUse, StoreBusy, OpenError, OSError. There
        is no new restore point then; what was copied is used by the next attempt.
        """
        self._refuse_nesting()
        if not self._disk.exists(self._path / "FORMAT"):
            raise OpenError(f"{self._path}: not a data directory of durastream (no FORMAT file)")
        place = SourcePlace(
            self._disk, self._path, self._rows, read_format(self._disk, self._path), self._snapshot
        )
        with open_target(self._disk, self._target_path, place.store_id.hex()) as target:
            target.clear_unfinished()
            points = target.points()
            yield from self._run(place, target, points)

    def _refuse_nesting(self) -> None:
        source, target = self._path.resolve(), self._target_path.resolve()
        if target == source or source in target.parents:
            raise OpenError(f"{target}: lies in the data directory; choose a folder outside of it")

    def _run(
        self, place: SourcePlace, target: BackupTarget, points: list[RestorePoint]
    ) -> Iterator[int]:
        now = self._disk.wall_ms()
        point_id = _new_id(now, {point.id for point in points})
        with ExitStack() as stack:
            source = yield from self._take(place, target, point_id, stack)
            rows = yield from self._copy_rows(target, point_id, source)
            head = source.snapshot.head
            point = RestorePoint(
                id=point_id,
                sequence=points[-1].sequence + 1 if points else 1,
                store_id=target.store_id,
                created_at=now,
                durastream=version("durastream"),
                directory=str(self._path),
                checkpoint_lsn=head.checkpoint.lsn,
                last_lsn=source.extent.last_lsn,
                stream_count=head.stream_count,
                files=[rows, *source.log_files],
            )
            result = BackupResult(point, attempt_count=self._attempts)
            result.copied_size = point.size
            yield from self._copy_segments(place, target, points, source, result)
        target.add(point)
        self._prune(target, [*points, point], result)
        self.result = result

    # -- the snapshot --------------------------------------------------------------------------

    def _take(
        self, place: SourcePlace, target: BackupTarget, point_id: str, stack: ExitStack
    ) -> Generator[int, None, Source]:
        """A snapshot, after as many attempts as it takes while a server changes everything."""
        alike, before = 0, ""
        for self._attempts in range(1, _ATTEMPTS_MAX + 1):
            with ExitStack() as attempt:
                try:
                    source = yield from take_source(place, target.folder(point_id), attempt)
                    stack.push(attempt.pop_all())
                    self.total_size = source.size
                    return source
                except (LogMoved, SegmentGone) as moved:
                    alike = alike + 1 if str(moved) == before else 1
                    before = str(moved)
                    if alike == _SAME_MAX:
                        raise _damaged(self._path, moved) from moved
            target.clear(point_id)
            time.sleep(_ATTEMPT_DELAY)
        raise StoreBusy(
            f"{self._path}: changes faster than it can be copied ({before}, in attempt "
            f"{_ATTEMPTS_MAX}); try again at a quieter time"
        )

    # -- copying -------------------------------------------------------------------------------

    def _copy_rows(
        self, target: BackupTarget, point_id: str, source: Source
    ) -> Generator[int, None, StoredFile]:
        folder = target.folder(point_id)
        chunks = source.snapshot.chunks()
        size, digest = yield from write_chunks(self._disk, folder / ROWS, chunks)
        self._disk.sync_directory(folder)
        return StoredFile(ROWS, f"points/{point_id}/{ROWS}", size, size, digest)

    def _copy_segments(
        self,
        place: SourcePlace,
        target: BackupTarget,
        points: list[RestorePoint],
        source: Source,
        result: BackupResult,
    ) -> Iterator[int]:
        known = known_segments(points)
        for segment in source.segments:
            found = known.get(segment.stored)
            if found is not None and is_kept(target, segment, found):
                result.kept_segment_count += 1
                yield found.size
            else:
                found = yield from copy_segment(target, segment, place.store_id)
                result.copied_segment_count += 1
                result.copied_size += found.size
            result.point.files.append(found)

    def _prune(
        self, target: BackupTarget, points: list[RestorePoint], result: BackupResult
    ) -> None:
        for point in points[: -self._keep] if self._keep is not None else []:
            target.remove(point)
            result.pruned.append(point.id)
        target.remove_unreferenced()


def _new_id(now_ms: int, known: set[str]) -> str:
    """The time, in words that sort."""
    name = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    if name not in known:
        return name
    return next(f"{name}-{n}" for n in range(2, len(known) + 3) if f"{name}-{n}" not in known)


def _damaged(path: Path, moved: LogMoved | SegmentGone) -> BackupDamaged:
    if isinstance(moved, LogMoved):
        return BackupDamaged(f"{path}: the log ({moved.what})", moved.where, VERIFY)
    return BackupDamaged(f"{path}: a segment is missing", f"segments/{moved}", VERIFY)
