"""A snapshot of a store's rows, held by another process.

The snapshot stays the same, whatever a server commits meanwhile, until it is closed. Nothing
here reads a page of LMDB itself: damage kills the other process, and is then reported.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from signal import Signals
from typing import IO, Protocol

import msgspec

from .backup_rows import DAMAGED, EMPTY, Head
from .errors import BackupDamaged, OpenError
from .options import MIB, FileStoreOptions

VERIFY = "`durastream verify` lists all that is damaged"


class NothingStored(OpenError):
    """The directory was made, and nothing was ever written to it."""


class RowsSnapshot(Protocol):
    """Rows as of one moment."""

    head: Head

    def chunks(self) -> Iterator[bytes]:
        """All rows, whole. Comes once. Raises: BackupDamaged, OpenError."""
        ...

    def close(self) -> None: ...


class ProcessSnapshot:
    """The rows in ``directory`` as of now. Raises: BackupDamaged, NothingStored, OpenError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process = _start(directory)
        try:
            self.head = self._read_head()
        except BaseException:
            self.close()
            raise

    def _read_head(self) -> Head:
        _, answers, _ = _pipes(self._process)
        prefix = answers.read(4)
        raw = answers.read(int.from_bytes(prefix, "little")) if len(prefix) == 4 else b""
        if not raw:
            self._require_success()
        return msgspec.msgpack.decode(raw, type=Head)

    def chunks(self) -> Iterator[bytes]:
        self._say(b"\n")
        _, answers, _ = _pipes(self._process)
        while chunk := answers.read(MIB):
            yield chunk
        self._require_success()

    def _say(self, command: bytes) -> None:
        commands, _, _ = _pipes(self._process)
        with suppress(BrokenPipeError):  # it died: its status says why
            commands.write(command)
            commands.flush()

    def _require_success(self) -> None:
        """It has ended, and well. Raises: BackupDamaged, NothingStored, OpenError."""
        commands, _, words = _pipes(self._process)
        with suppress(BrokenPipeError):
            commands.close()
        said = words.read()
        status = self._process.wait()
        if status == 0:
            return
        store, where = self._directory.parent, f"{self._directory.name}/data.mdb"
        last = said.decode(errors="replace").strip().rpartition("\n")[2] or f"status {status}"
        if status < 0:
            last, status = f"reading them ends in {Signals(-status).name}", DAMAGED
        if status == DAMAGED:
            raise BackupDamaged(f"{store}: the rows ({last})", where, VERIFY)
        if status == EMPTY:
            raise NothingStored(f"{store}: nothing was ever stored here")
        raise OpenError(f"{self._directory}: {last}")

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in _pipes(self._process):
            with suppress(BrokenPipeError):
                pipe.close()


def _start(directory: Path) -> subprocess.Popen[bytes]:
    program = __name__.replace("backup_snapshot", "backup_rows")
    return subprocess.Popen(
        [sys.executable, "-m", program, str(directory), str(FileStoreOptions().lmdb_map_size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdin, process.stdout, process.stderr
