"""Send a consistent copy of an LMDB environment, and check it: run in a process of its own.

LMDB believes its pages, and damage may kill who reads them: so this process does, never the one
that makes the backup. While it sends, its entry in LMDB's table of readers keeps the pages of
its snapshot from being used again; a server may have the environment open. It changes nothing
but that table.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

import lmdb
import msgspec

from .errors import Damaged
from .metadata import Checkpoint, Metadata, SegmentEntry, Table

# What the exit status means, besides 0 and death by a signal.
DAMAGED, EMPTY, FAILED = 3, 4, 5
SIZE_BYTES = 8


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What the snapshot says of the other files."""

    checkpoint: Checkpoint
    segments: list[SegmentEntry]
    size: int  # bytes of LMDB's file in use


class Checked(msgspec.Struct, frozen=True, array_like=True):
    """What a copy holds, all of it whole."""

    checkpoint: Checkpoint
    stream_count: int


def send(directory: str, map_size: int, commands: BinaryIO, answers: BinaryIO) -> None:
    """Answer with a ``Head`` and its size before it; at a byte in ``commands``, with the file.

    Raises: lmdb.Error, Damaged.
    """
    with lmdb.open(
        directory, map_size=map_size, max_dbs=16, max_readers=512, readonly=True, create=False
    ) as env:
        env.reader_check()  # one that was killed must not keep pages for ever
        info, segments = Table(env, "info"), Table(env, "segments")
        with env.begin() as txn:
            checkpoint = info.get(txn, b"checkpoint")
            if checkpoint is None:
                raise lmdb.NotFoundError("no checkpoint")
            head = Head(
                msgspec.msgpack.decode(checkpoint, type=Checkpoint),
                [
                    msgspec.msgpack.decode(value, type=SegmentEntry)
                    for _, value in segments.scan(txn)
                ],
                (env.info()["last_pgno"] + 1) * env.stat()["psize"],
            )
            raw = msgspec.msgpack.encode(head)
            answers.write(len(raw).to_bytes(SIZE_BYTES, "little") + raw)
            answers.flush()
            if commands.read(1):
                env.copyfd(answers.fileno(), compact=True, txn=txn)


def check(directory: str, map_size: int) -> Checked:
    """Check every row of a copy and the sums of all tables. Raises: as ``send``."""
    metadata = Metadata(Path(directory), map_size=map_size, read_only=True)
    try:
        metadata.verify()
        checkpoint = metadata.checkpoint()
        assert checkpoint is not None, "it was sent, so it has one"
        return Checked(checkpoint, metadata.recorded_sum("streams").count)
    finally:
        metadata.close()


def main(directory: str, map_size: int) -> int:
    """Send, close stdout, read where the copy is from stdin, check it, answer on stderr.

    Returns the exit status; if it is not 0, stderr says why in words.
    """
    commands = sys.stdin.buffer
    try:
        send(directory, map_size, commands, sys.stdout.buffer)
        os.close(sys.stdout.fileno())  # the end of the file
        if copy := os.fsdecode(commands.readline().strip(b"\n")):
            os.write(sys.stderr.fileno(), msgspec.msgpack.encode(check(copy, map_size)))
    except (lmdb.NotFoundError, lmdb.ReadonlyError) as error:
        return _end(str(error), EMPTY)
    except Damaged as error:
        return _end(error.what, DAMAGED)
    except (lmdb.CorruptedError, lmdb.PageNotFoundError, msgspec.DecodeError) as error:
        return _end(str(error), DAMAGED)
    except (lmdb.Error, OSError) as error:
        return _end(str(error), FAILED)
    return 0


def _end(message: str, status: int) -> int:
    print(message, file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    # Not through the interpreter's end: stdout may be a pipe that nobody reads any more.
    os._exit(main(sys.argv[1], int(sys.argv[2])))
