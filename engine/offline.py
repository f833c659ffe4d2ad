"""Open a data directory to look at it, without changing it (I6).

With its lock, so that nothing moves; or, if that is allowed, beside the store that has it open:
then rows are a ``Snapshot``, segments immutable, and the log moves on (``verify_online``).
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
from .errors import Damaged, DirectoryInUse, OpenError
from .metadata import Checkpoint, Metadata
from .options import FileStoreOptions
from .snapshot import Snapshot

_PAGE = 4096
_RECOVERY_FILE = 2  # the kind, docs/format-wal.md


class Trouble(NamedTuple):
    """Why a part of the directory cannot be read at all."""

    what: str
    file: str  # below the data directory


@dataclass(slots=True)
class Offline:
    """A data directory, and what of it can be read."""

    disk: Disk
    directory: DataDirectory
    metadata: Metadata | None = None
    checkpoint: Checkpoint | None = None
    trouble: Trouble | None = None  # with the rows
    is_new: bool = False  # nothing was ever acknowledged

    @property
    def in_use(self) -> bool:
        """Whether somebody else has it open, and everything moves."""
        return self.directory.lock < 0

    @property
    def snapshot(self) -> Snapshot | None:
        """The rows of a directory in use, if they can be read."""
        return self.metadata if isinstance(self.metadata, Snapshot) else None

    def renew(self) -> None:
        """Go on to the newest rows and checkpoint of a directory in use. Raises: Damaged."""
        if self.snapshot is not None:
            self.snapshot.renew()
            self.checkpoint = self.snapshot.checkpoint()

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
    path: Path,
    disk: Disk,
    metadata_path: Path | None = None,
    *,
    in_use: bool = False,
) -> Iterator[Offline]:
    """Open ``path`` for looking, locked if possible.

    Args:
        metadata_path: LMDB's directory if ``disk`` is simulated.
        in_use: look also if somebody else has it open.

    Raises: DirectoryInUse, UnknownFormat, OpenError.
    """
    directory = open_existing(disk, path, in_use=in_use)
    found = Offline(disk, directory)
    try:
        _open_rows(found, metadata_path or directory.metadata)
        yield found
    finally:
        if found.metadata is not None:
            found.metadata.close()
        if not found.in_use:
            disk.close(directory.lock)


def _never_logged(store: Offline) -> bool:
    """Whether there is no log yet: a crash may have cut the very first opening short."""
    folders = (store.directory.wal, store.directory.segments)
    return not any(
        store.disk.exists(folder) and store.disk.list_directory(folder) for folder in folders
    )


def _open_rows(found: Offline, rows: Path) -> None:
    options = FileStoreOptions()
    file = "meta.lmdb/data.mdb"
    if not (rows / "data.mdb").exists():
        found.is_new = _never_logged(found)
        found.trouble = None if found.is_new else Trouble("LMDB's file is missing", file)
        return
    metadata: Metadata | None = None
    try:
        if found.in_use:
            metadata = Snapshot(rows, map_size=options.lmdb_map_size)
        else:
            metadata = Metadata(rows, map_size=options.lmdb_map_size, read_only=True)
        found.checkpoint = metadata.checkpoint()
        found.metadata = metadata
    except (lmdb.Error, Damaged, msgspec.DecodeError) as error:
        if metadata is not None:
            metadata.close()
        _raise_if_not_damage(found, error)
        if isinstance(error, lmdb.NotFoundError | lmdb.ReadonlyError) and _never_logged(found):
            found.is_new = True  # LMDB is there, its tables are not yet
            return
        what = error.what if isinstance(error, Damaged) else f"LMDB: {error}"
        found.trouble = Trouble(f"the rows cannot be read ({what})", file)


def _raise_if_not_damage(found: Offline, error: Exception) -> None:
    """What only says that this process cannot look. Raises: DirectoryInUse, OpenError."""
    text = str(error)
    if "already open in this process" in text:
        raise DirectoryInUse(
            f"{found.directory.path}: open in this very process; look from another one"
        ) from error
    refused = "Permission denied" in text and not isinstance(error, lmdb.ReadonlyError)
    if refused or isinstance(error, lmdb.ReadersFullError | lmdb.LockError):
        raise OpenError(f"{found.directory.metadata}: {text}") from error
