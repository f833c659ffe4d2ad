"""Read every row of an LMDB environment: run in a process of its own, which damage may kill.

LMDB believes its pages. A flipped bit in one can send it beyond the file's end, and then the
process dies with a signal: ``offline`` runs this first, and looks for itself only if it lives.
It must never write, and says nothing: what is wrong with rows is found by who asked.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from signal import Signals

import lmdb


def read_all(directory: str, map_size: int, *, in_use: bool) -> None:
    """Touch all there is. Raises: lmdb.Error."""
    with lmdb.open(
        directory, map_size=map_size, max_dbs=16, readonly=True, lock=in_use, create=False
    ) as env:
        with env.begin() as txn, txn.cursor() as cursor:
            names = [bytes(key) for key, _ in cursor]
        for name in names:
            table = env.open_db(name, create=False)
            with env.begin() as txn, txn.cursor(table) as cursor:
                for key, stored in cursor:
                    hash((key, stored))


def deadly_signal(directory: Path, map_size: int, *, in_use: bool = False) -> str | None:
    """The name of the signal that reading the rows ends with; None if it ends well.

    Args:
        in_use: a store has them open, and goes on writing.
    """
    command = [sys.executable, "-m", __name__, str(directory), str(map_size), str(int(in_use))]
    code = subprocess.run(command, check=False, capture_output=True).returncode
    return Signals(-code).name if code < 0 else None


if __name__ == "__main__":
    with suppress(lmdb.Error):
        read_all(sys.argv[1], int(sys.argv[2]), in_use=sys.argv[3] == "1")
