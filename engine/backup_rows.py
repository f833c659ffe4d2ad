"""Send all rows of an LMDB environment as of one commit, checked: run in a process of its own.

LMDB believes its pages, and damage may kill who reads them: so this process does, never the one
that makes the backup. While it sends, its entry in LMDB's table of readers keeps the pages of
its snapshot from being used again; a server may have the environment open. It changes nothing
but that table. Format of what it sends: docs/format-backup.md, "Rows".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

import lmdb
import msgspec

from .errors import Damaged
from .metadata import Checkpoint, Identity, SegmentEntry
from .metadata_table import Table, TableSum, trailer
from .options import KIB

# What the exit status means, besides 0 and death by a signal.
DAMAGED, EMPTY, FAILED = 3, 4, 5

TABLES = ("paths", "streams", "producers", "deadlines", "segments")
_BATCH_SIZE = 64 * KIB  # bytes of rows, about
_U64 = (1 << 64) - 1

encode = msgspec.msgpack.Encoder().encode


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What the snapshot says of the other files."""

    checkpoint: Checkpoint
    segments: list[SegmentEntry]
    size: int  # bytes of LMDB's file in use: the rows are at most so many
    stream_count: int


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """Some rows of a table, in the order of their keys."""

    table: str
    rows: list[tuple[bytes, bytes]]  # keys and values, without checksums


def framed(value: msgspec.Struct) -> bytes:
    """A value with its size before it, as a 32-bit integer."""
    raw = encode(value)
    return len(raw).to_bytes(4, "little") + raw


def send(directory: str, map_size: int, commands: BinaryIO, answers: BinaryIO) -> None:
    """Answer with a ``Head``; at a byte in ``commands``, with all rows as ``Batch``es.

    Raises: lmdb.Error, Damaged.
    """
    with lmdb.open(
        directory, map_size=map_size, max_dbs=16, max_readers=512, readonly=True, create=False
    ) as env:
        env.reader_check()  # one that was killed must not keep pages for ever
        info = Table(env, "info")
        tables = [Table(env, name) for name in TABLES]
        size = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        with env.begin() as txn:
            _require_newest(info, txn)
            raw = info.get(txn, b"checkpoint")
            if raw is None:
                raise lmdb.NotFoundError("no checkpoint")
            sums = _load_sums(info, txn)
            answers.write(framed(_head(raw, tables[-1], txn, size, sums)))
            answers.flush()
            if not commands.read(1):
                return
            answers.write(framed(Batch("info", [(b"checkpoint", raw)])))
            for table in tables:
                for batch in _batches(table, txn, sums.get(table.name, TableSum())):
                    answers.write(framed(batch))
            answers.flush()


def _require_newest(info: Table, txn: lmdb.Transaction) -> None:
    """A damaged meta page can lead to an older commit, whose rows are all whole."""
    raw = info.get(txn, b"identity")
    if raw is not None and (found := msgspec.msgpack.decode(raw, type=Identity).txn_id) != txn.id():
        what = f"LMDB's meta page names commit {txn.id()}, its rows are of {found}"
        raise Damaged(what, "meta.lmdb")


def _load_sums(info: Table, txn: lmdb.Transaction) -> dict[str, TableSum]:
    raw = info.get(txn, b"sums")
    return {} if raw is None else msgspec.msgpack.decode(raw, type=dict[str, TableSum])


def _head(
    checkpoint: bytes, segments: Table, txn: lmdb.Transaction, size: int, sums: dict[str, TableSum]
) -> Head:
    listed = [msgspec.msgpack.decode(value, type=SegmentEntry) for _, value in segments.scan(txn)]
    stream_count = sums.get("streams", TableSum()).count
    return Head(msgspec.msgpack.decode(checkpoint, type=Checkpoint), listed, size, stream_count)


def _batches(table: Table, txn: lmdb.Transaction, expected: TableSum) -> Iterator[Batch]:
    """All rows of a table. Raises: Damaged if one is, or if they are not those written."""
    rows: list[tuple[bytes, bytes]] = []
    count = total = size = 0
    for key, stored in table.scan_stored(txn):
        if not table.is_whole(key, stored):
            raise Damaged(f"row {key!r} of table {table.name}", "meta.lmdb")
        count += 1
        total += trailer(stored)
        rows.append((key, stored[:-8]))
        size += len(key) + len(stored)
        if size >= _BATCH_SIZE:
            yield Batch(table.name, rows)
            rows, size = [], 0
    if (count, total & _U64) != (expected.count, expected.total):
        what = f"table {table.name}: {count} rows where {expected.count} were written"
        raise Damaged(what, "meta.lmdb")
    if rows:
        yield Batch(table.name, rows)


def main(directory: str, map_size: int) -> int:
    """Returns the exit status; if it is not 0, stderr says why in words."""
    try:
        send(directory, map_size, sys.stdin.buffer, sys.stdout.buffer)
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
