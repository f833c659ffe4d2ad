"""Segments that no row names: left over by what was cut short, or the last trace of lost rows.

A flush or a compaction that never came to its commit leaves a segment behind, and a compaction
the ones that it merged. They go once the log was found to be whole; until then nothing may be
removed, since rows that are older than their segments look the same.
"""

from __future__ import annotations

import os
from pathlib import Path

from .._native.disk import Disk
from .._native.segment import Segment, SegmentDamaged
from .directory import DataDirectory
from .errors import Damaged
from .metadata import Checkpoint, Metadata


class Leftovers:
    """What lies in ``segments/`` beside the store.

    Raises: Damaged for a segment that was committed: then rows were lost, and with them what it
        holds.
    """

    def __init__(
        self, directory: DataDirectory, metadata: Metadata, disk: Disk, checkpoint: Checkpoint
    ) -> None:
        self._directory = directory
        self._disk = disk
        self._checkpoint = checkpoint
        self._paths = self._find(metadata)

    def _find(self, metadata: Metadata) -> list[Path]:
        listed = {self._directory.segment(entry.number).name for entry in metadata.segments()}
        obsolete, next_segment = metadata.obsolete(), self._checkpoint.next_segment
        found = []
        for name in self._disk.list_directory(self._directory.segments):
            if not name.endswith(".seg") or name in listed:
                continue
            number = int(name[:-4]) if name[:-4].isdecimal() else next_segment
            if number < next_segment and number not in obsolete:
                what = f"table segments: no row for {name}, which was committed"
                raise Damaged(f"{what} (run `durastream repair`)", "meta.lmdb")
            found.append(self._directory.segments / name)
        return found

    def __len__(self) -> int:
        return len(self._paths)

    def objection(self, last_lsn: int) -> tuple[int, str] | None:
        """A segment that holds more than rows and log: both are older than it is.

        Args:
            last_lsn: of the log.
        """
        for path in self._paths:
            upto_lsn = self._upto_lsn(path)
            if upto_lsn > max(last_lsn, self._checkpoint.lsn):
                return last_lsn + 1, f"{path} holds records up to LSN {upto_lsn}"
        return None

    def _upto_lsn(self, path: Path) -> int:
        """0 if it is no segment of this store and number: nobody can have needed it."""
        if not path.stem.isdecimal():
            return 0
        try:
            segment = Segment(
                self._disk,
                os.fspath(path),
                store_id=self._directory.store_id,
                number=int(path.stem),
            )
        except SegmentDamaged:
            return 0
        upto_lsn = segment.upto_lsn
        segment.close()
        return upto_lsn

    def remove(self) -> None:
        """Once the log is known to be whole: it has it all."""
        for path in self._paths:
            self._disk.unlink(path)
