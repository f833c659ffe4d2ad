"""Open a data directory to look at it: locked, so that nothing moves, and never changed (I6).

Nothing is recovered, made, cut off or removed here: the log is walked as it lies, LMDB is
opened without its table of readers. What cannot be read is a ``Trouble``, not an end: a tool
for damaged directories goes on with the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import lmdb
import msgspec

from .._native.disk import Disk
from .._native.wal_scan import WalScan
from .._native.wal_types import Checkpoint as LogPosition
from .._native.wal_walk import WalWalk
from .directory import DataDirectory, open_existing
from .errors import Damaged
from .metadata import Checkpoint, Metadata
from .options import FileStoreOptions
from .row_probe import deadly_signal

_PAGE = 4096
_RECOVERY_FILE = 2  # the kind, docs/format-wal.md


class Trouble(NamedTuple):
    """Why a part of the directory cannot be read at all."""

    what: str
    file: str  # below the data directory


@dataclass(slots=True)
class Offline:
    """A locked data directory, and what of it can be read."""

    disk: Disk
    directory: DataDirectory
    metadata: Metadata | None = None
    checkpoint: Checkpoint | None = None
    trouble: Trouble | None = None  # with the rows
    is_new: bool = False  # nothing was ever acknowledged

    def scan_log(self) -> WalScan:
        """The log behind the checkpoint; without one, from its oldest file on.

        Raises: OSError; ValueError for a checkpoint that is none.
        """
        return WalScan(
            self.disk, str(self.directory.wal), self.directory.store_id, self._log_start()
        )

    def _log_start(self) -> LogPosition | None:
        if self.checkpoint is not None:
            found = self.checkpoint
            return LogPosition(found.lsn, found.file_seq, found.position)
        if self.trouble is None:
            return None
        files = WalWalk(self.disk, str(self.directory.wal), self.directory.store_id).files
        usable = [file for file in files.values() if file.problem is None]
        if not usable:
            return None
        oldest = min(usable, key=lambda file: file.sequence)
        # A recovery file is found by what it continues, another by its place.
        above = oldest.sequence - (oldest.kind == _RECOVERY_FILE)
        return LogPosition(oldest.base_lsn, above, _PAGE)


@contextmanager
def open_offline(
    path: Path, disk: Disk, metadata_path: Path | None = None, *, probe: bool = True
) -> Iterator[Offline]:
    """Lock ``path`` and open it for looking.

    Args:
        metadata_path: LMDB's directory if ``disk`` is simulated.
        probe: read the rows in another process first, which damaged pages may kill.

    Raises: DirectoryInUse, UnknownFormat, OpenError.
    """
    directory = open_existing(disk, path)
    found = Offline(disk, directory)
    try:
        _open_rows(found, metadata_path or directory.metadata, probe)
        yield found
    finally:
        if found.metadata is not None:
            found.metadata.close()
        disk.close(directory.lock)


def _never_logged(store: Offline) -> bool:
    """Whether there is no log yet: a crash may have cut the very first opening short."""
    folders = (store.directory.wal, store.directory.segments)
    return not any(
        store.disk.exists(folder) and store.disk.list_directory(folder) for folder in folders
    )


def _open_rows(found: Offline, rows: Path, probe: bool) -> None:
    options = FileStoreOptions()
    file = "meta.lmdb/data.mdb"
    if not (rows / "data.mdb").exists():
        found.is_new = _never_logged(found)
        found.trouble = None if found.is_new else Trouble("LMDB's file is missing", file)
        return
    metadata: Metadata | None = None
    try:
        if probe and (signal := deadly_signal(rows, options.lmdb_map_size)):
            found.trouble = Trouble(
                f"LMDB's pages are damaged: reading them ends in {signal}", file
            )
            return
        metadata = Metadata(rows, map_size=options.lmdb_map_size, read_only=True)
        found.checkpoint = metadata.checkpoint()
        found.metadata = metadata
    except (lmdb.Error, Damaged, msgspec.DecodeError) as error:
        if metadata is not None:
            metadata.close()
        if isinstance(error, lmdb.NotFoundError | lmdb.ReadonlyError) and _never_logged(found):
            found.is_new = True  # LMDB is there, its tables are not yet
            return
        what = error.what if isinstance(error, Damaged) else f"LMDB: {error}"
        found.trouble = Trouble(f"the rows cannot be read ({what})", file)
