"""A whole repair: finish what was cut short, verify, decide, ask, exchange, verify again.

What ``durastream repair`` does, for programs. A directory in which nothing is damaged is left as
it is; damage that an earlier repair put under quarantine is none that another could mend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._native.disk import Disk
from .errors import OpenError
from .findings import Finding
from .repair import Repair, RepairReport
from .verify import Verification

# Runs steps, whose yields are units done, perhaps with a progress bar: label, units in all, steps.
Watch = Callable[[str, int, Iterator[int]], None]
Approve = Callable[[list[Finding], RepairReport], bool]


@dataclass(slots=True)
class Outcome:
    """What became of it."""

    finished: list[dict[str, Any]] = field(default_factory=list)  # reports: they were cut short
    found: list[Finding] = field(default_factory=list)  # before
    report: RepairReport | None = None  # None: there is nothing to repair
    is_done: bool = False
    left: list[Finding] = field(default_factory=list)  # damage afterwards, but for quarantines
    quarantined_count: int = 0  # streams, before

    @property
    def has_losses(self) -> bool:
        """Whether something is lost, that of finished repairs included."""
        lost = any(report["losses"] or report["missing"] for report in self.finished)
        return lost or (self.report is not None and self.report.has_losses)


def just_run(label: str, total: int, steps: Iterator[int]) -> None:
    for _ in steps:
        pass


def repair_directory(
    path: Path,
    disk: Disk | None = None,
    metadata_path: Path | None = None,
    *,
    may_change: bool = True,
    close_doubtful: bool = False,
    watch: Watch = just_run,
    approve: Approve = lambda found, report: True,
) -> Outcome:
    """Repair the directory ``path``, which no store may have open.

    Args:
        disk, metadata_path, close_doubtful: see ``Repair``.
        may_change: False: only say what would be done.
        watch: runs the steps.
        approve: asked before anything is changed; False leaves all as it is.

    Raises: DirectoryInUse, UnknownFormat, OpenError, OSError, lmdb.Error.
    """
    outcome = Outcome()
    with Repair(path, disk, metadata_path, may_change=may_change) as repair:
        if repair.interrupted and not may_change:
            raise OpenError(
                f"{path}: a repair was cut short ({', '.join(repair.interrupted)}); it has to be "
                "finished before anything else can be said"
            )
        outcome.finished = repair.finish_interrupted()
    verification = Verification(path, disk, metadata_path)
    watch("Verifying", verification.total_size, verification.run())
    findings = verification.report.findings
    outcome.found = mendable(findings)
    outcome.quarantined_count = sum(found.code == "quarantine" for found in findings)
    if not outcome.found:
        return outcome
    with Repair(
        path,
        disk,
        metadata_path,
        close_doubtful=close_doubtful,
        may_change=may_change,
    ) as repair:
        watch("Reading", repair.total_size, repair.survey())
        outcome.report = repair.report
        if not may_change or not approve(outcome.found, repair.report):
            return outcome
        watch("Repairing", repair.report.stream_count, repair.run())
    outcome.is_done = True
    verification = Verification(path, disk, metadata_path)
    watch("Verifying", verification.total_size, verification.run())
    outcome.left = mendable(verification.report.findings)
    return outcome


def mendable(findings: list[Finding]) -> list[Finding]:
    """Damage that is not under quarantine already."""
    return [f for f in findings if f.severity == "damage" and f.code != "quarantine"]
