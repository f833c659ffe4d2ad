"""Back up, check and restore in one call each; and what a store shows, to compare."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec

from durastream.engine import backup_rows
from durastream.engine.backup import Backup, BackupResult
from durastream.engine.backup_check import BackupCheck, BackupReport
from durastream.engine.restore import Restore
from durastream.engine.store import Store
from durastream.engine.verify import Verification

MAP_SIZE = 256 * 1024 * 1024


def back_up(source: Path, target: Path, **options: Any) -> BackupResult:
    work = Backup(source, target, **options)
    done = sum(work.run())
    assert work.result is not None
    assert 0 < done <= work.total_size
    return work.result


def check(target: Path, **options: Any) -> BackupReport:
    work = BackupCheck(target, **options)
    assert sum(work.run()) <= work.total_size
    return work.report


def restore(target: Path, directory: Path, point: str | None = None, **options: Any) -> Restore:
    work = Restore(target, directory, point, **options)
    assert sum(work.run()) == work.total_size
    return work


def verified(directory: Path) -> None:
    """The directory as it lies must be whole."""
    work = Verification(directory)
    for _ in work.run():
        pass
    assert not work.report.findings


def shown(store: Store) -> dict[str, Any]:
    """Everything that readers see, by path."""
    found = {}
    for path in store.list():
        stream = store.get(path)
        assert stream is not None
        fixed = {name: getattr(stream, name) for name in ("content_type", "closed", "last_seq")}
        found[path] = {**fixed, "tail": stream.current_offset, "bytes": bytes(store.read(path))}
    return found


class LocalSnapshot:
    """The rows of a store that nobody has open, read in this process, which is quick."""

    def __init__(self, directory: Path) -> None:
        answers = BytesIO()
        backup_rows.send(str(directory), MAP_SIZE, BytesIO(b"\n"), answers)
        raw = answers.getvalue()
        end = 4 + int.from_bytes(raw[:4], "little")
        self.head = msgspec.msgpack.decode(raw[4:end], type=backup_rows.Head)
        self._rows = raw[end:]

    def chunks(self) -> Iterator[bytes]:
        for start in range(0, len(self._rows), 300):
            yield self._rows[start : start + 300]

    def close(self) -> None:
        pass
