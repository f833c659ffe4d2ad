"""Check a folder of backups: whether every restore point is there, to the byte.

Each file is read once, however many restore points share it. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .._native.disk import Disk, PosixDisk
from .backup_copy import hash_file
from .backup_target import BackupTarget, RestorePoint, StoredFile, open_target
from .errors import BackupDamaged


@dataclass(frozen=True, slots=True)
class BackupFinding:
    """One file that is not what was stored."""

    file: str  # below the target
    what: str
    points: list[str]  # the restore points that need it


@dataclass(slots=True)
class BackupReport:
    """The outcome. Sizes are bytes."""

    target: str
    store_id: str = ""
    points: list[RestorePoint] = field(default_factory=list)  # whose manifest is whole
    file_count: int = 0
    size: int = 0
    findings: list[BackupFinding] = field(default_factory=list)

    @property
    def is_damaged(self) -> bool:
        return bool(self.findings)


class BackupCheck:
    """One check of the folder ``target``, in small steps; ``manifests_only`` reads no more."""

    def __init__(
        self, target: Path, *, manifests_only: bool = False, disk: Disk | None = None
    ) -> None:
        self._manifests_only = manifests_only
        self._disk = disk or PosixDisk()
        self._target = target.absolute()
        self.report = BackupReport(str(self._target))
        self.total_size = 0  # bytes to read; known once the first step was made

    def run(self) -> Iterator[int]:
        """Check; yields bytes done. Raises: OpenError, BackupDamaged (BACKUP), OSError."""
        with open_target(self._disk, self._target) as target:
            self.report.store_id = target.store_id
            files = self._read_manifests(target)
            if self._manifests_only:
                return
            self.total_size = sum(file.stored_size for file, _ in files.values())
            yield 0
            for file, points in files.values():
                what = yield from self._check(file)
                if what is not None:
                    self.report.findings.append(BackupFinding(file.stored, what, points))

    def _read_manifests(
        self, target: BackupTarget
    ) -> dict[tuple[str, str], tuple[StoredFile, list[str]]]:
        files: dict[tuple[str, str], tuple[StoredFile, list[str]]] = {}
        for name in target.point_names():
            try:
                point = target.read(name)
            except BackupDamaged as damage:
                point_id = name.removesuffix(".json")
                finding = BackupFinding(damage.where, "the manifest is damaged", [point_id])
                self.report.findings.append(finding)
                continue
            self.report.points.append(point)
            for file in point.files:
                key = (file.stored, file.sha256)
                files.setdefault(key, (file, []))[1].append(point.id)
        self.report.points.sort(key=lambda point: point.sequence)
        return files

    def _check(self, file: StoredFile) -> Generator[int, None, str | None]:
        """What is wrong with a file."""
        try:
            size, digest = yield from hash_file(self._disk, self._target / file.stored)
        except FileNotFoundError:
            return "the file is missing"
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        self.report.file_count += 1
        self.report.size += size
        if size != file.stored_size:
            return f"has {size} bytes, and {file.stored_size} were stored"
        return None if digest == file.sha256 else "its bytes are not those that were stored"
