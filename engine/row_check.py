"""Check every row and the sums of all tables of an environment, in a process of its own.

A damaged page of LMDB can end the process that follows it, and a scrub must not end the server
that it watches over. It reads as a ``Snapshot``, beside the store, and tells what it found as
one line of JSON. What that means is for ``scrub`` to judge.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from signal import Signals

import lmdb
import msgspec

from .errors import Damaged
from .metadata import Metadata
from .metadata_table import TableSum
from .snapshot import Snapshot

TABLES = ("streams", "paths", "producers", "deadlines", "segments")

_NICE = 10
_LOOK = 0.2  # seconds between looks at whether to stop


class DamagedRow(msgspec.Struct, frozen=True):
    table: str
    key: bytes


class RowCheck(msgspec.Struct):
    """What a check found."""

    count: int = 0
    damaged: list[DamagedRow] = []
    hidden: list[str] = []  # damage that does not tell whom it hit


class CheckFailed(Exception):
    """The rows could not be checked, which says nothing about them."""


def check_rows(metadata: Metadata) -> RowCheck:
    """Every row of all tables; ``metadata`` must not change meanwhile."""
    found = RowCheck()
    for table in TABLES:
        try:
            _check_table(metadata, table, found)
        except lmdb.Error as error:
            found.hidden.append(f"table {table}: {error}")
    return found


def _check_table(metadata: Metadata, table: str, found: RowCheck) -> None:
    count = total = 0
    damaged: list[DamagedRow] = []
    for row in metadata.scan(table):
        count += 1
        total += row.checksum
        if not row.is_whole:
            damaged.append(DamagedRow(table, row.key))
    found.count += count
    found.damaged += damaged
    expected = metadata.recorded_sum(table)
    # A row's own damage can be in the checksum that is summed: then the row tells whom it hit.
    if count != expected.count or (
        not damaged and TableSum(count, total & (2**64 - 1)) != expected
    ):
        found.hidden.append(f"table {table}: {count} rows where {expected.count} were written")


def check_beside(directory: Path, map_size: int, stop: threading.Event) -> RowCheck | None:
    """``check_rows`` by a process of its own; None if ``stop`` was set meanwhile.

    Raises: CheckFailed.
    """
    command = [sys.executable, "-m", __name__, os.fspath(directory), str(map_size)]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise CheckFailed(f"{sys.executable}: {error.strerror}") from error
    with process:
        while True:
            try:
                answer, said = process.communicate(timeout=_LOOK)
                break
            except subprocess.TimeoutExpired:
                if stop.is_set():
                    process.kill()
                    return None
    if process.returncode < 0:
        name = Signals(-process.returncode).name
        if name in ("SIGBUS", "SIGSEGV", "SIGABRT"):
            return RowCheck(hidden=[f"LMDB's pages: reading them ends in {name}"])
        raise CheckFailed(f"it was ended by {name}")
    if process.returncode > 0:
        lines = said.decode(errors="replace").splitlines() or ["no answer"]
        raise CheckFailed(lines[-1])
    return msgspec.json.decode(answer, type=RowCheck)


def _main(directory: str, map_size: int) -> None:
    os.nice(_NICE)
    try:
        metadata = Snapshot(Path(directory), map_size=map_size)
    except Damaged as damage:
        found = RowCheck(hidden=[damage.what])
    else:
        found = check_rows(metadata)
        metadata.close()
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
