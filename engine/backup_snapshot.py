"""A snapshot of a store's rows, held by another process, and the check of a copy of them.

The snapshot stays the same, whatever a server commits meanwhile, until it is closed. Nothing
here reads a page of LMDB itself: damage kills the other process, and is then reported.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import Signals
from types import TracebackType
from typing import IO, Protocol, Self

import msgspec

from .backup_rows import DAMAGED, EMPTY, SIZE_BYTES, Checked, Head
from .errors import BackupDamaged, OpenError
from .options import MIB, FileStoreOptions

ROWS_FILE = "meta.lmdb/data.mdb"
VERIFY = "`durastream verify` lists all that is damaged"


class NothingStored(OpenError):
    """The directory was made, and nothing was ever written to it."""


class RowsSnapshot(Protocol):
    """Rows as of one moment."""

    head: Head

    def chunks(self) -> Iterator[bytes]:
        """LMDB's file. Comes once. Raises: BackupDamaged, OpenError."""
        ...

    def close(self) -> None: ...


class ProcessSnapshot:
    """The rows in ``directory`` as of now. Raises: BackupDamaged, NothingStored, OpenError."""

    def __init__(self, directory: Path) -> None:
        self._process = _start("send", directory, stdin=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout
        self._directory = directory
        try:
            self.head = self._read_head()
        except BaseException:
            self.close()
            raise

    def _read_head(self) -> Head:
        prefix = self._answers.read(SIZE_BYTES)
        if len(prefix) == SIZE_BYTES:
            raw = self._answers.read(int.from_bytes(prefix, "little"))
            if raw:
                return msgspec.msgpack.decode(raw, type=Head)
        self._commands.close()
        self._require_end()
        raise OpenError(f"{self._directory}: the rows were not sent")

    def chunks(self) -> Iterator[bytes]:
        self._commands.write(b"\n")
        self._commands.close()
        while chunk := self._answers.read(MIB):
            yield chunk
        self._require_end()

    def _require_end(self) -> None:
        _require_success(self._process, self._directory)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        _reap(self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_rows(directory: Path) -> Checked:
    """Check a copy of the rows, which nobody has open. Raises: BackupDamaged, OpenError."""
    process = _start("check", directory, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        answer = process.stdout.read()
        _require_success(process, directory)
        return msgspec.msgpack.decode(answer, type=Checked)
    finally:
        if process.poll() is None:
            process.kill()
        _reap(process)


def _start(what: str, directory: Path, *, stdin: int) -> subprocess.Popen[bytes]:
    program = __name__.replace("backup_snapshot", "backup_rows")
    map_size = FileStoreOptions().lmdb_map_size
    return subprocess.Popen(
        [sys.executable, "-m", program, what, str(directory), str(map_size)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _require_success(process: subprocess.Popen[bytes], directory: Path) -> None:
    assert process.stderr is not None
    said = process.stderr.read().decode(errors="replace").strip()
    status = process.wait()
    if status == 0:
        return
    last = said.splitlines()[-1] if said else f"status {status}"
    where = f"{directory.name}/data.mdb"
    if status < 0:
        last, status = f"reading them ends in {Signals(-status).name}", DAMAGED
    if status == DAMAGED:
        raise BackupDamaged(f"{directory.parent}: the rows ({last})", where, VERIFY)
    if status == EMPTY:
        raise NothingStored(f"{directory.parent}: nothing was ever stored here")
    raise OpenError(f"{directory}: {last}")


def _reap(process: subprocess.Popen[bytes]) -> None:
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
