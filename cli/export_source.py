"""The store that an export reads: that of a directory, or a copy of it if a server has it open."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..engine.backup import Backup
from ..engine.errors import DirectoryInUse, OpenError
from ..engine.file_store import FileBackedStreamStore
from ..engine.restore import Restore


@contextmanager
def open_source(path: Path, scratch: Path) -> Iterator[FileBackedStreamStore]:
    """A store with the streams of the data directory ``path``.

    Args:
        scratch: takes a copy, for the while, if the directory is in use; removed at the end.

    Raises: OpenError and its subclasses, Damaged, StoreBusy, OSError.
    """
    if not (path / "FORMAT").exists():
        raise OpenError(f"{path}: not a data directory of durastream (no FORMAT file)")
    try:
        store = _open(path, scratch)
        try:
            yield store
        finally:
            store.close()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _open(path: Path, scratch: Path) -> FileBackedStreamStore:
    try:
        return FileBackedStreamStore(path)
    except DirectoryInUse:
        for _ in Backup(path, scratch / "backup").run():
            pass
        for _ in Restore(scratch / "backup", scratch / "data").run():
            pass
        return FileBackedStreamStore(scratch / "data")
